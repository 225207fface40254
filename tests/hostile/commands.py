"""The scripts: an ordinary command of each on tiny data. A new script joins by an entry.

A command is written as it is typed; a word KIND:VALUE is a slot that cases.py turns into something hostile:

    text:NAME    an input read line by line, or `-` for standard input; NAME as material.py calls it
    file:NAME    an input file that only the toolkit reads
    dir:NAME     an input directory that the toolkit has written: checkpoint, index, export, collection
    out:NAME     an output file; outdir:NAME an output directory
    both:NAME    a directory of material.py's that the command goes on with, in out/
    whole:VALUE  a whole number; real:VALUE any number; words:TEXT free text
"""

from dataclasses import dataclass
from functools import cached_property

INPUTS, OUTPUTS = ("text", "file", "dir"), ("out", "outdir", "both")
KINDS = (*INPUTS, *OUTPUTS, "whole", "real", "words")


@dataclass(frozen=True)
class Slot:
    """A word that can be replaced. place: among the words of the command; flag: the one it belongs to."""

    place: int
    flag: str
    kind: str
    value: str

    @property
    def word(self):
        """What is typed: inputs lie in in/, outputs go to out/."""
        return f"{'in' if self.kind in INPUTS else 'out'}/{self.value}" if self.kind in INPUTS + OUTPUTS else self.value


@dataclass(frozen=True)
class Command:
    """A script. whole and real: flags that take a number and are not in the line; prints: its result is what it prints;
    again: what lets the same command run a second time; spare: output flags whose failure is a warning only;
    paddle: whether it computes with it; needs: what must lie in in/ too; like: a command whose code it mostly runs, with
    which it shares what CI tries; several: whether its corpus is read several times, so that `-` is an error.
    """

    name: str
    line: str
    whole: str = ""
    real: str = ""
    prints: bool = False
    again: str = ""
    spare: tuple[str, ...] = ()
    paddle: bool = True
    needs: tuple[str, ...] = ()
    like: str = ""
    several: bool = False

    @cached_property
    def slots(self):
        """The slots in order."""
        found, flag = [], ""
        for place, word in enumerate(self.line.split()):
            kind, colon, value = word.partition(":")
            if colon and kind in KINDS:
                found.append(Slot(place, flag, kind, value))
            elif word.startswith("--"):
                flag = word
        return found

    @property
    def words(self):
        """The ordinary command."""
        words = self.line.split()
        for slot in self.slots:
            words[slot.place] = slot.word
        return words

    def of(self, *kinds):
        """Return the slots of some kinds."""
        return [slot for slot in self.slots if slot.kind in kinds]


INDEX = "--hnsw_m --hnsw_ef --hnsw_ef_construction --hnsw_max_elements --hnsw_threads"
MODEL = "--device cpu --params_path dir:checkpoint"
TRAIN = ("--device cpu --model_name_or_path scratch-1x32 --output_emb_size whole:16 --max_seq_length whole:24 "
         "--batch_size whole:8 --seed whole:7 --max_steps 3 --save_dir outdir:save --train_set_file text:train.csv")
TRAINED = {
    "whole": "--epochs --save_steps --log_steps --eval_steps --chunk_size --chunk_numbers --keep_checkpoints "
             "--gradient_accumulation_steps --recall_num --early_stopping " + INDEX,
    "real": "--learning_rate --weight_decay --warmup_proportion --max_grad_norm --dropout --head_dropout --margin --scale",
    "again": "--overwrite"}
TREC = "--corpus_file text:corpus.tsv --queries_file text:queries.tsv"

