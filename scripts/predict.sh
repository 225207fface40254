#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# The cosine of each pair of a file, by the newest training below checkpoints/ or PARAMS_PATH. Every value can be set
# from the environment; flags are passed on.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-predict_log}
params_path=${PARAMS_PATH:-$(newest_training)}
launch predict.py \
    --device "${DEVICE:-auto}" \
    --params_path "$params_path" \
    --batch_size "${BATCH_SIZE:-128}" \
    --text_pair_file "${TEXT_PAIR_FILE:-$(data_file test.csv)}" \
    "$@"
