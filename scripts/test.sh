#!/usr/bin/env bash
# Install what tests need, then lint, check types, test. Arguments go to pytest: bash scripts/test.sh -k tokenizer
#   bash scripts/test.sh --all-pythons     the fast tests and a short quickstart on each of 3.10 to 3.12 that is found
#   bash scripts/test.sh --other-pythons   the same without the Python of .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
    --all-pythons | --other-pythons) exec bash scripts/test_pythons.sh "$@" ;;
esac
# Not byte-compiled: only what is imported is worth it, and Python keeps that by itself.
unset PYTHONDONTWRITEBYTECODE
COMPILE=no bash scripts/setup.sh --test
# The tests of pages need a browser; without one they skip, and say so.
if ! command -v chromedriver >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "+ apt-get install chromium chromium-driver"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium \
        chromium-driver; } >/dev/null || echo "warning: no browser could be installed; the tests of pages will skip" >&2
fi
export PATH="$PWD/${VENV:-.venv}/bin:$PATH"
echo "+ ruff check ."
ruff check .
echo "+ mypy"
venv=${VENV:-.venv}
if [ ! "$venv/.imported" -nt "$venv/.installed" ]; then
    # Meanwhile, on the other core, what the tests import in a new environment is compiled, once for all their processes.
    { python -c 'import sys; sys.path[:0] = [".", "tests"]; import fork_server; fork_server.import_libraries()' &&
        python -m pytest --collect-only -q && touch "$venv/.imported"; } >/dev/null 2>&1 &
fi
mypy --no-error-summary --explicit-package-bases ./*.py semindex models training benchmarks deploy
wait
echo "+ pytest"
# Three at a time on two cores: a test is mostly a script on one thread that now and then waits. Who is done takes over.
exec python -m pytest --numprocesses "${TEST_PROCESSES:-3}" --dist worksteal "$@"
