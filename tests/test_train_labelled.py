"""Training on labelled pairs: dealing, checks, the script, what its evaluation keeps."""

import json
import os
from argparse import Namespace

import numpy as np
import paddle
import pytest
from conftest import FRAMES, ROOT, SUBJECTS, TRAIN, fail, succeed
from hypothesis import given
from hypothesis import strategies as st
from letters import Letters
from test_checkpoints import Scores
from test_trainer import assert_same, schedule

from data import TrainingSet, deal_balanced
from models.encoders import dynamic
from models.export import export
from models.heads.contrastive import OnlineContrastive
from models.loading import create, load
from models.settings import read_settings
from semindex.encode.exported import Predictor
from semindex.encode.verdict import judged
from semindex.errors import UserError
from semindex.measure.evaluator import SequentialEvaluator
from semindex.measure.labelled import BinaryEvaluator, at_threshold, binary_metrics
from semindex.measure.score_files import of_scores
from training import labelled
from training.trainer import train

REFERENCE = json.loads((ROOT / "tests" / "reference" / "labelled.json").read_text(encoding="utf-8"))["thresholds"]
TEXTS = [[frame.format(subject) for frame in FRAMES] for subject in SUBJECTS]


@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda kinds: len(set(kinds)) == 2),
       st.integers(1, 6).map(lambda half: 2 * half), st.integers(0, 3))
def test_balanced_batches_hold_as_many_of_each_kind(kinds, size, seed):
    kinds = np.array(kinds)
    batches = deal_balanced(kinds, size, np.random.default_rng(seed))
    assert all(kinds[batch].sum() * 2 == len(batch) for batch in batches)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1) and len(batches[-1]) <= size
    uses = np.bincount(np.concatenate(batches), minlength=len(kinds))
    larger = kinds == (kinds.sum() * 2 >= len(kinds))
    assert (uses[larger] == 1).all() and uses[~larger].max() - uses[~larger].min() <= 1 and uses.sum() == 2 * larger.sum()


def made(samples, labels, **options):
    return TrainingSet.from_samples(samples, Letters(), 4, alike=labels > 0, labels=labels, **options)


def test_balanced_order_follows_seed_and_epoch_and_is_the_same_on_every_process():
    labels = np.array([1.0] * 5 + [0] * 13)
    samples = [[f"a{i}", f"b{i}"] for i in range(18)]
    plans = {(seed, epoch, rank): [batch.tolist() for batch in made(samples, labels, seed=seed, rank=rank, world=2, balanced=True)
                                   .plan(epoch)] for seed in (1, 2) for epoch in (0, 1) for rank in (0, 1)}
    assert plans[1, 0, 0] == plans[1, 0, 1] and plans[1, 0, 0] != plans[1, 1, 0] != plans[2, 1, 0]
    data = made(samples, labels, balanced=True)
    assert data.batch(data.plan(0)[0]).labels.tolist() == [1, 0, 1, 0]


def test_texts_of_pairs_that_do_not_match_are_negatives_and_known_positives_are_masked():
    samples = [["q", "p"], ["q", "x"], ["p", "z"], ["r", "q"], ["s", "y"]]
    data = made(samples, np.array([1.0, 0, 1, 0, 1]))
    mask = data.mask(data.batch(np.arange(5)).ids)
    # candidates:            p      x      z      q      y
    assert mask.tolist() == [[False, False, True, True, False],  # of q, p: z stands with p, q is the query itself
                             [True, False, False, True, False],  # of q, x, which are no pair: p stands with q
                             [True, False, False, True, False],  # of p, z
                             [True, False, False, False, False],
                             [False, False, False, False, False]]


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["case"])
def test_thresholds_are_those_of_sentence_transformers(case):
    scores, labels = np.array(case["scores"]), np.array(case["labels"])
    found = binary_metrics(scores, labels)
    for name, value in found.items():
        wanted = case[name] if name.endswith("threshold") else 100 * case[name]
        assert value == pytest.approx(wanted, abs=1e-9 if name.endswith("threshold") else 6e-4), name
    best = at_threshold(scores, labels, found["f1_threshold"])
    assert {name: found[name] for name in ("f1", "precision", "recall")} == {name: best[name] for name in ("f1", "precision", "recall")}
    assert at_threshold(scores, labels, found["accuracy_threshold"])["accuracy"] == found["accuracy"]


