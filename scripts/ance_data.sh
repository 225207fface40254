# shellcheck shell=bash
# Sourced by the scripts of ANCE: what the environment says of the data, as flags in `data`.
data=()
for name in TRAIN_SET_FILE CORPUS_FILE QUERIES_FILE QRELS_FILE DEV_SET_FILE DEV_QUERIES_FILE DEV_QRELS_FILE DATA_DIR \
    MAX_CHUNKS; do
    [ -z "${!name:-}" ] || data+=("--${name,,}" "${!name}")
done
