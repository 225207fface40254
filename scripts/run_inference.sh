#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the documents say sh
# The vectors of all passages and queries of a training's collection, with their ids, by its newest checkpoint.
# DATA_DIR: as the training was told. INIT_MODEL_DIR: a checkpoint for where the training has none.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-inference_log}
extra=()
[ -z "${INIT_MODEL_DIR:-}" ] || extra+=(--init_model_dir "$INIT_MODEL_DIR")
[ -z "${DATA_DIR:-}" ] || extra+=(--data_dir "$DATA_DIR")
launch run_ann_data_gen.py \
    --device "${DEVICE:-auto}" \
    --training_dir "${SAVE_DIR:-./checkpoints/ance}" \
    --inference \
    --output_dir "${OUTPUT_DIR:-./vectors}" \
    "${extra[@]}" "$@"