def test_a_threshold_by_hand():
    # ranked 0.9+ 0.8+ 0.5- 0.4+ 0.1-: after 0.4 F1 = 6/7, after 0.8 4/5; accuracy is 4/5 after both, the first counts
    found = binary_metrics(np.float32([0.5, 0.9, 0.1, 0.4, 0.8]), np.array([0, 1, 0, 1, 1]))
    assert found["f1_threshold"] == pytest.approx(0.25) and found["accuracy_threshold"] == pytest.approx(0.65)
    assert (found["f1"], found["accuracy"], found["precision"], found["recall"]) == (85.714, 80.0, 75.0, 100.0)
    assert found["average_precision"] == pytest.approx(100 * (1 / 3 + 1 / 3 + 3 / 4 / 3), abs=1e-3)


def test_evaluators_in_sequence():
    class Other(Scores):
        metrics, main_metric = ["f1"], "f1"

        def __call__(self, encoder):
            return {"f1": 1.0, "f1_threshold": 0.3}

    both = SequentialEvaluator([Scores(7.0), Other()])
    assert both.metrics == ["recall@10", "f1"] and both.main_metric == "recall@10"
    assert both(None) == {"recall@10": 7.0, "f1": 1.0, "f1_threshold": 0.3}
    with pytest.raises(ValueError, match="recall@10 twice"):
        SequentialEvaluator([Scores(), Scores()])


def args(**values):
    return Namespace(**{"loss": "contrastive", "margin": None, "form": None, "skip_equal": False, "scale": None, "temperature": None,
                        "balanced": False, "batch_size": 8, "false_negatives": "mask", "skip_bad_lines": False} | values)


def written(path, rows):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("loss", "labels", "message"), [
    ("contrastive", [1, 0.5], ":2: the label is 0.5, expected 0 or 1 with --loss contrastive"),
    ("online_contrastive", [2, 0], ":1: the label is 2"), ("multiple_negatives", [0, -1], "expected a number from 0 to 1"),
    ("cosine", [0, -1.5], "expected a number from -1 to 1"), ("hinge", [1, 1], "all labels are 1"),
    ("cosent", [3, 3], "all labels are 3"), ("multiple_negatives", [0, 0], "nothing to rank"),
])
def test_labels_that_a_loss_does_not_read_are_refused(tmp_path, loss, labels, message):
    path = written(tmp_path / "f.csv", [["a", f"b{i}", label] for i, label in enumerate(labels)])
    given_args = args(loss=loss, train_set_file=path)
    with pytest.raises(UserError, match=message):
        labelled.read_samples(given_args, labelled.head(given_args))


@pytest.mark.parametrize(("flags", "message"), [
    ({"loss": "cosine", "margin": 0.2}, "--margin: --loss cosine does not read it, contrastive, online_contrastive, hinge do"),
    ({"scale": 2.0}, "--scale: --loss contrastive"), ({"skip_equal": True}, "--skip_equal"),
    ({"loss": "cosent", "form": "document"}, "--form"), ({"balanced": True, "batch_size": 7}, "cannot be halved"),
    ({"balanced": True, "false_negatives": "no_duplicates"}, "leave one of them out"),
])
def test_flags_that_do_not_belong_together_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        labelled.head(args(**flags))


def test_files_that_hold_no_labels_or_one_kind_are_refused(tmp_path):
    for rows, message in (([["a", "b"]], "2 columns; expected text<TAB>text<TAB>label"), ([["a", "b", "c"]], "holds texts")):
        with pytest.raises(UserError, match=message):
            labelled.read_samples(args(train_set_file=written(tmp_path / "f.csv", rows)), labelled.head(args()))
    with pytest.raises(UserError, match="--balanced needs"):
        labelled.read_samples(args(balanced=True, train_set_file=written(tmp_path / "f.csv", [["a", "b", 1]] * 2)),
                              labelled.head(args()))


def test_the_flags_reach_the_heads():
    for flags, wanted in (({}, {"margin": 0.5, "form": "document"}),
                          ({"loss": "online_contrastive", "margin": 0.3, "form": "sentence_transformers"},
                           {"margin": 0.3, "form": "sentence_transformers"}),
                          ({"loss": "multiple_negatives", "temperature": 0.1}, {"scale": 10.0}), ({"loss": "cosine"}, {}),
                          ({"loss": "hinge", "skip_equal": True}, {"margin": 0.5, "skip_equal": True}),
                          ({"loss": "cosent", "scale": 7.0}, {"scale": 7.0})):
        head = labelled.head(args(**flags))
        assert head.settings() == wanted and head.name == flags.get("loss", "contrastive")


