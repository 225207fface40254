#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the documents say sh
# The warm-up of ANCE: negatives of keyword search (WARMUP=bm25) or the batch's alone (WARMUP=in_batch), never refreshed.
# Pairs: TRAIN_SET_FILE=train.csv; a collection in TREC's form: CORPUS_FILE=corpus.tsv QUERIES_FILE=queries.tsv
# QRELS_FILE=qrels. Flags given on the command line are passed on: bash scripts/run_train_warmup.sh --resume
# shellcheck source=scripts/launch.sh
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
LOG_DIR=${LOG_DIR:-warmup_log}
# shellcheck source=scripts/ance_data.sh
source "$ROOT/scripts/ance_data.sh"
launch train_ance.py \
    --device "${DEVICE:-auto}" \
    --save_dir "${SAVE_DIR:-./checkpoints/ance_warmup}" \
    --batch_size "${BATCH_SIZE:-32}" \
    --learning_rate "${LEARNING_RATE:-2E-4}" \
    --optimizer "${OPTIMIZER:-lamb}" \
    --epochs "${EPOCHS:-2}" \
    --model_name_or_path "${MODEL_NAME_OR_PATH:-rocketqa-zh-base-query-encoder}" \
    --max_seq_length "${MAX_SEQ_LENGTH:-128}" \
    --warmup "${WARMUP:-bm25}" \
    --refresh_steps 0 \
    "${data[@]}" "$@"
