#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# Recall@1/5/10/20/50 of a result file. Every value can be set from the environment.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
GPUS='' NPROC=1 launch evaluate.py \
    --similar_text_pair "${SIMILAR_TEXT_PAIR:-$(data_file dev.csv)}" \
    --recall_result_file "${RECALL_RESULT_DIR:-recall_result_dir}/${RECALL_RESULT_FILE:-recall_result.txt}" \
    --recall_num "${RECALL_NUM:-50}" \
    "$@"