TABLE = [
    Command("split_data", "split_data.py --input_file text:train.csv --output_dir outdir:split --dev real:0.3 --test real:0.2 "
            "--seed whole:3", whole="--positives", paddle=False),
    Command("generate_recall", "generate_recall.py --train_set_file text:train.csv --similar_text_pair text:dev.csv "
            "--output_file out:corpus.csv", paddle=False),
    Command("keyword_recall", "keyword_recall.py --corpus_file text:corpus.csv --similar_text_pair text:dev.csv "
            "--recall_result_dir . --recall_result_file out:result.txt --recall_num whole:5", real="--k1 --b", paddle=False),
    Command("train_batch_neg", f"train_batch_neg.py {TRAIN} --dev_set_file text:dev.csv --corpus_file text:corpus.csv "
            "--init_from_ckpt dir:checkpoint", **TRAINED),
    Command("train_hardest_neg", f"train_hardest_neg.py {TRAIN}", **TRAINED | {"whole": "--hardest", "real": "--margin"},
            like="train_batch_neg"),
    Command("train_labelled", f"train_labelled.py {TRAIN} --dev_set_file text:labelled_dev.csv --corpus_file text:corpus.csv --balanced"
            .replace("train.csv", "labelled.csv"), **TRAINED | {"whole": "", "real": "--margin --scale"}, like="train_batch_neg"),
    Command("train_simcse", f"train_simcse.py {TRAIN}".replace("train.csv", "corpus.csv"),
            **TRAINED | {"whole": "", "real": "--dropout"}, like="train_batch_neg"),
    Command("train_distill", "train_distill.py --device cpu --teacher dir:checkpoint --layers whole:1 --train_set_file text:corpus.csv "
            "--batch_size whole:8 --max_steps 3 --save_dir outdir:save --vectors_dir outdir:vectors --loss mse kl",
            **TRAINED | {"whole": "--max_seq_length", "real": "--temperature --loss_weights"}, like="train_batch_neg"),
    Command("train_ance", f"train_ance.py {TRAIN} --corpus_file text:corpus.csv --warmup bm25 --refresh_steps whole:2 "
            "--topk_training whole:10 --negative_sample whole:3 --data_dir outdir:data --ann_dir outdir:ann",
            **TRAINED | {"whole": "--train_negatives --rank_min --max_query_length --max_chunks",
                         "real": "--relative_margin --scale"}),
    Command("train_ance_trec", "train_ance.py --device cpu --init_from_ckpt dir:checkpoint --batch_size whole:8 --max_steps 2 "
            f"--save_dir outdir:save {TREC} --qrels_file text:qrels --dev_queries_file text:dev.tsv "
            "--dev_qrels_file text:dev.qrels --topk_training whole:10 --negative_sample whole:3 --data_dir outdir:data",
            **TRAINED | {"whole": "", "real": ""}, like="train_ance", several=True),
    Command("prepare_collection", f"prepare_collection.py --device cpu --init_from_ckpt dir:checkpoint {TREC} "
            "--qrels_file text:qrels --dev_queries_file text:dev.tsv --dev_qrels_file text:dev.qrels "
            "--out_data_dir outdir:data", whole="--max_query_length --max_chunks", several=True),
    Command("resume", "train_batch_neg.py --device cpu --model_name_or_path scratch-1x32 --output_emb_size 16 --max_seq_length 24 "
            "--batch_size 4 --max_steps 40 --save_steps 40 --train_set_file text:train.csv "
            "--save_dir both:training --resume", like="train_batch_neg"),
    Command("resume_ance", "train_ance.py --device cpu --init_from_ckpt dir:checkpoint --batch_size 8 --max_steps 40 --save_steps 40 "
            f"--refresh_steps 20 --resume --save_dir both:ance {TREC} --qrels_file text:qrels --dev_queries_file text:dev.tsv "
            "--dev_qrels_file text:dev.qrels --topk_training 10 --negative_sample 3 --data_dir both:collection",
            like="train_ance", several=True),
    Command("run_ann_data_gen", "run_ann_data_gen.py --device cpu --init_model_dir dir:checkpoint --data_dir dir:collection "
            "--ann_dir outdir:ann --topk_training whole:10 --negative_sample whole:3", whole="--end_ann_step --rank_min",
            real="--poll_seconds --margin"),
    Command("ann_vectors", "run_ann_data_gen.py --device cpu --init_model_dir dir:checkpoint --data_dir dir:collection "
            "--inference --output_dir outdir:vectors", like="run_ann_data_gen"),
    Command("mine_negatives", f"mine_negatives.py {MODEL} --train_set_file text:train.csv --corpus_file text:corpus.csv "
            "--output_file out:mined.csv --report_file out:report.tsv --negatives whole:2 --rank_max whole:9 --by both",
            whole="--max_per_query --rank_min --batch_size", real="--margin --relative_margin"),
    Command("mine_local", f"mine_negatives.py {MODEL} --train_set_file text:train.csv --corpus_file text:corpus.csv "
            "--output_file out:mined.csv --by local --n_clusters whole:3", like="mine_negatives"),
    Command("mine_global", "mine_negatives.py --device cpu --train_set_file text:train.csv --corpus_file text:corpus.csv "
            "--output_file out:mined.csv --by global --distribution normal", like="mine_negatives"),
    Command("recall", f"recall.py {MODEL} --corpus_file text:corpus.csv --similar_text_pair text:dev.csv --recall_result_dir . "
            "--recall_result_file out:result.txt --trec_run_file out:run.trec --recall_num whole:5 --index_dir outdir:index "
            "--batch_size whole:8", whole="--max_seq_length " + INDEX),
    Command("recall_again", f"recall.py {MODEL} --corpus_file text:corpus.csv --similar_text_pair text:dev.csv "
            "--recall_result_dir . --recall_result_file out:result.txt --recall_num whole:5 --index_dir both:index",
            like="recall"),
    Command("recall_hnsw", f"recall.py {MODEL} --corpus_file text:corpus.csv --similar_text_pair text:dev.csv "
            "--recall_result_dir . --recall_result_file out:result.txt --recall_num whole:5 --index_type hnsw "
            "--hnsw_threads 1 --index_dir both:hnsw", like="recall"),
    Command("recall_milvus", f"recall.py {MODEL} --corpus_file text:corpus.csv --similar_text_pair text:dev.csv "
            "--recall_result_dir . --recall_result_file out:result.txt --recall_num whole:5 --index_type milvus "
            "--milvus_uri outdir:lite.db", real="--milvus_timeout", like="recall"),
    Command("recall_hybrid", f"recall.py {MODEL} --corpus_file text:corpus.csv --similar_text_pair text:dev.csv "
            "--recall_result_dir . --recall_result_file out:result.txt --recall_num whole:5 --method hybrid --fusion rrf "
            "--fusion_weights real:1 real:0.5 --rrf_k real:60", whole="--fusion_depth", real="--k1 --b", like="recall"),
    Command("recall_keyword", "recall.py --device cpu --method keyword --corpus_file text:corpus.csv --similar_text_pair text:dev.csv "
            "--recall_result_dir . --recall_result_file out:result.txt --recall_num whole:5", like="recall"),
    Command("split_faq", "split_faq.py --faq_file text:faq.tsv --no_answer_file text:off.txt --output_dir outdir:parts "
            "--seed whole:3", whole="--dev --test", paddle=False),
    Command("build_faq", "build_faq.py --device cpu --faq_file text:faq.tsv --params_path dir:checkpoint --output_dir outdir:faq "
            "--batch_size whole:8", whole=INDEX, real="--k1 --b"),
    Command("ask", "ask.py --device cpu --faq_dir dir:faq --params_path dir:checkpoint --calibration file:calibration.json "
            "--questions_file text:questions.tsv --output_file out:replies.jsonl --top whole:3", whole="--batch_size"),
    Command("ask_words", "ask.py --device cpu --faq_dir dir:faq --params_path dir:checkpoint --calibration file:calibration.json "
            "words:卡丢了 words:退款", prints=True, like="ask"),
    Command("calibrate", "calibrate.py --device cpu --faq_dir dir:faq --params_path dir:checkpoint --questions_file "
            "text:questions.tsv --output_file out:choice.json --picture_file out:curve.svg --precision real:0.9",
            real="--suggest_precision"),
    Command("calibrate_recall", "calibrate.py --device cpu --params_path dir:checkpoint --corpus_file text:corpus.csv "
            "--similar_text_pair text:dev.csv --output_file out:choice.json", whole=INDEX,
            real="--k1 --b", like="calibrate"),
    Command("evaluate_replies", "evaluate.py --reply_file text:replies.jsonl --questions_file text:questions.tsv", prints=True,
            paddle=False, like="evaluate"),
    Command("evaluate", "evaluate.py --similar_text_pair text:dev.csv --recall_result_file text:result.txt --recall_num whole:5 "
            "--result_tsv out:result.tsv", prints=True, spare=("--result_tsv",), paddle=False),
    Command("recall_ids", f"recall.py {MODEL} {TREC} --trec_run_file out:run.trec --recall_num whole:5", like="recall"),
    Command("keyword_ids", f"keyword_recall.py {TREC} --trec_run_file out:run.trec --recall_num whole:5",
            like="keyword_recall", paddle=False),
    Command("evaluate_vectors", "evaluate.py --vectors_dir dir:vectors --qrels_file text:qrels --candidates_file "
            "text:candidates.tsv --metrics mrr@10 ndcg@10 --depth whole:9", prints=True, paddle=False, like="evaluate"),
    Command("evaluate_scores", "evaluate.py --score_file text:scores.txt --labelled_file text:labelled.csv --threshold real:0.3",
            prints=True, paddle=False, like="evaluate"),
    Command("evaluate_trec", "evaluate.py --run_file text:run.trec --qrels_file text:qrels --metrics mrr@10 ndcg@10 "
            "--seed whole:3", prints=True, paddle=False),
    Command("predict", f"predict.py {MODEL} --text_pair_file text:dev.csv --output_file out:cosines.txt --batch_size whole:8",
            whole="--max_seq_length", real="--threshold"),
    Command("inference", f"inference.py {MODEL} --text_file text:corpus.csv --output_file out:vectors.npy --batch_size whole:8",
            whole="--max_seq_length"),
    Command("encode_corpus", f"encode_corpus.py {MODEL} --corpus_file text:corpus.csv --output_dir outdir:parts "
            "--batch_size whole:8", whole="--max_seq_length", like="inference"),
    Command("inference_text", "inference.py --device cpu --params_path file:checkpoint/model_state.pdparams --text words:卡丢了 "
            "words:退款", prints=True, needs=("checkpoint",), like="inference"),
    Command("export_model", "export_model.py --params_path dir:checkpoint --output_path outdir:export --dev_set_file text:dev.csv "
            "--corpus_file text:corpus.csv", whole="--max_seq_length"),
    Command("import_weights", "import_weights.py --model_name_or_path dir:published --output_path outdir:imported",
            whole="--max_seq_length --layers"),
    Command("export_sentences", "export_model.py --params_path dir:checkpoint --output_path outdir:sentences --format "
            "sentence-transformers", whole="--max_seq_length", like="export_model"),
    Command("rank_collection", f"rank_collection.py {MODEL} {TREC} --candidates_file text:candidates.tsv --run_file out:run.trec "
            "--data_dir outdir:data --depth whole:5", whole="--max_query_length --max_chunks --batch_size " + INDEX, several=True),
    Command("rank_again", f"rank_collection.py {MODEL} {TREC} --run_file out:run.trec --data_dir both:ranked --depth whole:5",
            like="rank_collection", several=True),
    Command("plot_training", "plot_training.py --save_dir dir:first --output_file out:curves.svg", paddle=False),
    Command("plot_negatives", f"plot_negatives.py {MODEL} --data_dir dir:collection --output_dir outdir:plot --queries whole:1 "
            "--negatives whole:3 --topk_training whole:9"),
    Command("deploy", "deploy/python/predict.py --model_dir dir:export --text_pair_file text:dev.csv --output_file out:cosines.txt "
            "--cpu_threads whole:1", whole="--batch_size --max_seq_length", real="--threshold"),
    Command("deploy_text", "deploy/python/predict.py --model_dir dir:export --text words:卡丢了 words:退款 --cpu_threads 1",
            prints=True, like="deploy"),
]
