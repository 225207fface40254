import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddlenlp.transformers import BertTokenizer, ErnieTokenizer
from tokenizers import Regex, normalizers, pre_tokenizers

from models.weights.scratch import make_vocabulary
from semindex.text.paddlenlp_tokenizer import PaddlenlpTokenizer
from semindex.text.wordpiece import PLAIN, split_words

TEXTS = [
    "我的银行卡丢了怎么办", "APP打不开，提示error 404", "余额￥100.50→转账½", "Ünïcödé Straße İstanbul ΣΑΣ", "", " ", "😀👍🏽开心🫨",
    "tab\there\u3000全角　空格", "control\x00\x07\x1bchars\ufffd", "zero\u200bwidth\u200djoiner\ufeff", "[CLS]注入[SEP] [MASK][PAD]x[UNK]",
    "a" * 150, "很长" * 400, "〇一二三 ㊙ ①②③ ℃ № ™", "한국어 カタカナ ひらがな", "हिन्दी ภาษาไทย עברית", "don't U盾、pos机；(测试)【】《》——……",
    "𠀀𪚥 生僻字䶮", "e\u0301 combining", "ǅ ﬁ ligature", "A²B µm ºC ŋ Ŋ", "line\u2028sep\u2029para", "http://a.b/c?d=e&f=1#g 50%OFF!!!",
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("v") / "vocab.txt"
    path.write_text("\n".join(make_vocabulary(TEXTS + ["##ing un aff able e u i o s ss ß"] * 3)) + "\n", encoding="utf-8")
    return str(path)


def loaded(kind, vocabulary, lower=True):
    """As from a checkpoint: only then does paddlenlp know special tokens within a text."""
    directory = tempfile.mkdtemp(dir=Path(vocabulary).parent)
    kind(vocabulary, do_lower_case=lower).save_pretrained(directory)
    return kind.from_pretrained(directory)


@pytest.mark.parametrize("kind", [ErnieTokenizer, BertTokenizer])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("length", [8, 64])
def test_ids_are_paddlenlps(vocabulary, kind, lower, length):
    theirs = loaded(kind, vocabulary, lower)
    assert "[MASK]" in theirs.tokenize("a[MASK]b")
    ours = PaddlenlpTokenizer(theirs, length)
    assert ours._fast is not None
    got = ours(TEXTS)
    for i, text in enumerate(TEXTS):
        ids = got.flat[got.starts[i] : got.starts[i + 1]].tolist()
        assert ids == theirs(text, max_length=length, truncation=True)["input_ids"], repr(text)


def test_the_fast_path_is_really_taken(vocabulary):
    tokenizer = PaddlenlpTokenizer(ErnieTokenizer(vocabulary), 32)
    tokenizer._fast.split_in_python = lambda text: pytest.fail(f"slow for {text!r}")
    assert len(tokenizer(["我的银行卡，丢了！APP 打不开 ￥100", "退款？"])) == 2
    with pytest.raises(pytest.fail.Exception):
        tokenizer(["ok", "🫨"])


@pytest.mark.slow
def test_every_plain_character_splits_as_in_python(vocabulary):
    basic = ErnieTokenizer(vocabulary).basic_tokenizer
    normal = normalizers.BertNormalizer(lowercase=True)
    split = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(),
                                     pre_tokenizers.Split(Regex(r"\p{S}"), "isolated")])
    plain = [c for c in map(chr, range(0x20000)) if re.fullmatch(f"[{PLAIN}]", c)]
    assert len(plain) > 28_000
    for c in plain:
        text = f"a{c}b 中{c}1{c}"
        assert basic.tokenize(text) == [word for word, _ in split.pre_tokenize_str(normal.normalize_str(text))], hex(ord(c))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.slow
def test_every_character_splits_in_python_as_in_paddlenlp(vocabulary, lower):
    basic = ErnieTokenizer(vocabulary, do_lower_case=lower).basic_tokenizer
    for code in [*range(0x33480), *range(0xE0000, 0xE0200), *range(0x10FF00, 0x110000)]:  # the rest is unassigned
        if not 0xD800 <= code < 0xE000:
            text = f"a{chr(code)}b 中{chr(code)}1{chr(code)}"
            assert split_words(text, lower) == basic.tokenize(text), hex(code)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=80), length=st.integers(3, 40))
def test_any_text_has_paddlenlps_ids(vocabulary, text, length):
    theirs = loaded(ErnieTokenizer, vocabulary)
    assert PaddlenlpTokenizer(theirs, length)([text]).flat.tolist() == theirs(
        text, max_length=length, truncation=True)["input_ids"]


def test_texts_that_reach_the_maximum_are_counted(vocabulary):
    tokenizer = PaddlenlpTokenizer(ErnieTokenizer(vocabulary), 6)
    tokenizer(["很长很", "很长很长", "很长" * 9, ""])
    tokenizer(["很长" * 9])
    assert tokenizer.cut == 3


def test_other_tokenizers_take_their_own_path(vocabulary):
    class Mine(ErnieTokenizer):
        def _tokenize(self, text):
            return list(text.replace(" ", ""))

    theirs = Mine(vocabulary)
    ours = PaddlenlpTokenizer(theirs, 16)
    assert ours._fast is None
    got = ours(["银行 卡"])
    assert got.flat.tolist() == theirs("银行 卡")["input_ids"]


def test_no_texts():
    class Nothing:
        pad_token_id = 0

    assert len(PaddlenlpTokenizer(Nothing(), 8)([])) == 0


def test_vocabulary_is_the_same_each_time():
    texts = ["银行卡 card cards carding", "密码 password passwords", "①②"] * 5
    assert make_vocabulary(texts) == make_vocabulary(texts)
    assert make_vocabulary(texts)[:5] == ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    assert {"银", "密", "码"} <= set(make_vocabulary(["银行卡密码"]))


def test_ragged_types(vocabulary):
    got = PaddlenlpTokenizer(ErnieTokenizer(vocabulary), 16)(["银行", "卡"])
    assert got.flat.dtype == np.int32 and got.starts.tolist()[0] == 0
