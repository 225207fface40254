#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# Vectors and similarities of a sample from MODEL_DIR; flags are passed on: bash deploy.sh --text 你好
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-$HERE/../../.venv/bin/python}
command -v "$PYTHON" >/dev/null || PYTHON=python
"$PYTHON" "$HERE/predict.py" --model_dir "${MODEL_DIR:-./output}" "$@"
