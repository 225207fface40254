#!/usr/bin/env bash
# Make the lock in requirements/ anew from pyproject.toml. Versions that are locked stay; bash scripts/lock.sh --upgrade
# takes the newest. Needs a .venv (scripts/setup.sh) or uv on the PATH.
# One file holds all Pythons, platforms and extras; markers say what is for which. setup.sh installs a part of it: uv
# takes the file as constraints and the hashes with it (-r pyproject.toml --extra onnx -c requirements/lock.txt
# --require-hashes). With a file for each extra, two of them could come to disagree. Not uv.lock or pylock.toml: both
# write the index's addresses into the file, and mirrors differ from place to place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv
common=(--universal --python-version 3.10 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -q)
"$uv" pip compile pyproject.toml --all-extras "${common[@]}" "$@" --output-file requirements/lock.txt
echo "uv==$("$uv" --version | cut -d' ' -f2)" | "$uv" pip compile - "${common[@]}" --output-file requirements/uv.txt
