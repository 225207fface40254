"""What ranking entries by the smooth maximum over their questions gains, by temperature. For docs/results.md.

    python benchmarks/faq.py --faq_dir DIR --questions_file FILE

answer@1 and MRR@10 of dense search over the questions that have an answer, without calibration.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from semindex import cli, runtime, search_flags


def main() -> None:
    """Search once, rank at each temperature, print a line each."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--faq_dir", required=True)
    parser.add_argument("--questions_file", required=True)
    search_flags.add_either_encoder(parser, " [the FAQ's]")
    args = parser.parse_args()
    runtime.start("cpu", 0)
    import numpy as np

    from models.either import open_encoder
    from semindex.faq.asking import entries_of
    from semindex.faq.calibrating import AMONG, TEMPERATURES, reciprocal
    from semindex.faq.directory import Faq
    from semindex.search.methods import DEPTH, Method
    from semindex.text.tables import read_labelled

    faq = Faq.load(args.faq_dir)
    questions, wanted = read_labelled(args.questions_file, False)
    right = np.array(entries_of(faq, wanted, args.questions_file))
    vectors = open_encoder(args, len(questions), faq.encoder).encoder.side("query")(questions)
    found = faq.rankings(questions, vectors, DEPTH)
    for temperature in TEMPERATURES:
        ids = faq.join(questions, found, Method("dense"), AMONG, temperature).fused.ids[right >= 0]
        own = right[right >= 0]
        print(f"t {temperature:4}: answer@1 {100 * (ids[:, 0] == own).mean():5.1f}, mrr@{AMONG} "
              f"{100 * reciprocal(ids, own).mean():5.1f}")


if __name__ == "__main__":
    cli.run(main)
