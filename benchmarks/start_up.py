"""How long a script takes to answer --help, encoders to be imported, and evaluate.py to count a large result file.

    python benchmarks/start_up.py

Prints the median of --repeats runs of each. The result file holds --lines lines (20,000 queries, 50 texts each).
"""

import argparse
import glob
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def seconds(command: list[str], repeats: int) -> float:
    """Return the median time of a command, all of its output thrown away."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lines", type=int, default=1_000_000)
    args = parser.parse_args()
    print("| command | s |\n|---|---:|")
    for path in sorted(glob.glob(os.path.join(ROOT, "*.py"))):
        with open(path, encoding="utf-8") as file:
            if "cli.run(main)" in file.read():
                name = os.path.basename(path)
                print(f"| {name} --help | {seconds([name, '--help'], args.repeats):.2f} |", flush=True)
    for name in ("", "full"):
        os.environ["SEMINDEX_PADDLENLP"] = name
        took = seconds(["-c", "import models; from paddlenlp.transformers import AutoModel"], args.repeats)
        print(f"| paddle and paddlenlp's encoders, SEMINDEX_PADDLENLP={name} | {took:.2f} |", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        pairs, result = os.path.join(directory, "pairs"), os.path.join(directory, "result")
        queries = args.lines // 50
        with open(pairs, "w") as first, open(result, "w") as second:
            for q in range(queries):
                first.write(f"这是第{q}个问题怎么办理\t应当找到的文本{q}号\n")
                second.writelines(f"这是第{q}个问题怎么办理\t应当找到的文本{q + i}号\t{0.99 - i / 100}\n"
                                  for i in range(50))
        command = ["evaluate.py", "--similar_text_pair", pairs, "--recall_result_file", result, "--result_tsv", ""]
        print(f"| evaluate.py, {queries * 50:,} result lines | {seconds(command, args.repeats):.2f} |")


if __name__ == "__main__":
    main()
