#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# Build the index of the corpus (or use the one in INDEX_DIR) and recall RECALL_NUM texts a query, with the newest
# training below checkpoints/ or PARAMS_PATH.
# Every value can be set from the environment; flags given on the command line are passed on.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-recall_log}
params_path=${PARAMS_PATH:-$(newest_training)}
extra=()
[ -z "${INDEX_DIR:-}" ] || extra+=(--index_dir "$INDEX_DIR")
launch recall.py \
    --device "${DEVICE:-auto}" \
    --recall_result_dir "${RECALL_RESULT_DIR:-recall_result_dir}" \
    --recall_result_file "${RECALL_RESULT_FILE:-recall_result.txt}" \
    --params_path "$params_path" \
    --batch_size "${BATCH_SIZE:-64}" \
    --recall_num "${RECALL_NUM:-50}" \
    --similar_text_pair "${SIMILAR_TEXT_PAIR:-$(data_file dev.csv)}" \
    --corpus_file "${CORPUS_FILE:-$(data_file corpus.csv)}" \
    "${extra[@]}" "$@"
