#!/usr/bin/env bash
# From nothing to a table: install, split the sample data, train, index, recall, evaluate. On a CPU in minutes.
# Results go to output/quickstart (OUT=...). Run it again at will. EPOCHS=1 is a short form that checks an installation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-output/quickstart}
SEED=${SEED:-1000}
EPOCHS=${EPOCHS:-6}
began=$SECONDS

bash scripts/setup.sh
PYTHON=${VENV:-.venv}/bin/python

run() {
    printf '\n+'; printf ' %q' "$@"; echo
    "$@"
}

run "$PYTHON" split_data.py --input_file datasets/faq_zh/groups.tsv --groups --output_dir "$OUT/data" \
    --test 1 --dev 0.2 --positives 3 --overwrite
run "$PYTHON" generate_recall.py --train_set_file "$OUT/data/train.csv" \
    --similar_text_pair "$OUT/data/dev.csv" "$OUT/data/test.csv" --output_file "$OUT/data/corpus.csv"

# The baseline that an encoder has to beat.
run "$PYTHON" keyword_recall.py --corpus_file "$OUT/data/corpus.csv" --similar_text_pair "$OUT/data/test.csv" \
    --recall_num 50 --recall_result_dir "$OUT/recall" --recall_result_file BM25

encoder=(--model_name_or_path scratch-1x256 --output_emb_size 0 --max_seq_length 48 --seed "$SEED")
# 0 epochs save the encoder as it starts: what it is worth before training.
run "$PYTHON" train_batch_neg.py "${encoder[@]}" --train_set_file "$OUT/data/train.csv" --epochs 0 \
    --save_dir "$OUT/untrained" --overwrite
run "$PYTHON" train_batch_neg.py "${encoder[@]}" --train_set_file "$OUT/data/train.csv" --epochs "$EPOCHS" \
    --batch_size 128 --learning_rate 6e-4 --warmup_proportion 0.1 --symmetric \
    --dev_set_file "$OUT/data/dev.csv" --corpus_file "$OUT/data/corpus.csv" --save_dir "$OUT/trained" --overwrite

for encoder in untrained trained; do
    run "$PYTHON" recall.py --params_path "$OUT/$encoder/latest" --corpus_file "$OUT/data/corpus.csv" \
        --similar_text_pair "$OUT/data/test.csv" --recall_num 50 --index_dir "$OUT/$encoder/index" --rebuild_index \
        --recall_result_dir "$OUT/recall" --recall_result_file $encoder
done

run "$PYTHON" evaluate.py --similar_text_pair "$OUT/data/test.csv" --result_tsv "" \
    --recall_result_file "$OUT/recall/BM25" "$OUT/recall/untrained" "$OUT/recall/trained"
cat <<END

checkpoint  $OUT/trained/latest
index       $OUT/trained/index
logs        $OUT/trained/visualdl   (visualdl --logdir $OUT/trained/visualdl)
results     $OUT/recall
$((SECONDS - began)) s. The encoder started from random weights; a pretrained one is the next step: README.md, "Your own data".
END
