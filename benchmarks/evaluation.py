"""evaluate.py against the plain loop of the recipe on one large result file.

    python benchmarks/evaluation.py

Both are processes of their own, in turn, --repeats times. The loop is the recipe's, mended so that it counts every
query: lines to lists, a comparison for each text, numpy's mean over slices for each k.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOOP = """
import sys
import numpy as np
positives = {}
for line in open(sys.argv[1], encoding="utf-8"):
    query, positive = line.rstrip().split("\\t")
    positives.setdefault(query, set()).add(positive)
found, labels, last = [], [], None
for line in open(sys.argv[2], encoding="utf-8"):
    query, text, cosine = line.rstrip().split("\\t")
    if last is not None and query != last:
        found.append(labels)
        labels = []
    last = query
    if query == text:
        continue
    labels.append(1 if text in positives[query] else 0)
found.append(labels)
for k in (1, 5, 10, 20, 50):
    print(f"recall@{k}={round(100 * float(np.mean([np.sum(row[0:k]) > 0 for row in found])), 3)}")
"""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        pairs, result = os.path.join(directory, "pairs"), os.path.join(directory, "result")
        with open(pairs, "w", encoding="utf-8") as file, open(result, "w", encoding="utf-8") as other:
            for query in range(args.queries):
                file.write(f"第{query}个问题怎么办\t第{query}个答案\n")
                place = rng.randrange(100)
                other.writelines(f"第{query}个问题怎么办\t第{query if i == place else f'{i}另'}个答案\t{1 - i / 100}\n"
                                 for i in range(50))
        ways = {"plain loop": ["-c", LOOP, pairs, result],
                "evaluate.py": [os.path.join(ROOT, "evaluate.py"), "--similar_text_pair", pairs,
                                "--recall_result_file", result, "--result_tsv", ""]}
        times: dict[str, list[float]] = {way: [] for way in ways}
        printed = {}
        for _ in range(args.repeats):
            for way, words in ways.items():
                began = time.perf_counter()
                printed[way] = subprocess.run([sys.executable, *words], check=True, capture_output=True,
                                              text=True).stdout
                times[way].append(time.perf_counter() - began)
    assert len(set(printed.values())) == 1, printed
    print("| | s | ratio |\n|---|---:|---:|")
    for way, values in times.items():
        ratio = statistics.median(loop / value for loop, value in zip(times["plain loop"], values))
        print(f"| {way} | {statistics.median(values):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
