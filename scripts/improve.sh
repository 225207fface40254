#!/usr/bin/env bash
# The loop closed: thumbs of a running service to a better encoder in it. Exports the thumbs, trains on them, exports
# the encoder, has the service compare it on its dev questions; it goes live unless it is worse.
#   URL=http://127.0.0.1:8000   the service, begun with --dev_file (scripts/serve_demo.sh does)
#   OUT=output/serve_demo       runs/N are the checkpoints, models/N the exports, the live one is trained on; data/train.csv
#   STEPS=60                    training steps
#   FEWEST=20                   thumbs up that are worth a training
#   SEMINDEX_WRITE_KEY          the service's key of who writes
# Status 0: live. 1: refused, or too few thumbs. 2: an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-output/serve_demo}
URL=${URL:-http://127.0.0.1:8000}
STEPS=${STEPS:-60}
FEWEST=${FEWEST:-20}
PYTHON=${VENV:-.venv}/bin/python

run() {
    printf '\n+'; printf ' %q' "$@"; echo
    "$@"
}

# From the generation that is live: what was refused, or never ended, is no start.
live=$("$PYTHON" deploy/service/manage.py generations --url "$URL" |
    "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["current"]["model"])')
before=$OUT/runs/$live/latest
[ -d "$before" ] || before=$OUT/runs/0
[ -d "$before" ] || { echo "error: $OUT/runs/$live: no checkpoint of the live generation $live; is OUT right?" >&2; exit 2; }
next=$(($(ls "$OUT/runs" "$OUT/models" | grep -E '^[0-9]+$' | sort -n | tail -1) + 1))
mkdir -p "$OUT/feedback"
run "$PYTHON" deploy/service/manage.py feedback --url "$URL" --output_file "$OUT/feedback/$next.labelled.csv"
run "$PYTHON" deploy/service/manage.py feedback --url "$URL" --pairs --output_file "$OUT/feedback/$next.pairs.csv"
count=$(wc -l < "$OUT/feedback/$next.pairs.csv")
if [ "$count" -lt "$FEWEST" ]; then
    echo "$count thumbs up, fewer than $FEWEST: not worth a training yet"
    exit 1
fi
# The pairs that the encoder was trained on stay among them, or it forgets what nobody asked lately.
cat "$OUT/data/train.csv" "$OUT/feedback/$next.pairs.csv" > "$OUT/feedback/$next.train.csv"
run "$PYTHON" train_batch_neg.py --init_from_ckpt "$before" --train_set_file "$OUT/feedback/$next.train.csv" \
    --batch_size 32 --learning_rate 1e-4 --warmup_proportion 0.1 --margin 0 --temperature 0.05 --symmetric \
    --freeze_embeddings --max_steps "$STEPS" --save_dir "$OUT/runs/$next"
run "$PYTHON" export_model.py --params_path "$OUT/runs/$next/latest" --output_path "$OUT/models/$next" --format onnx
run "$PYTHON" deploy/service/manage.py activate "$next" --url "$URL"
