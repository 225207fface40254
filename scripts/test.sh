#!/usr/bin/env bash
# Install what tests need, then lint, check types, test. Arguments go to pytest: bash scripts/test.sh -k tokenizer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh --test
export PATH="$PWD/.venv/bin:$PATH"
echo "+ ruff check ."
ruff check .
echo "+ mypy"
mypy --no-error-summary --explicit-package-bases ./*.py semindex models training benchmarks deploy
echo "+ pytest"
# Two at a time: most of a test is a script that computes on one thread. The one that is done first takes from the other.
exec python -m pytest --numprocesses "${TEST_PROCESSES:-2}" --dist worksteal "$@"