def test_scores_are_held_against_labels_line_by_line(tmp_path, capsys):
    pairs = written(tmp_path / "pairs.csv", [["a", "b", 1], ["a", "c", 0], [], ["d", "e", 1], ["d", "f", 0], ["g", "h", 1]])
    scores = written(tmp_path / "scores.txt", [["0.9", "1"], ["0.2", "0"], ["nan"], ["0.7", "1"], ["0.8", "1"], ["nan"]])
    asked = Namespace(labelled_file=pairs, score_file=[scores], threshold=None, skip_bad_lines=False)
    found = of_scores(asked)[scores]
    assert found["f1"] == 80.0 and found["f1_threshold"] == pytest.approx(0.45) and "spearman" in found
    assert "1 pair has no score" in capsys.readouterr().err
    asked.threshold = 0.75
    assert of_scores(asked)[scores] | {"spearman": 0, "pearson": 0} == {
        "average_precision": 83.333, "accuracy": 50.0, "f1": 50.0, "precision": 50.0, "recall": 50.0, "spearman": 0, "pearson": 0}
    asked.score_file = [written(tmp_path / "short.txt", [["0.9"]])]
    with pytest.raises(UserError, match="holds 1 score, .* 6 lines"):
        of_scores(asked)


def test_verdicts():
    assert judged(np.float32([0.5, 0.25]), 0.5) == ["0.5\t1", "0.25\t0"] and judged(np.float32([0.5]), None) == ["0.5"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Labelled files of the toy's subjects, a corpus."""
    place = tmp_path_factory.mktemp("labelled")
    rows = {"train": [], "dev": []}
    for i, row in enumerate(TEXTS):
        other = TEXTS[(i + 1) % len(TEXTS)]
        rows["train"] += [[row[0], row[1], 1], [row[0], other[1], 0], [row[1], other[0], 0]]
        rows["dev"] += [[row[2], row[3], 1], [row[2], other[3], 0]]
    for name, found in rows.items():
        written(place / f"{name}.csv", found)
    (place / "corpus.csv").write_text("".join(f"{text}\n" for row in TEXTS for text in (row[0], row[1], row[3])), encoding="utf-8")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("loss", labelled.LOSSES)
def test_every_loss_learns_what_the_labels_say(tmp_path, loss):
    """Texts of one frame match, those of one subject do not: random weights find the opposite."""
    def pairs(subjects):
        rows = [[a[i], b[j], float(i == j)] for a, b in zip(subjects, subjects[1:] + subjects[:1]) for i in range(4) for j in (i, 3 - i)]
        rows += [[a[i], a[3 - i], 0.0] for a in subjects for i in range(4)]
        return [row[:2] for row in rows], np.array([row[2] for row in rows])

    samples, labels = pairs(TEXTS[:8])
    paddle.seed(3)
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 16, "max_seq_length": 24, "dropout": 0.0}, sum(TEXTS, []), head_dropout=0.0)
    data = TrainingSet.from_samples(samples, tokenizer, 16, seed=1, labels=labels, alike=labels > 0, balanced=True)
    evaluator = BinaryEvaluator(*pairs(TEXTS[8:]))
    before = evaluator(dynamic(model, tokenizer))["average_precision"]
    train(model, tokenizer, labelled.head(args(loss=loss)), data, schedule(tmp_path, epochs=6, save_steps=0, learning_rate=3e-3))
    after = evaluator(dynamic(model, tokenizer))["average_precision"]
    assert before < 60 and after > before + 20, (before, after)


