"""What predict.py, inference.py and deploy/python/predict.py take and give, without a checkpoint where none is needed."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SUBJECTS, run

from models import encoders, export, loading
from semindex.encode.encoder import encode
from semindex.encode.exported import Predictor, read_manifest, similarity_of
from semindex.encode.pairs import cosines, pair_cosines
from semindex.encode.text_encoder import TextEncoder
from semindex.errors import UserError
from semindex.text.counted import counted, verb
from semindex.text.tables import ReadReport

DEPLOY = "deploy/python/predict.py"


@pytest.fixture(scope="module")
def dotted(tmp_path_factory):
    """A checkpoint for dot products, as train_ance.py --similarity dot makes them, and its export."""
    folder = tmp_path_factory.mktemp("dot")
    model, tokenizer = loading.create("scratch-1x32", {"similarity": "dot", "output_emb_size": 16}, SUBJECTS, "ance")
    model.eval()
    (folder / "run").mkdir()
    loading.save(model, tokenizer, str(folder / "run"))
    export.export(model, tokenizer, str(folder / "export"), ["paddle"], "x")
    return SimpleNamespace(run=folder / "run", export=folder / "export", encoder=encoders.dynamic(model, tokenizer))


def test_a_cosine_is_a_cosine_whatever_the_lengths():
    rows = np.random.default_rng(0).normal(size=[3000, 256]).astype(np.float32) * 1e3
    same = cosines(rows, rows * np.float32(7))
    assert same.dtype == np.float32 and same.max() <= 1 and same.min() > 0.99999
    assert cosines(rows, -rows).min() >= -1
    np.testing.assert_allclose(cosines(rows[:1], rows[1:2]), [rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])], rtol=1e-4)
    assert cosines(np.zeros([1, 4], np.float32), np.ones([1, 4], np.float32)) == [0]


def test_cosines_in_files_are_within_one_and_inner_products_as_they_are():
    products = np.array([1.0000001, 0.5, -1.0000002], np.float32)
    encoder = TextEncoder(lambda ids: ids, None, 1)
    assert encoder.scores(products).tolist() == [1, 0.5, -1]
    encoder.similarity = "dot"
    assert encoder.scores(products * 30).max() > 30


def test_a_dot_encoder_gives_cosines_and_says_so(dotted, tmp_path):
    (tmp_path / "pairs").write_text("卡丢了\t退押金\n卡丢了\t卡丢了\n", encoding="utf-8")
    assert np.linalg.norm(dotted.encoder(["卡丢了"])[0]) > 2  # an inner product would be far above 1
    for command in (["predict.py", "--device", "cpu", "--params_path", dotted.run], [DEPLOY, "--model_dir", dotted.export]):
        done = run(*command, "--text_pair_file", tmp_path / "pairs")
        assert done.returncode == 0, done.stderr
        other, same = map(float, done.stdout.split())
        assert -1 <= other < same <= 1 and same == pytest.approx(1, abs=1e-5)
        assert "trained for inner products" in done.stderr


def test_the_manifest_carries_the_similarity_and_old_ones_leave_it_to_the_settings(dotted):
    manifest = read_manifest(str(dotted.export))
    assert manifest["similarity"] == "dot" == Predictor(str(dotted.export)).similarity
    del manifest["similarity"]
    assert similarity_of(str(dotted.export), manifest) == "dot"
    assert similarity_of(str(dotted.export), manifest | {"files": {}}) == "cosine"
    with pytest.raises(UserError, match="similarity 'foo' is unknown"):
        similarity_of(str(dotted.export), manifest | {"similarity": "foo"})


def test_a_number_and_its_noun_agree():
    assert [counted(n, "text") for n in (0, 1, 2)] == ["0 texts", "1 text", "2 texts"]
    assert counted(2, "query", "queries") == "2 queries" and counted(1, "query", "queries") == "1 query"
    assert verb(1, "reaches", "reach") == "reaches" and verb(2, "reaches", "reach") == "reach"
    assert ReadReport("x", blank=1, bad=2).notes() == ", 1 blank line skipped, 2 malformed lines skipped"


def test_pairs_are_encoded_once_by_whatever_encodes(checkpoint):
    model, tokenizer = loading.load(str(checkpoint), {})
    encoder = encoders.dynamic(model, tokenizer)
    seen = []
    pairs = [["卡丢了", "退押金"], ["退押金", "卡丢了", "1"]]
    found = pair_cosines(encoder, pairs, lambda texts: seen.extend(texts) or encoder(texts))
    assert seen == ["卡丢了", "退押金"]
    np.testing.assert_allclose(found, pair_cosines(encoder, pairs), atol=1e-6)
    np.testing.assert_allclose(found[0], np.prod(encode(encoder, seen), axis=0).sum(), atol=1e-6)
