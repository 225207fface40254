"""Recall by BM25 over Chinese characters and character pairs, or over words: the baseline an encoder has to beat."""

from collections.abc import Callable

import options


def parser() -> options.Parser:
    """Return the command line."""
    parser = options.Parser(__doc__)
    parser.add_argument("--corpus_file", required=True, metavar="FILE", help="texts to recall from, one a line")
    options.add_pairs(parser)
    options.add_result_file(parser)
    options.add_bad_lines(parser)
    parser.add_argument("--recall_num", type=options.positive_int, default=50, metavar="N",
                        help="texts to recall a query [50]")
    parser.add_argument("--tokens", choices=["bigram", "word"], default="bigram",
                        help="bigram: characters and pairs of neighbours; word: words by jieba [bigram]")
    parser.add_argument("--k1", type=options.nonnegative, default=1.5, help="saturation of term frequency [1.5]")
    parser.add_argument("--b", type=options.fraction, default=0.75, help="weight of text length [0.75]")
    return parser


def tokenizer(kind: str) -> Callable[[str], list[str]]:
    """Return a function from text to BM25 terms; Latin words and numbers stay whole."""
    import re

    if kind == "word":
        import logging
        import warnings

        warnings.filterwarnings("ignore", category=UserWarning)  # of pkg_resources, which jieba still imports
        import jieba

        jieba.setLogLevel(logging.WARNING)
        return lambda text: [word for word in jieba.lcut(text.lower()) if word.strip()]
    unit = re.compile(r"[a-z0-9]+|\w")

    def split(text: str) -> list[str]:
        units = unit.findall(text.lower())
        return units + [a + b for a, b in zip(units, units[1:])]

    return split


def main() -> None:
    """Index, search, write."""
    args = parser().parse_args()
    import bm25s
    import numpy as np

    from recall_files import read_inputs, write_result

    queries, corpus = read_inputs(args)
    split = tokenizer(args.tokens)
    terms: dict[str, int] = {}
    documents = [[terms.setdefault(term, len(terms)) for term in split(text)]
                 for text in corpus.slice(0, len(corpus))]
    if not terms:
        raise options.UserError(f"{args.corpus_file}: holds neither letters nor digits to search for")
    asked = [[terms[term] for term in dict.fromkeys(split(text)) if term in terms] for text in queries]
    index = bm25s.BM25(method="lucene", k1=args.k1, b=args.b)
    index.index((documents, terms), show_progress=False)
    k = min(args.recall_num, len(corpus))
    found, scores = np.zeros([len(queries), k], np.int64), np.zeros([len(queries), k], np.float32)
    for row, numbers in enumerate(asked):
        weights = index.get_scores_from_ids(numbers) if numbers else np.zeros(len(corpus), np.float32)
        best = np.argpartition(-weights, k - 1)[:k]
        best = best[np.lexsort((best, -weights[best]))]
        found[row], scores[row] = best, weights[best]
    rows = ((query, [(corpus[i], score) for i, score in zip(ids, values) if score > 0])
            for query, ids, values in zip(queries, found.tolist(), scores.tolist()))
    write_result(args, rows)


if __name__ == "__main__":
    options.run(main)