@pytest.mark.slow
def test_the_best_checkpoint_keeps_its_threshold_and_prediction_export_and_evaluation_use_it(pairs, tmp_path):
    flags = ("--train_set_file", pairs / "train.csv", "--dev_set_file", pairs / "dev.csv", "--epochs", 4)
    out = succeed("train_labelled.py", *TRAIN[1:], *flags, "--save_dir", tmp_path / "c", "--save_steps", 3)
    best = tmp_path / "c" / "best"
    threshold = read_settings(str(best)).threshold
    assert f"f1_threshold={threshold:.4f}" in out and "best average_precision" in out
    steps = {name: read_settings(str(tmp_path / "c" / name)).threshold for name in os.listdir(tmp_path / "c") if "model_" in name}
    assert steps["model_3"] is None and steps[os.readlink(best)] == threshold  # no evaluation came before step 3
    succeed("predict.py", "--device", "cpu", "--params_path", best, "--text_pair_file", pairs / "dev.csv", "--threshold",
                      "auto", "--output_file", tmp_path / "scores.txt")
    rows = [line.split("\t") for line in (tmp_path / "scores.txt").read_text().splitlines()]
    assert len(rows) == 24 and all((float(cosine) >= threshold) == (verdict == "1") for cosine, verdict in rows)
    shown = json.loads(succeed("evaluate.py", "--labelled_file", pairs / "dev.csv", "--score_file", tmp_path / "scores.txt",
                               "--format", "json"))
    assert shown["f1_threshold"] == pytest.approx(threshold, abs=1e-3)
    at = json.loads(succeed("evaluate.py", "--labelled_file", pairs / "dev.csv", "--score_file", tmp_path / "scores.txt",
                            "--format", "json", "--threshold", threshold))
    assert at["f1"] == pytest.approx(shown["f1"], abs=0.01)
    model, tokenizer = load(str(best), {})
    export(model, tokenizer, str(tmp_path / "export"), ["paddle"], str(best))
    assert Predictor(str(tmp_path / "export")).threshold == threshold
    # A resumed run goes on, whatever threshold stands in the checkpoint; one that is trained further has another.
    again = succeed("train_labelled.py", *TRAIN[1:], *flags, "--save_dir", tmp_path / "c", "--resume")
    assert "trained" in again
    none = tmp_path / "none"
    succeed(*TRAIN, "--init_from_ckpt", best, "--train_set_file", pairs_alone(pairs, tmp_path), "--save_dir", none, "--max_steps", 2)
    assert "keeps no threshold" in fail("predict.py", "--device", "cpu", "--params_path", none / "latest", "--text_pair_file",
                                        pairs / "dev.csv", "--threshold", "auto")


def pairs_alone(pairs, tmp_path):
    rows = [line.split("\t")[:2] for line in (pairs / "train.csv").read_text(encoding="utf-8").splitlines()]
    return written(tmp_path / "pairs.csv", rows)


@pytest.mark.slow
def test_with_a_corpus_recall_chooses_and_all_metrics_are_there(pairs, tmp_path):
    flags = (*TRAIN[1:], "--train_set_file", pairs / "train.csv", "--dev_set_file", pairs / "dev.csv", "--corpus_file",
             pairs / "corpus.csv", "--epochs", 2, "--recall_num", 10, "--loss", "cosent")
    out = succeed("train_labelled.py", *flags, "--save_dir", tmp_path / "a")
    assert "best recall@10" in out
    for name in ("recall@1", "average_precision", "f1", "spearman", "pearson"):
        assert f"{name}=" in out, name
    assert "best pearson" in succeed("train_labelled.py", *flags, "--save_dir", tmp_path / "b", "--best_metric", "pearson")
    assert "recall@5, recall@10, mrr@10, average_precision, accuracy" in fail(
        "train_labelled.py", *flags, "--save_dir", tmp_path / "c", "--best_metric", "ndcg")


@pytest.mark.slow
def test_a_balanced_run_resumes_exactly(tmp_path):
    samples = [[row[i], other[1]] for row in TEXTS for i, other in ((0, row), (2, row), (0, TEXTS[0]), (1, TEXTS[5]))]
    labels = np.array([1.0, 1, 0, 0] * len(TEXTS))

    def run(name, stop=0, seed=0, balanced=True, **more):
        paddle.seed(seed)
        model, tokenizer = create("scratch-1x32", {"output_emb_size": 16, "max_seq_length": 24}, sum(TEXTS, []))
        data = TrainingSet.from_samples(samples, tokenizer, 8, seed=1, labels=labels, alike=labels > 0, balanced=balanced)

        def stopping(trainer):
            if stop and trainer.run.number == stop:
                raise KeyError
            return "", {}

        return train(model, tokenizer, OnlineContrastive(), data, schedule(tmp_path / name, **more), callback=stopping)

    run("whole")
    with pytest.raises(KeyError):
        run("part", stop=4)
    with pytest.raises(UserError, match="made with balanced True, now it is False"):
        run("part", balanced=False, resume=True)
    run("part", seed=99, resume=True)
    assert_same(tmp_path / "whole" / "latest", tmp_path / "part" / "latest")


def test_the_script_names_every_loss():
    import train_labelled

    option = next(action for action in train_labelled.parser()._actions if action.dest == "loss")
    assert list(option.choices) == list(labelled.LOSSES)
