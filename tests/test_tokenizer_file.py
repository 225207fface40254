"""tokenizer.json of every kind, by the library that it is made for."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from letters import rows_of
from test_tokenizer import TEXTS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from semindex.errors import UserError
from semindex.text.tokenizer_file import FileTokenizer, read_tokenizer

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]


def many(count=10_000):
    """Texts of every kind that the other tests use, cut and joined anew."""
    rng = random.Random(1)
    return [" ".join(text[rng.randrange(len(text) + 1):] for text in rng.choices(TEXTS, k=rng.choice([1, 1, 2, 3])))
            for _ in range(count)]


def made(kind):
    """A tokenizer of a kind, trained on the texts. Ids: <s> 1, text, </s> 2."""
    tokenizer, trainer, splitting = {
        "wordpiece": (Tokenizer(models.WordPiece(unk_token="<unk>")), trainers.WordPieceTrainer,
                      pre_tokenizers.BertPreTokenizer()),
        "bpe": (Tokenizer(models.BPE(unk_token="<unk>")), trainers.BpeTrainer, pre_tokenizers.ByteLevel()),
        "unigram": (Tokenizer(models.Unigram()), trainers.UnigramTrainer, pre_tokenizers.Metaspace())}[kind]
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFKC(), splitting
    more = {"unk_token": "<unk>"} if kind == "unigram" else {}
    tokenizer.train_from_iterator(TEXTS * 3, trainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False, **more))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>",
                                                             special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def directory(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    tokenizer = made(request.param)
    tokenizer.enable_padding(pad_id=3, length=9)  # what the file says of padding and length is not ours
    tokenizer.enable_truncation(5)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<pad>"}, "eos_token": "</s>"}))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("length", [8, 64])
def test_ids_are_the_librarys_own(directory, length):
    ours = read_tokenizer(str(directory), length)
    theirs = Tokenizer.from_file(str(directory / "tokenizer.json"))
    theirs.no_padding()
    theirs.enable_truncation(length)
    texts = many()
    assert rows_of(ours(texts)) == [encoding.ids for encoding in theirs.encode_batch(texts)]
    assert ours.pad_id == 0 and ours.separator == "</s>" and ours.cut == int((ours(texts).lengths >= length).sum())
    assert ours.with_length(5)(["的 卡 丢 了 吗"]).lengths == [5] and rows_of(ours.with_length(5)(["卡 丢 了 吗"]))[0][-1] == 2


def test_a_prompt_stands_before_every_text(directory):
    ours = read_tokenizer(str(directory), 32)
    asked = ours.prompted("query: ")
    assert rows_of(asked(TEXTS)) == rows_of(ours([f"query: {text}" for text in TEXTS]))
    assert ours.prompt == "" and ours.prompted("") is ours


def test_a_saved_one_gives_the_same_ids(directory, tmp_path):
    ours = read_tokenizer(str(directory), 32)
    ours.save(str(tmp_path))
    again = read_tokenizer(str(tmp_path), 32)
    np.testing.assert_array_equal(ours(TEXTS).flat, again(TEXTS).flat)
    assert again.identity() == ours.identity() and again.pad_id == ours.pad_id
    assert read_tokenizer(str(tmp_path / "none"), 32) is None


def test_identity_follows_the_pieces_not_the_padding(directory):
    ours = read_tokenizer(str(directory), 32)
    content = json.loads(ours.content)
    content["padding"] = None
    assert FileTokenizer(json.dumps(content), 32, 0).identity() == ours.identity()
    content["normalizer"] = None
    assert FileTokenizer(json.dumps(content), 32, 0).identity() != ours.identity()


@pytest.mark.parametrize("content, error", [
    ("", "cannot be read as a tokenizer"), ("{}", "cannot be read as a tokenizer"), ("[1]", "cannot be read"),
    ('{"version": "1.0", "model": {"type": "Unigram", "vocab": [], "unk_id": 7}}', "cannot be read as a tokenizer")])
def test_a_damaged_file_is_one_line(tmp_path, content, error):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=error):
        read_tokenizer(str(tmp_path), 32)


def test_a_byte_that_is_no_utf8_is_no_other_piece(directory, tmp_path):
    content = (Path(directory) / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(content.replace("卡".encode(), "卡".encode()[:2] + b"\xff") if "卡".encode() in content
                                              else content[:-2] + b"\xff" + content[-2:])
    with pytest.raises(UserError, match="is no UTF-8"):
        read_tokenizer(str(tmp_path), 32)


def test_the_padding_comes_from_the_files(tmp_path):
    tokenizer = made("wordpiece")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="no padding token is known; name it in tokenizer_config.json"):
        read_tokenizer(str(tmp_path), 32)
    (tmp_path / "config.json").write_text('{"pad_token_id": 4}')
    assert read_tokenizer(str(tmp_path), 32).pad_id == 4
    tokenizer.enable_padding(pad_id=3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(str(tmp_path), 32).pad_id == 3
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "<pad>"}')
    assert read_tokenizer(str(tmp_path), 32).pad_id == 0
    with pytest.raises(UserError, match="--max_seq_length 2: .* adds 2 special tokens"):
        read_tokenizer(str(tmp_path), 2)
