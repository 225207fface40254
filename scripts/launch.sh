# shellcheck shell=bash
# Sourced by the other scripts: `launch SCRIPT FLAGS` starts one process or several and prints what it runs.
# GPUS="0,1" uses these cards; NPROC=2 starts that many processes without cards; PYTHON names the interpreter.
set -euo pipefail
# Paths are the caller's: relative ones start from where the script was called.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
[ -x "$PYTHON" ] || command -v "$PYTHON" >/dev/null || { echo "error: no $PYTHON; bash scripts/setup.sh makes it" >&2; exit 2; }

launch() {
    local script=$1
    shift
    local command=("$PYTHON" -u)
    if [ -n "${GPUS:-}" ]; then
        command+=(-m paddle.distributed.launch --gpus "$GPUS" --log_dir "${LOG_DIR:-log}")
    elif [ "${NPROC:-1}" -gt 1 ]; then
        command+=(-m paddle.distributed.launch --nproc_per_node "$NPROC" --log_dir "${LOG_DIR:-log}")
    fi
    printf '+'; printf ' %q' "${command[@]}" "$ROOT/$script" "$@"; echo
    "${command[@]}" "$ROOT/$script" "$@"
}
