#!/usr/bin/env bash
# Make the lock in requirements/ anew from pyproject.toml; what is locked stays, `bash scripts/lock.sh --upgrade` takes the
# newest. Needs a .venv (scripts/setup.sh) or uv on the PATH.
# One file for all Pythons, platforms and extras: its markers say what is for which. setup.sh installs a part of it, since
# uv takes a lock as constraints and its hashes with it (-r pyproject.toml --extra onnx -c requirements/lock.txt
# --require-hashes): a part locked in a file of its own could come to disagree with the others. No uv.lock and no pylock.toml:
# both write the addresses of the index into the file, and mirrors differ from place to place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv
common=(--universal --python-version 3.10 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --quiet)
"$uv" pip compile pyproject.toml --all-extras "${common[@]}" "$@" --output-file requirements/lock.txt
echo "uv==$("$uv" --version | cut -d' ' -f2)" | "$uv" pip compile - "${common[@]}" --output-file requirements/uv.txt
