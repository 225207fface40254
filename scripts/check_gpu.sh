#!/usr/bin/env bash
# What the cards of this box compute, beside one process, fp32 and the CPU: a table of what agreed and how fast.
#   bash scripts/check_gpu.sh                              one card or several; the quickstart first
#   bash scripts/check_gpu.sh --without quickstart         minutes less
#   bash scripts/check_gpu.sh --device cpu                 the same over gloo, on a box without cards
# Flags go to benchmarks/check_gpu.py (--help lists them). Ends with 1 where something does not agree.
set -euo pipefail
PYTHON=${PYTHON:-$(dirname "${BASH_SOURCE[0]}")/../${VENV:-.venv}/bin/python}
[ -x "$PYTHON" ] || { echo "error: no $PYTHON; bash scripts/setup.sh makes it (--gpu with the GPU build)" >&2; exit 2; }
exec "$PYTHON" "$(dirname "${BASH_SOURCE[0]}")/../benchmarks/check_gpu.py" "$@"
