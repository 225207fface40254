#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# Train on texts alone with SimCSE. Every value can be set from the environment; flags are passed on.
# TEST_SET_FILE='' trains without evaluation.
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-simcse_log}
extra=()
test_set=${TEST_SET_FILE-$(data_file dev.csv)}
[ -z "$test_set" ] || extra+=(--test_set_file "$test_set" --eval_steps "${EVAL_STEPS:-100}")
launch train_simcse.py \
    --device "${DEVICE:-auto}" \
    --save_dir "${SAVE_DIR:-./checkpoints/simcse}" \
    --batch_size "${BATCH_SIZE:-64}" \
    --learning_rate "${LEARNING_RATE:-5E-5}" \
    --epochs "${EPOCHS:-3}" \
    --save_steps "${SAVE_STEPS:-2000}" \
    --max_seq_length "${MAX_SEQ_LENGTH:-64}" \
    --infer_with_fc_pooler \
    --dropout "${DROPOUT:-0.2}" \
    --output_emb_size "${OUTPUT_EMB_SIZE:-256}" \
    --train_set_file "${TRAIN_SET_FILE:-recall/train_unsupervised.csv}" \
    --model_name_or_path "${MODEL_NAME_OR_PATH:-rocketqa-zh-base-query-encoder}" \
    "${extra[@]}" "$@"
