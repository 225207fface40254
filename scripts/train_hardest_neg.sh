#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# Train with the hardest negatives of the batch. Every value can be set from the environment; NEGATIVES=random is the
# recipe's Baseline. Flags given on the command line are passed on.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-hardest_log}
launch train_hardest_neg.py \
    --device "${DEVICE:-auto}" \
    --save_dir "${SAVE_DIR:-./checkpoints/hardest}" \
    --batch_size "${BATCH_SIZE:-64}" \
    --learning_rate "${LEARNING_RATE:-5E-5}" \
    --epochs "${EPOCHS:-3}" \
    --output_emb_size "${OUTPUT_EMB_SIZE:-256}" \
    --model_name_or_path "${MODEL_NAME_OR_PATH:-rocketqa-zh-base-query-encoder}" \
    --save_steps "${SAVE_STEPS:-500}" \
    --max_seq_length "${MAX_SEQ_LENGTH:-64}" \
    --margin "${MARGIN:-0.2}" \
    --negatives "${NEGATIVES:-hardest}" \
    --train_set_file "${TRAIN_SET_FILE:-semantic_pair_train.tsv}" \
    "$@"
