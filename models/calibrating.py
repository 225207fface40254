"""What calibrate.py puts together: queries encoded and searched, the choice made, written and told."""

import argparse
from collections.abc import Sequence

import numpy as np

from models.either import open_encoder
from semindex import pictures, runtime
from semindex.encode.encoder import encode, report_cut, vector_file
from semindex.errors import UserError
from semindex.measure.choosing import Choice, choose
from semindex.measure.hits import hit_ranks, mrr_at, recall_at
from semindex.search.directory import open_index
from semindex.search.fusion import Ranking
from semindex.search.index import IndexSettings
from semindex.search.kept_keyword import check_keyword, open_keyword
from semindex.search.methods import DEPTH, KEYWORD, Calibration, Method
from semindex.search.recall_files import check_outputs
from semindex.text.corpus import Corpus, read_corpus
from semindex.text.counted import counted
from semindex.text.same_text import SameTexts
from semindex.text.tables import group_pairs, read_labelled, read_pairs

DEEP = 50  # texts looked at


def of_faq(args: argparse.Namespace, output: str) -> None:
    """Calibrate a FAQ, see semindex.faq.calibrating."""
    from semindex.faq.asking import entries_of
    from semindex.faq.calibrating import calibrate
    from semindex.faq.directory import Faq

    if args.picture_file:
        pictures.check_name(args.picture_file)
    runtime.on_rank_0(lambda: check_outputs(output, args.picture_file))
    faq = Faq.load(args.faq_dir, args.trust_files, IndexSettings.from_flags(args))
    questions, wanted = read_labelled(args.questions_file, args.skip_bad_lines)
    entries = entries_of(faq, wanted, args.questions_file)
    encoder = open_encoder(args, len(questions), faq.encoder).encoder.side("query")
    vectors = encode(encoder, questions, "encode questions")
    report_cut(encoder.tokenizer)
    if runtime.rank():
        return
    found = calibrate(faq, faq.encoder["fingerprint"], faq.fingerprint, questions, vectors, entries, args.precision,
                      args.suggest_precision, args.seed)
    about, thresholds = found.calibration, found.calibration.thresholds or {}
    # Said, and drawn, before it is written: a full standard output must not fail after the work.
    for name, value in about.measured.items():
        runtime.say(f"{name}: {value}")
    if thresholds["answer"] > 1:
        runtime.warn(f"no threshold reaches a precision of {args.precision:.0%}: nothing will be answered outright; "
                     "more similar questions, a better encoder or a lower --precision help")
    if args.picture_file:
        runtime.say(f"{args.picture_file}: precision against coverage")
    runtime.say(f"{output}: method {about.method.name}, answers from {thresholds['answer']:.4f}, suggestions from "
                f"{thresholds['suggest']:.4f}")
    with about.written(output):  # both files or neither
        if args.picture_file:
            reached = about.measured["coverage"] or 0.0
            pictures.precision_and_coverage(found.curve.coverage.tolist(), found.curve.precision.tolist(),
                                            args.precision, reached, args.picture_file)


def of_recall(args: argparse.Namespace, output: str) -> None:
    """Choose the method of a recall, see semindex.measure.choosing."""
    runtime.on_rank_0(lambda: check_outputs(output))
    pairs, lines = read_pairs(args.similar_text_pair_file, (2, 3), args.skip_bad_lines)
    positives = group_pairs(pairs)
    queries = list(positives)
    corpus, corpus_lines = read_corpus(args.corpus_file, args.skip_bad_lines)
    runtime.say(f"{args.similar_text_pair_file}: {counted(len(queries), 'query', 'queries')}{lines.notes()}")
    runtime.say(f"{args.corpus_file}: {counted(len(corpus), 'text')}{corpus_lines.notes()}")
    runtime.on_rank_0(lambda: check_keyword(args, corpus))
    opened = open_encoder(args, len(corpus) + len(queries))
    file = vector_file(args.index_dir, opened.encoder, corpus, f"{opened.fingerprint} {corpus.fingerprint}") \
        if args.index_dir else None
    index = open_index(args.index_dir, corpus,
                       lambda: encode(opened.encoder.side("passage"), corpus, "encode corpus", file),
                       IndexSettings.from_flags(args), opened.fingerprint, args.corpus_file, len(queries),
                       trust=args.trust_files, file=file, dimension=opened.encoder.dimension)
    vectors = encode(opened.encoder.side("query"), queries, "encode queries")
    report_cut(opened.encoder.tokenizer)
    if index is None:
        return
    keyword = open_keyword(args, corpus)
    found = {"dense": Ranking(*index.index.search(vectors, DEPTH)), "keyword": Ranking(*keyword.search(queries, DEPTH))}
    values = Values(corpus, positives, found, args.metric, SameTexts(corpus).find(queries))
    choice = choose(values, args.seed)
    measured = {f"{args.metric} of each method": {name: round(mean, 4) for name, mean in choice.means.items()},
                "gain of hybrid": round(choice.gain.mean, 4), "p": round(choice.gain.p, 4), "queries": len(queries),
                KEYWORD: {"tokens": args.tokens, "k1": args.k1, "b": args.b}}
    _tell(choice, args.metric, output)
    Calibration(choice.method, opened.fingerprint, corpus.fingerprint, measured).save(output)


def _tell(choice: Choice, metric: str, output: str) -> None:
    for name, mean in choice.means.items():
        runtime.say(f"{name:8} {metric} {100 * mean:6.2f}")
    gain = choice.gain
    runtime.say(f"hybrid against {choice.part}: {100 * gain.mean:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}] "
                f"p={gain.p:.4f}")
    fusion = choice.method.fusion
    how = f": {fusion.kind}, weights {' '.join(map(str, fusion.weights))}" if choice.method.name == "hybrid" else ""
    runtime.say(f"{output}: method {choice.method.name}{how}")


class Values:
    """From a method to its metric of each query, float64 [queries]; see hits.hit_ranks for a query's own text.

    exact: the text that reads as each query, which a fusion puts first, as in recall.py.
    """

    def __init__(self, corpus: Corpus, positives: dict[str, list[str]], found: dict[str, Ranking], metric: str,
                 exact: np.ndarray) -> None:
        self.exact, self.found, (self.name, self.k) = exact, found, (metric.split("@")[0], int(metric.split("@")[1]))
        wanted = {text for query, texts in positives.items() for text in (query, *texts)}
        places = {text: place for place, text in enumerate(corpus) if text in wanted}
        if not any(text in places for texts in positives.values() for text in texts):
            raise UserError("no positive of any query stands in the corpus; is it the corpus of these pairs?")
        absent = -2  # of a text that is not there
        self.rows = [(places.get(query, absent - 1), [places.get(text, absent) for text in texts])
                     for query, texts in positives.items()]

    def __call__(self, method: Method) -> np.ndarray:
        """Return the metric of each query."""
        ids = method.fuse(self.found, DEEP + 1, self.exact).ids.tolist()
        ranks = [_ranks(own, row, targets) for (own, targets), row in zip(self.rows, ids)]
        return np.array(mrr_at(ranks, self.k) if self.name == "mrr" else recall_at(ranks, self.k))


def _ranks(own: int, row: Sequence[int], targets: Sequence[int]) -> list[int]:
    return hit_ranks(own, [place for place in row if place >= 0][:DEEP], targets)
