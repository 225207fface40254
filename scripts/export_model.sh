#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# Export the newest training below checkpoints/, or PARAMS_PATH, for serving. Every value can be set from the
# environment; flags are passed on:
#   bash scripts/export_model.sh --format onnx int8
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
params_path=${PARAMS_PATH:-$(newest_training)}
GPUS='' NPROC=1 launch export_model.py \
    --params_path "$params_path" \
    --output_path "${OUTPUT_PATH:-./output}" \
    "$@"
