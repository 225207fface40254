"""Prompts by side: kept in the checkpoint, applied wherever a text is a query or a passage."""

import json

import numpy as np
import pytest
from conftest import TRAIN, fail, succeed
from letters import Letters, rows_of

from data import TrainingSet
from models import loading
from models.encoders import dynamic
from semindex.encode.pairs import cosines, pair_cosines
from semindex.encode.text_encoder import TextEncoder, chosen_side
from semindex.errors import UserError
from semindex.measure.recall import RecallEvaluator
from semindex.search.index import IndexSettings
from semindex.text.corpus import Corpus
from semindex.text.prompts import Prompts

BOTH = Prompts("q:", "p:")


def ids(text):
    return [1, *map(ord, text), 2]


def columns(samples, prompts, **options):
    """The token ids of each text of the first batch, column after column."""
    data = TrainingSet.from_samples(samples, Letters(), 8, prompts=prompts, seed=1, **options)
    batch = data.batch(np.arange(len(samples)))
    rows = [[int(i) for i in row if i] for chunk in batch.chunks for row in chunk]
    return [rows[place] for place in batch.order], data


@pytest.mark.parametrize("prompts, asked, answered", [
    (BOTH, "q:", "p:"), (Prompts("q:", "p:", True), "q:", "q:"), (Prompts("q:"), "q:", ""), (Prompts(), "", "")])
def test_in_training_queries_and_passages_have_their_own(prompts, asked, answered):
    """The same text on both sides is one text to the mask of false negatives, and two to the encoder."""
    samples = [["a", "b", "c"], ["b", "a", "d"]]
    rows, data = columns(samples, prompts)
    assert rows == [ids(asked + "a"), ids(asked + "b"), *(ids(answered + text) for text in ("b", "a", "c", "d"))]
    assert data.shared_texts() == 2
    mask = data.positives.mask(data.batch(np.arange(2)).ids)
    assert mask[:, :2].tolist() == [[False, True], [True, False]]


def test_texts_alone_are_queries():
    assert columns([["a"], ["b"]], BOTH)[0] == [ids("q:a"), ids("q:b")] * 2


