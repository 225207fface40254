#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the documents say sh
# ANCE from the checkpoint of a warm-up. REFRESH=sync makes the negatives itself; with REFRESH=async start
# scripts/run_ann_data_gen.sh beside it, with the same SAVE_DIR (and ANN_DIR, DATA_DIR). The data as in
# scripts/run_train_warmup.sh, or DATA_DIR alone: what prepare_collection.py made.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-ance_log}
# shellcheck source=scripts/ance_data.sh
source "$ROOT/scripts/ance_data.sh"
[ -z "${ANN_DIR:-}" ] || data+=(--ann_dir "$ANN_DIR")
launch train_ance.py \
    --device "${DEVICE:-auto}" \
    --save_dir "${SAVE_DIR:-./checkpoints/ance}" \
    --init_from_ckpt "${INIT_FROM_CKPT:-./checkpoints/ance_warmup/latest}" \
    --batch_size "${BATCH_SIZE:-8}" \
    --learning_rate "${LEARNING_RATE:-1E-6}" \
    --optimizer "${OPTIMIZER:-lamb}" \
    --epochs "${EPOCHS:-10}" \
    --refresh "${REFRESH:-async}" \
    --refresh_steps "${REFRESH_STEPS:-10000}" \
    --topk_training "${TOPK_TRAINING:-200}" \
    --negative_sample "${NEGATIVE_SAMPLE:-20}" \
    "${data[@]}" "$@"
