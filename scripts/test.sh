#!/usr/bin/env bash
# Install what tests need, then lint, check types, test. Arguments go to pytest: bash scripts/test.sh -k tokenizer
#   bash scripts/test.sh --all-pythons     the fast tests and a short quickstart on each of 3.10 to 3.12 that is found
#   bash scripts/test.sh --other-pythons   the same without the Python of .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
    --all-pythons | --other-pythons) exec bash scripts/test_pythons.sh "$@" ;;
esac
bash scripts/setup.sh --test
export PATH="$PWD/${VENV:-.venv}/bin:$PATH"
echo "+ ruff check ."
ruff check .
echo "+ mypy"
mypy --no-error-summary --explicit-package-bases ./*.py semindex models training benchmarks deploy
echo "+ pytest"
# Two at a time: most of a test is a script that computes on one thread. The one that is done first takes from the other.
exec python -m pytest --numprocesses "${TEST_PROCESSES:-2}" --dist worksteal "$@"
