"""Metrics of runs, equal to those of other libraries, ties and grades included."""

import re

import numpy as np
import pytest
from conftest import fail, succeed

from semindex.errors import UserError
from semindex.measure import significance
from semindex.measure import trec as trec_metrics

NAMES = ["mrr@10", "mrr", "recall@20", "ndcg@10", "ndcg", "map", "map@5", "precision@5", "hole@10"]


def random_run(seed):
    """Graded judgements and a run of few distinct scores, so that many tie; a query without a run, one of no relevant."""
    rng = np.random.default_rng(seed)
    qrels, run = {}, {}
    for query in map(str, range(12)):
        names = [f"D{i:03d}" for i in rng.permutation(60)]
        qrels[query] = {name: int(grade) for name, grade in zip(names[:25], rng.integers(0, 4, 25))}
        if query != "3":
            run[query] = {name: float(score) for name, score in zip(names[10:50], rng.integers(0, 6, 40))}
    qrels["5"] = dict.fromkeys(qrels["5"], 0)
    return run, qrels


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn_and_to_formulas(seed):
    from sklearn.metrics import average_precision_score, ndcg_score

    run, qrels = random_run(seed)
    found = trec_metrics.per_query(run, qrels, NAMES)
    for query, judged in qrels.items():
        # ties by falling id, then ranks for scores: what scikit-learn is given has none
        order = sorted(run.get(query, {}), key=lambda name: (run[query][name], name), reverse=True)
        grades = np.array([judged.get(name, 0) for name in order])
        relevant = sum(grade > 0 for grade in judged.values())
        hits = np.flatnonzero(grades > 0)
        values = dict.fromkeys(NAMES, 0.0)
        if len(order) and relevant:
            ranks = np.arange(len(order), 0, -1.0)
            lost = sorted((grade for name, grade in judged.items() if name not in run[query]), reverse=True)
            everything = np.concatenate([grades, lost])  # what was not found stands behind, for the ideal order
            scores = np.concatenate([ranks, -1.0 - np.arange(len(lost))])
            values["ndcg@10"] = ndcg_score([everything], [scores], k=10)
            ideal = np.sort(everything)[::-1] / np.log2(np.arange(2, len(everything) + 2))
            values["ndcg"] = (grades / np.log2(np.arange(2, len(grades) + 2))).sum() / ideal.sum()
            if len(hits):
                values["map"] = average_precision_score(grades > 0, ranks) * len(hits) / relevant
                values["mrr"] = 1 / (hits[0] + 1)
                values["mrr@10"] = values["mrr"] * (hits[0] < 10)
                values["map@5"] = sum((hits <= h).sum() / (h + 1) for h in hits if h < 5) / relevant
            values["recall@20"] = (hits < 20).sum() / relevant
            values["precision@5"] = (hits < 5).sum() / 5
        if order:
            values["hole@10"] = sum(name not in judged for name in order[:10]) / 10
        for name in NAMES:
            assert found[name][query] == pytest.approx(values[name], abs=1e-9), (query, name)


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_trec_eval_on_the_tied_scores_themselves(seed):
    import pytrec_eval

    run, qrels = random_run(seed)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg_cut.10", "recip_rank", "recall.20"}).evaluate(run)
    found = trec_metrics.per_query(run, qrels, ["map", "ndcg@10", "mrr", "recall@20"])
    for ours, name in zip(found, ("map", "ndcg_cut_10", "recip_rank", "recall_20")):
        for query in run:
            assert found[ours][query] == pytest.approx(theirs[query][name], abs=1e-9), (query, name)


def test_scores_that_32_bits_cannot_tell_apart_are_no_ties():
    run = {"q": {"B": 1.0, "A": 1.0 + 1e-12}}
    assert trec_metrics.per_query(run, {"q": {"A": 1}}, ["mrr"])["mrr"]["q"] == 1.0


def test_unknown_metrics_are_named():
    for name in ("bleu", "recall", "ndcg@x", "mrr@0", "mrr@²", "mrr@٣", "ndcg@" + "9" * 30, "ndcg@" + "9" * 5000, "map@-1",
                 "hole@+1", "recall@1_0", "mrr@ 1", "mrr@1\n"):
        with pytest.raises(UserError, match=re.escape(f"--metrics {name}: unknown")):
            trec_metrics.check([name])
    trec_metrics.check(["mrr@1", "ndcg@010", "hole@999999999"])


@pytest.mark.slow
def test_intervals_cover_and_the_test_tells_apart():
    rng = np.random.default_rng(0)
    values = rng.random(200)
    found = significance.interval(values)
    assert found.low < values.mean() < found.high
    # the bootstrap's interval is close to the one of the normal distribution
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 200**0.5, rel=0.1)
    same = significance.difference(values, values)
    assert same.mean == 0 and same.p == 1.0
    better = significance.difference(values + 0.05, values + rng.normal(0, 0.1, 200))
    assert better.p < 0.01 and better.low > 0
    apart = [significance.difference(rng.random(40), rng.random(40), seed=i).p for i in range(60)]
    assert 0.25 < np.mean(np.array(apart) < 0.5) < 0.75  # p is uniform where there is no difference


@pytest.mark.slow
def test_the_command_line(tmp_path):
    run, qrels = random_run(0)
    for name, some in (("one", run), ("two", {q: dict(list(row.items())[::2]) for q, row in run.items()})):
        (tmp_path / name).write_text("".join(f"{q} Q0 {d} 1 {s} x\n" for q, row in some.items() for d, s in row.items()))
    (tmp_path / "qrels").write_text("".join(f"{q} 0 {d} {g}\n" for q, row in qrels.items() for d, g in row.items()))
    command = ["evaluate.py", "--qrels_file", tmp_path / "qrels", "--run_file", tmp_path / "one"]
    means = trec_metrics.means(trec_metrics.per_query(run, qrels, ["mrr@10", "ndcg@10"]))
    assert succeed(*command, "--metrics", "mrr@10", "ndcg@10", cwd=tmp_path).splitlines() == [
        f"{name}={round(100 * value, 3)}" for name, value in means.items()]
    assert "hole@10" in succeed(*command, tmp_path / "two", cwd=tmp_path)
    text = succeed(*command, tmp_path / "two", "--compare", "--metrics", "ndcg@10", cwd=tmp_path)
    assert "95 % bootstrap interval over 12 queries" in text and text.count("p=") == 1
    assert "--run_file needs --qrels_file" in fail("evaluate.py", "--run_file", tmp_path / "one")
    assert "give either" in fail("evaluate.py", "--qrels_file", tmp_path / "qrels")
    (tmp_path / "other").write_text("q9 0 D1 1\n")
    assert "was it written for others?" in fail("evaluate.py", "--qrels_file", tmp_path / "other", "--run_file",
                                                tmp_path / "one")
    assert not (tmp_path / "result.tsv").exists()
