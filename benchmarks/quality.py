"""The recipe's strategies side by side: one encoder, one number of steps, several seeds. For docs/results.md.

    python benchmarks/quality.py                                         the sample data, 3 seeds
    python benchmarks/quality.py --data DIR --seeds 1000 --encoder scratch-2x256 --steps 278 --flags ...

DIR holds train.csv, test.csv and corpus.csv, and may hold train_unsupervised.csv. A method of two stages starts its
second from the first one's checkpoint; each stage has --steps steps. Runs whose result is there are not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HARDEST, BATCH, SIMCSE = "train_hardest_neg.py", "train_batch_neg.py", "train_simcse.py"
# name: (script, its own flags, name of the stage before)
METHODS: dict[str, tuple[str, list[str], str]] = {
    "untrained": (BATCH, ["--max_steps", "0", "--epochs", "0"], ""),
    "Baseline (pair-wise, random negatives)": (HARDEST, ["--negatives", "random"], ""),
    "SimCSE": (SIMCSE, [], ""),
    "BatchNeg": (BATCH, ["--symmetric"], ""),
    "HardestNeg": (HARDEST, [], ""),
    "HardestNeg, semi-hard": (HARDEST, ["--negatives", "semi_hard"], ""),
    "HardestNeg, 8 hardest": (HARDEST, ["--hardest", "8"], ""),
    "SimCSE, then BatchNeg": (BATCH, ["--symmetric"], "SimCSE"),
    "BatchNeg, then HardestNeg": (HARDEST, [], "BatchNeg"),
}


def call(*words: str, threads: int = 1) -> str:
    """Run a script of the project and return what it printed."""
    done = subprocess.run([sys.executable, os.path.join(ROOT, words[0]), *words[1:]], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def sample_data(directory: str) -> str:
    """Make the quickstart's split of the sample data."""
    call("split_data.py", "--input_file", os.path.join(ROOT, "datasets", "faq_zh", "groups.tsv"), "--groups",
         "--output_dir", directory, "--test", "1", "--dev", "0.2", "--positives", "3")
    call("generate_recall.py", "--train_set_file", f"{directory}/train.csv", "--similar_text_pair",
         f"{directory}/dev.csv", f"{directory}/test.csv", "--output_file", f"{directory}/corpus.csv")
    return directory


def texts_alone(data: str) -> None:
    """Write train_unsupervised.csv, the distinct texts of the pairs, unless it is there."""
    if not os.path.isfile(f"{data}/train_unsupervised.csv"):
        with open(f"{data}/train.csv", encoding="utf-8") as file:
            texts = dict.fromkeys(text for line in file for text in line.rstrip("\n").split("\t")[:2])
        with open(f"{data}/train_unsupervised.csv", "w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in texts)


def measured(data: str, out: str, name: str) -> dict[str, float]:
    """Return the metrics of a result file."""
    text = call("evaluate.py", "--similar_text_pair", f"{data}/test.csv", "--recall_result_file", f"{out}/{name}",
                "--result_tsv", "", "--format", "json")
    return json.loads(text)


def cells(results: list[dict[str, float]]) -> list[str]:
    """Return each metric's mean over some runs, with its standard deviation."""
    found = []
    for name in results[0]:
        values = [result[name] for result in results]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        found.append(f"{statistics.mean(values):.1f}{spread}")
    return found


def file_name(method: str, seed: int) -> str:
    """Return a name for the files of a run."""
    return "".join(c if c.isalnum() else "_" for c in f"{method}_{seed}")


def run(data: str, out: str, method: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train, recall and evaluate one method with one seed."""
    script, own, before = METHODS[method]
    name = file_name(method, seed)
    result = f"{out}/{name}.json"
    if not os.path.isfile(result):
        start = ["--model_name_or_path", args.encoder]
        if before:
            run(data, out, before, seed, args)
            start = ["--init_from_ckpt", f"{out}/{file_name(before, seed)}/latest"]
        texts = f"{data}/train_unsupervised.csv" if script == SIMCSE else f"{data}/train.csv"
        shared = ["--epochs", "1000", "--max_steps", str(args.steps), *args.flags]
        if not os.path.isdir(f"{out}/{name}/model_{args.steps if method != 'untrained' else 0}"):
            call(script, "--device", "cpu", *start, "--train_set_file", texts, "--save_dir", f"{out}/{name}",
                 "--overwrite", "--seed", str(seed), *shared, *own, threads=args.threads)
        call("recall.py", "--device", "cpu", "--params_path", f"{out}/{name}/latest", "--corpus_file",
             f"{data}/corpus.csv", "--similar_text_pair", f"{data}/test.csv", "--recall_num", "50",
             "--recall_result_dir", out, "--recall_result_file", f"{name}.recall", threads=args.threads)
        with open(result, "w") as file:
            json.dump(measured(data, out, f"{name}.recall"), file)
        print(f"{method}, seed {seed}: done", file=sys.stderr, flush=True)
    with open(result) as file:
        return json.load(file)


def main() -> None:
    """Run all, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="directory of train.csv, test.csv, corpus.csv [the sample data]")
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "quality"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--encoder", default="scratch-1x256")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, help="of training, for every method",
                        default=["--batch_size", "128", "--learning_rate", "6e-4", "--warmup_proportion", "0.1",
                                 "--output_emb_size", "0", "--max_seq_length", "48"])
    args = parser.parse_args()
    out = args.out
    os.makedirs(out, exist_ok=True)
    data = args.data or sample_data(f"{out}/data")
    texts_alone(data)
    call("keyword_recall.py", "--corpus_file", f"{data}/corpus.csv", "--similar_text_pair", f"{data}/test.csv",
         "--recall_num", "50", "--recall_result_dir", out, "--recall_result_file", "BM25")
    rows = {"BM25": [measured(data, out, "BM25")]}
    with ThreadPoolExecutor(args.jobs) as pool:
        # a stage that another starts from is made once, before the others
        for wave in ([m for m in METHODS if not METHODS[m][2]], [m for m in METHODS if METHODS[m][2]]):
            jobs = {(m, s): pool.submit(run, data, out, m, s, args) for m in wave for s in args.seeds}
            for m in wave:
                rows[m] = [jobs[m, s].result() for s in args.seeds]
    columns = list(rows["BM25"][0])
    print("| | " + " | ".join(f"@{name.split('@')[1]}" for name in columns) + " |\n|---" + "|---:" * len(columns) + "|")
    for method, results in rows.items():
        print(f"| {method} | " + " | ".join(cells(results)) + " |")


if __name__ == "__main__":
    main()
