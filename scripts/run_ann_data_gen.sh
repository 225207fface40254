#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the documents say sh
# The job beside scripts/run_train.sh: negatives from its newest checkpoint, until it ends. On cards of its own:
# GPUS="4,5,6,7" bash scripts/run_ann_data_gen.sh
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-ann_log}
launch run_ann_data_gen.py \
    --device "${DEVICE:-auto}" \
    --training_dir "${SAVE_DIR:-./checkpoints/ance}" \
    --topk_training "${TOPK_TRAINING:-200}" \
    --negative_sample "${NEGATIVE_SAMPLE:-20}" \
    "$@"
