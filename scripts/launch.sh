# shellcheck shell=bash
# Sourced by the other scripts: `launch SCRIPT FLAGS` starts one process or several and prints what it runs.
# GPUS="0,1" uses these cards; NPROC=2 starts that many processes without cards; PYTHON names the interpreter.
set -euo pipefail
# Paths are the caller's: relative ones start from where the script was called.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
[ -x "$PYTHON" ] || command -v "$PYTHON" >/dev/null || { echo "error: no $PYTHON; bash scripts/setup.sh makes it" >&2; exit 2; }

# The newest training below checkpoints/: the `latest` link that was set last.
newest_training() {
    local found
    found=$(find checkpoints/ -name latest -xtype d -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1) || true
    if [ -z "$found" ]; then
        echo "error: no training below $PWD/checkpoints; train first, or name a checkpoint with PARAMS_PATH" >&2
        return 2
    fi
    echo "${found#* }"
}

# A file of the data: below recall/, as in the literature data set, or below data/, where split_data.py writes.
data_file() {
    if [ ! -e "recall/$1" ] && [ -e "data/$1" ]; then echo "data/$1"; else echo "recall/$1"; fi
}

launch() {
    local script=$1
    shift
    local command=("$PYTHON" -u)
    if [ -n "${GPUS:-}" ]; then
        # Paddle's launcher ends in a traceback there. The package's name tells a CPU build without importing paddle.
        "$PYTHON" -c 'from importlib.metadata import distributions
names = {d.metadata["Name"].lower() for d in distributions(name="paddlepaddle")}
names |= {d.metadata["Name"].lower() for d in distributions(name="paddlepaddle-gpu")}
raise SystemExit(names == {"paddlepaddle"})' || {
            echo "error: GPUS=$GPUS: the installed paddle is a CPU build; bash scripts/setup.sh --gpu installs the other," \
                "or leave GPUS out (NPROC=2 starts two processes)" >&2
            exit 2
        }
        command+=(-m paddle.distributed.launch --gpus "$GPUS" --log_dir "${LOG_DIR:-log}")
    elif [ "${NPROC:-1}" -gt 1 ]; then
        command+=(-m paddle.distributed.launch --nproc_per_node "$NPROC" --log_dir "${LOG_DIR:-log}")
    fi
    printf '+'; printf ' %q' "${command[@]}" "$ROOT/$script" "$@"; echo
    "${command[@]}" "$ROOT/$script" "$@"
}
