#!/usr/bin/env bash
# test.sh --all-pythons and --other-pythons call it: the fast tests and a short quickstart on each Python that is found,
# two Pythons at a time, a thread each. What follows the flag goes to pytest. Logs: output/pythons/3.12.log
# INSTALL_ONLY=yes makes the environments and stops there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/pythons.sh
source scripts/pythons.sh
unset PYTHON VENV PYTHONDONTWRITEBYTECODE
others=no
[ "$1" != --other-pythons ] || others=yes
shift
logs=output/pythons
mkdir -p $logs
own=$(version_of .venv/bin/python)

try() { # VERSION PYTHON VENV: one Python; its last line is the summary
    local began=$SECONDS passed
    export VENV=$3 OMP_NUM_THREADS=1
    PYTHON=$2 COMPILE=no bash scripts/setup.sh --test || return
    local installed=$SECONDS
    if [ "${INSTALL_ONLY:-no}" = yes ]; then
        echo "Python $1: installed in $VENV ($((installed - began)) s)"
        return
    fi
    # Without xdist: one process. Caches apart, since another Python runs beside it.
    "$VENV/bin/python" -m pytest -p no:cacheprovider -m "not slow" "${@:4}" || return
    local tested=$SECONDS
    ENCODER=scratch-1x256 EPOCHS=1 OUT=$logs/$1 bash scripts/quickstart.sh || return
    passed=$(grep -oE '[0-9]+ passed' "$logs/$1.log" | tail -1)
    echo "Python $1: ok in $VENV ($passed; installation $((installed - began)) s, tests $((tested - installed)) s," \
        "quickstart $((SECONDS - tested)) s)"
}

failed=0 running=()
finish() { # wait for the one started first
    local version=${running[0]%:*}
    if wait "${running[0]#*:}"; then
        tail -n 1 "$logs/$version.log"
    else
        failed=1
        tail -n 40 "$logs/$version.log"
        echo "Python $version: FAILED, the end of $logs/$version.log stands above"
    fi
    running=("${running[@]:1}")
}
for version in "${PYTHONS[@]}"; do
    if [ "$version" = "$own" ]; then
        [ $others = no ] || continue
        venv=.venv python=.venv/bin/python
    elif python=$(find_python "$version"); then
        venv=.venv-$version
    else
        echo "Python $version: not found with venv and headers, left out"
        continue
    fi
    [ ${#running[@]} -lt 2 ] || finish
    try "$version" "$python" "$venv" "$@" >"$logs/$version.log" 2>&1 &
    running+=("$version:$!")
done
while [ ${#running[@]} -gt 0 ]; do finish; done
exit $failed
