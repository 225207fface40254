"""ANCE beside its warm-up and in-batch negatives: equal training steps, several seeds. For docs/results.md.

    python benchmarks/ance.py                                          the sample data, 3 seeds
    python benchmarks/ance.py --data DIR --encoder scratch-2x256 --steps 278 --flags ...

DIR holds train.csv, test.csv and corpus.csv. Every method takes --steps steps in all; one of two stages half of them in
each, the second from the first one's checkpoint. Async runs have the job beside them on the same cores. Runs whose
result is there are not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from quality import ROOT, call, cells, file_name, sample_data

WARM = ["--warmup", "bm25", "--refresh_steps", "0"]
# name: (its own flags, the stage before, share of the steps)
METHODS: dict[str, tuple[list[str], str, float]] = {
    "in-batch": (["--warmup", "in_batch", "--refresh_steps", "0"], "", 1.0),
    "BM25 warm-up, all steps": (WARM, "", 1.0),
    "BM25 warm-up, half the steps": (WARM, "", 0.5),
    "warm-up, then ANCE, sync": (["--refresh", "sync"], "BM25 warm-up, half the steps", 0.5),
    "warm-up, then ANCE, async": (["--refresh", "async"], "BM25 warm-up, half the steps", 0.5),
}


def measured(data: str, result: str) -> dict[str, float]:
    """Return the metrics of a result file."""
    return json.loads(call("evaluate.py", "--similar_text_pair", f"{data}/test.csv", "--recall_result_file", result,
                           "--result_tsv", "", "--format", "json", "--mrr"))


def train(name: str, out: str, data: str, method: str, seed: int, args: argparse.Namespace) -> None:
    """Train one method with one seed."""
    own, before, share = METHODS[method]
    start = ["--init_from_ckpt", f"{out}/{file_name(before, seed)}/latest"] if before else [
        "--model_name_or_path", args.encoder]
    if before:
        own = [*own, "--refresh_steps", str(args.refresh_steps)]
    beside = None
    mining = ["--topk_training", str(args.topk_training), "--device", "cpu", *args.mining]
    if "async" in own:
        command = ["run_ann_data_gen.py", "--training_dir", name, "--seed", str(seed), "--poll_seconds", "0.2", *mining]
        with open(f"{name}.generator", "w") as file:
            beside = subprocess.Popen([sys.executable, os.path.join(ROOT, command[0]), *command[1:]], stdout=file,
                                      stderr=file, env=os.environ | {"OMP_NUM_THREADS": str(args.threads)})
    corpus = ["--corpus_file", f"{data}/corpus.csv"] if args.from_corpus else []
    call("train_ance.py", *start, "--train_set_file", f"{data}/train.csv", *corpus, "--save_dir", name,
         "--overwrite", "--seed", str(seed), "--epochs", "1000", "--max_steps",
         str(round(args.steps * share)), *mining, *args.flags, *own, threads=args.threads)
    if beside is not None:
        beside.kill()  # it would make a last generation that nothing takes


def run(data: str, out: str, method: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train, recall and evaluate one method with one seed."""
    name = f"{out}/{file_name(method, seed)}"
    if not os.path.isfile(f"{name}.json"):
        train(name, out, data, method, seed, args)
        call("recall.py", "--device", "cpu", "--params_path", f"{name}/latest", "--corpus_file", f"{data}/corpus.csv",
             "--similar_text_pair", f"{data}/test.csv", "--recall_num", "50", "--recall_result_dir", out,
             "--recall_result_file", f"{os.path.basename(name)}.recall", threads=args.threads)
        with open(f"{name}.json", "w") as file:
            json.dump(measured(data, f"{name}.recall"), file)
        print(f"{method}, seed {seed}: done", file=sys.stderr, flush=True)
    with open(f"{name}.json") as file:
        return json.load(file)


def ages(out: str, method: str, seeds: list[int]) -> list[int]:
    """Return the ages, in steps, that the negatives of a method's runs had at each log line."""
    sys.path.insert(0, ROOT)
    from semindex.pictures import curves

    return [round(value) for seed in seeds
            for _, value in curves(f"{out}/{file_name(method, seed)}", ["negatives_age"]).get("negatives_age", [])]


def main() -> None:
    """Run all, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="directory of train.csv, test.csv, corpus.csv [the sample data]")
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "ance"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--encoder", default="scratch-1x256")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--refresh_steps", type=int, default=25)
    parser.add_argument("--topk_training", type=int, default=200)
    parser.add_argument("--from_corpus", action="store_true", help="mine from corpus.csv [from the training texts]")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--mining", type=str.split, default=["--connected_positives"], metavar="'FLAGS'",
                        help="flags of mining, one string")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, help="of training, for every method",
                        default=["--batch_size", "128", "--learning_rate", "6e-4", "--warmup_proportion", "0.1",
                                 "--output_emb_size", "0", "--max_seq_length", "48", "--train_negatives", "4"])
    args = parser.parse_args()
    out = args.out
    os.makedirs(out, exist_ok=True)
    data = args.data or sample_data(f"{out}/data")
    call("keyword_recall.py", "--corpus_file", f"{data}/corpus.csv", "--similar_text_pair", f"{data}/test.csv",
         "--recall_num", "50", "--recall_result_dir", out, "--recall_result_file", "BM25")
    rows = {"BM25": [measured(data, f"{out}/BM25")]}
    with ThreadPoolExecutor(args.jobs) as pool:
        # a stage that another starts from is made once, before the others
        for wave in ([m for m in args.methods if not METHODS[m][1]], [m for m in args.methods if METHODS[m][1]]):
            jobs = {(m, s): pool.submit(run, data, out, m, s, args) for m in wave for s in args.seeds}
            for m in wave:
                rows[m] = [jobs[m, s].result() for s in args.seeds]
    columns = list(rows["BM25"][0])
    print("| | " + " | ".join(columns) + " | age of the negatives, steps |\n|---" + "|---:" * (len(columns) + 1) + "|")
    for method, results in rows.items():
        old = ages(out, method, args.seeds) if method in METHODS and METHODS[method][1] else []
        age = f"{statistics.mean(old):.0f}, at most {max(old)}" if old else ""
        print(f"| {method} | " + " | ".join([*cells(results), age]) + " |")


if __name__ == "__main__":
    main()