class Seen:
    """An engine that notes the ids it is given and returns a unit vector of each."""

    def __init__(self):
        self.texts = []

    def __call__(self, batch):
        rows = [[int(i) for i in row if i] for row in batch]
        self.texts += ["".join(map(chr, row[1:-1])) for row in rows]
        angles = np.array([sum(row) for row in rows], np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_evaluation_and_pairs_take_sides():
    seen = Seen()
    encoder = TextEncoder(seen, Letters(), 2, prompts=BOTH)
    RecallEvaluator([["a", "b"]], Corpus.from_texts(["b", "c"]), 2, IndexSettings())(encoder)
    assert sorted(seen.texts) == ["p:b", "p:c", "q:a"]
    seen.texts = []
    found = pair_cosines(encoder, [["a", "b"], ["b", "a"], ["a", "b"]], alone=True)
    assert sorted(seen.texts) == ["p:a", "p:b", "q:a", "q:b"]
    np.testing.assert_allclose(found[:1], cosines(encoder.side("query")(["a"]), encoder.side("passage")(["b"])), atol=1e-6)
    seen.texts = []
    encoder = TextEncoder(seen, Letters(), 2, prompts=Prompts("q:", "p:", True))
    pair_cosines(encoder, [["a", "b"], ["b", "a"]], alone=True)
    assert sorted(seen.texts) == ["q:a", "q:b"]


def test_a_text_of_no_known_side_is_a_query_and_it_is_said(capsys):
    assert chosen_side("passage", BOTH) == "passage" and chosen_side(None, Prompts("q:", "p:", True)) == "query"
    assert capsys.readouterr().err == ""
    assert chosen_side(None, BOTH) == "query" and "--as passage" in capsys.readouterr().err


@pytest.fixture(scope="module")
def prompted(toy, tmp_path_factory):
    """A checkpoint trained with prompts."""
    path = tmp_path_factory.mktemp("prompted")
    succeed(*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", path, "--max_steps", 2, "--query_prompt", "问：",
            "--passage_prompt", "答：")
    return path / "latest"


@pytest.mark.slow
def test_the_checkpoint_keeps_them(prompted):
    settings = json.loads((prompted / "semantic_index.json").read_text())
    assert (settings["query_prompt"], settings["passage_prompt"]) == ("问：", "答：")
    assert "--query_prompt 'x' contradicts the checkpoint" in fail(
        "inference.py", "--params_path", prompted, "--text", "a", "--query_prompt", "x")
    model, tokenizer = loading.load(str(prompted), {})
    encoder = dynamic(model, tokenizer)
    np.testing.assert_allclose(encoder.side("query")(["退款"]), encoder(["问：退款"]), atol=1e-6)
    before = loading.fingerprint(str(prompted), model, tokenizer)
    model.settings.passage_prompt = ""
    assert loading.fingerprint(str(prompted), model, tokenizer) != before


@pytest.mark.slow
def test_a_vocabulary_made_of_texts_has_the_prompts_too():
    flags = {"query_prompt": "问：", "passage_prompt": "答：", "max_seq_length": 16}
    _, tokenizer = loading.create("scratch-1x32", flags, ["银行卡丢了"] * 2)
    ids = [tokenizer.prompted(prompt)(["卡"]).flat.tolist() for prompt in ("问：", "答：")]
    assert ids[0] != ids[1] and not {tokenizer.ids([""])[0][0]} & set(ids[0][1:])


def test_a_prompt_that_leaves_no_room_is_refused(prompted):
    with pytest.raises(UserError, match="--max_seq_length 4: the query prompt .* take"):
        loading.create("scratch-1x32", {"query_prompt": "请问这个问题怎么办", "max_seq_length": 4}, ["请问这个问题怎么办"] * 2)
    with pytest.raises(UserError, match="the .* prompt .* and the special tokens alone take"):
        loading.load(str(prompted), {"max_seq_length": 3})


def test_every_script_applies_them(toy, prompted, tmp_path):
    """Cosines of predict.py, of vectors by side, of the export and of the result file are one."""
    (tmp_path / "pairs").write_text("卡丢了\t退押金\n")
    (tmp_path / "corpus").write_text("退押金\n")
    (tmp_path / "query").write_text("卡丢了\n")
    found = [float(succeed("predict.py", "--params_path", prompted, "--text_pair_file", tmp_path / "pairs").split()[-1])]
    vectors = []
    for side, name in (("query", "query"), ("passage", "corpus")):
        succeed("inference.py", "--params_path", prompted, "--text_file", tmp_path / name, "--as", side, "--output_file",
                tmp_path / f"{name}.npy")
        vectors.append(np.load(tmp_path / f"{name}.npy"))
    found.append(float(cosines(*vectors)[0]))
    succeed("export_model.py", "--params_path", prompted, "--output_path", tmp_path / "out")
    found.append(float(succeed("deploy/python/predict.py", "--model_dir", tmp_path / "out", "--text_pair_file",
                               tmp_path / "pairs").split()[-1]))
    succeed("recall.py", "--params_path", prompted, "--corpus_file", tmp_path / "corpus", "--similar_text_pair",
            tmp_path / "pairs", "--recall_result_dir", tmp_path, "--recall_num", 1)
    found.append(float((tmp_path / "recall_result_file").read_text().split("\t")[2]))
    np.testing.assert_allclose(found, found[0], atol=1e-5)
    plain = tmp_path / "plain.npy"
    done = succeed("inference.py", "--params_path", prompted, "--text_file", tmp_path / "query", "--output_file", plain)
    assert "warning" not in done
    np.testing.assert_allclose(np.load(plain), vectors[0], atol=1e-6)


@pytest.mark.slow
def test_ance_tokenises_and_mines_with_them(toy, prompted, tmp_path):
    succeed("train_ance.py", "--init_from_ckpt", prompted, "--train_set_file", toy / "train.csv", "--save_dir",
            tmp_path / "run", "--max_steps", 4, "--refresh_steps", 2, "--batch_size", 8, "--data_dir", tmp_path / "data")
    about = json.loads((tmp_path / "data" / "collection.json").read_text())
    assert about["prompts"] == ["问：", "答："]
    from semindex.collection import store

    collection, tokenizer = store.load(str(tmp_path / "data")), loading.load(str(prompted), {})[1]
    asked = rows_of(tokenizer.prompted("问：")([next(iter(collection.texts))]))  # a text that is a query and a document
    assert asked[0] in rows_of(collection.query_tokens(np.arange(about["queries"])))
    assert rows_of(tokenizer.prompted("答：")([next(iter(collection.texts))]))[0] == rows_of(collection.passages)[0]
    assert "tokenised with the prompts" in fail("train_ance.py", "--init_from_ckpt", plain(toy, tmp_path),
                                                "--data_dir", tmp_path / "data", "--save_dir", tmp_path / "other")


def plain(toy, tmp_path):
    """A checkpoint of the same vocabulary without prompts."""
    succeed(*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "plain", "--max_steps", 1)
    return tmp_path / "plain" / "latest"
