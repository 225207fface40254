#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the documents say sh
# The job beside scripts/run_train.sh: negatives from its newest checkpoint, until it ends. On cards of its own:
# GPUS="4,5,6,7" bash scripts/run_ann_data_gen.sh
# INIT_MODEL_DIR: the checkpoint that the training is to start from; DATA_DIR, ANN_DIR: as the training was told.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-ann_log}
extra=()
[ -z "${INIT_MODEL_DIR:-}" ] || extra+=(--init_model_dir "$INIT_MODEL_DIR")
[ -z "${DATA_DIR:-}" ] || extra+=(--data_dir "$DATA_DIR")
[ -z "${ANN_DIR:-}" ] || extra+=(--ann_dir "$ANN_DIR")
launch run_ann_data_gen.py \
    --device "${DEVICE:-auto}" \
    --training_dir "${SAVE_DIR:-./checkpoints/ance}" \
    --topk_training "${TOPK_TRAINING:-200}" \
    --negative_sample "${NEGATIVE_SAMPLE:-20}" \
    "${extra[@]}" "$@"
