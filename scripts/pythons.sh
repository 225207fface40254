# shellcheck shell=bash
# Sourced by setup.sh and test.sh: which Pythons the project runs on, and where one of them is.
PYTHONS=(3.11 3.12 3.10) # the one most tested comes first

# find_python 3.12: print the path of one that runs and has venv and headers. A candidate is tried: pyenv's shims, for
# example, are on the PATH and do not run unless their version is chosen.
find_python() {
    local candidate
    for candidate in "python$1" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python3; do
        if "$candidate" -c 'import ensurepip, os, sys, sysconfig
fits = "%d.%d" % sys.version_info[:2] == sys.argv[1]
sys.exit(not (fits and os.path.isfile(sysconfig.get_paths()["include"] + "/Python.h")))' "$1" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

version_of() { # PYTHON: print 3.12, or nothing if it does not run
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}
