"""Keyword, dense and hybrid recall, and what calibrate.py chooses of them on dev, on test. For docs/results.md.

    python benchmarks/hybrid.py --data DIR --params_path CHECKPOINT...
    python benchmarks/hybrid.py --trec DIR --params_path CHECKPOINT      corpus.tsv, train and test queries and qrels

DIR holds dev.csv, test.csv and corpus.csv. Of --trec the last 300 training queries are dev. The vector index of each
checkpoint is kept in --out and used again. Each row beside the better source by a paired randomisation test.
"""

import argparse
import json
import os

from quality import ROOT, call

SHOWN = ("recall@1", "recall@10", "recall@50")


def from_trec(source: str, data: str, dev: int = 300) -> str:
    """Write pairs and corpus of a collection with ids; return the directory."""
    os.makedirs(data, exist_ok=True)

    def rows(name: str) -> list[list[str]]:
        with open(os.path.join(source, name), encoding="utf-8") as file:
            return [line.rstrip("\n").split("\t") for line in file]

    texts = dict(rows("corpus.tsv"))
    with open(f"{data}/corpus.csv", "w", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in texts.values())
    for name in ("train", "test"):
        queries = dict(rows(f"{name}.queries.tsv"))
        judged = [row for row in rows(f"{name}.qrels") if int(row[3]) > 0]
        pairs = [(queries[query], texts[document]) for query, _, document, _ in judged]
        last = set(list(queries.values())[-dev:])
        parts = {"test": pairs} if name == "test" else {
            "train": [pair for pair in pairs if pair[0] not in last],
            "dev": [pair for pair in pairs if pair[0] in last]}
        for part, own in parts.items():
            with open(f"{data}/{part}.csv", "w", encoding="utf-8") as file:
                file.writelines(f"{one}\t{two}\n" for one, two in own)
    return data


def measure(data: str, out: str, checkpoint: str, number: int, args: argparse.Namespace) -> list[str]:
    """Return the lines of one checkpoint."""
    corpus = ["--corpus_file", f"{data}/corpus.csv"]
    encoder = ["--device", "cpu", "--params_path", checkpoint, "--engine", args.engine, "--index_dir",
               f"{out}/index{number}", "--index_type", args.index_type]
    choice = f"{out}/choice{number}.json"
    told = call("calibrate.py", *corpus, *encoder, "--similar_text_pair", f"{data}/dev.csv", "--output_file", choice,
                threads=args.threads)
    with open(choice, encoding="utf-8") as file:
        chosen = json.load(file)
    ways = {"keyword": ["--device", "cpu", "--method", "keyword"], "dense": [*encoder, "--method", "dense"],
            "hybrid, rrf 1 1": [*encoder, "--method", "hybrid"], "chosen": [*encoder, "--calibration", choice]}
    if chosen["method"] == "keyword":  # which asks no encoder
        ways["chosen"] = ways["keyword"]
    files = []
    for name, flags in ways.items():
        result = f"{name.replace(' ', '_').replace(',', '')}{number}"
        files.append(f"{out}/{result}")
        call("recall.py", *corpus, *flags, "--similar_text_pair", f"{data}/test.csv", "--recall_num", "50",
             "--recall_result_dir", out, "--recall_result_file", result, threads=args.threads)
    shown = json.loads(call("evaluate.py", "--similar_text_pair", f"{data}/test.csv", "--recall_result_file", *files,
                            "--result_tsv", "", "--format", "json"))
    lines = [f"checkpoint {checkpoint}", told.strip().splitlines()[-2],
             f"chosen: {chosen['method']}, {chosen['fusion']}"]
    lines += [f"| {name} | " + " | ".join(f"{shown[file][metric]:.1f}" for metric in SHOWN) + " |"
              for name, file in zip(ways, files)]
    better = max(files[:2], key=lambda file: shown[file]["recall@10"])
    text = call("evaluate.py", "--similar_text_pair", f"{data}/test.csv", "--recall_result_file", better, files[3],
                "--result_tsv", "", "--compare").splitlines()
    for metric in SHOWN:
        place = next(i for i, line in enumerate(text) if line.startswith(metric + ","))
        lines.append(f"{metric} of the chosen one against the better source: {' '.join(text[place + 2].split()[1:])}")
    return lines


def main() -> None:
    """Measure each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--trec")
    parser.add_argument("--params_path", nargs="+", required=True)
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "hybrid"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--index_type", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    data = args.data or from_trec(args.trec, os.path.join(args.out, "data"))
    for number, checkpoint in enumerate(args.params_path):
        print("\n".join(measure(data, args.out, checkpoint, number, args)), flush=True)


if __name__ == "__main__":
    main()
