#!/usr/bin/env bash
# Make the locks in requirements/ anew from pyproject.toml. Needs a .venv (scripts/setup.sh) or uv on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv
common=(--python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --quiet)
"$uv" pip compile pyproject.toml "${common[@]}" --output-file requirements/main.txt
"$uv" pip compile pyproject.toml --extra onnx --constraints requirements/main.txt "${common[@]}" \
    --output-file requirements/onnx.txt
"$uv" pip compile pyproject.toml --extra test --constraints requirements/main.txt "${common[@]}" \
    --output-file requirements/test.txt
echo "uv==$("$uv" --version | cut -d' ' -f2)" | "$uv" pip compile - "${common[@]}" --output-file requirements/uv.txt
