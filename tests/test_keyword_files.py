"""A keyword index on the disk, its terms and keys."""

import numpy as np
import pytest
from conftest import fail, succeed
from test_keyword import fresh, some_texts, split

from semindex import manifest
from semindex.errors import UserError
from semindex.search.keyword import KeywordIndex, KeywordSettings
from semindex.search.postings import Postings
from semindex.text.terms import term_keys


@pytest.mark.parametrize("text", ["信用卡额度", "iPhone14 Pro_max 5G网络", "É CAFÉ ß ΣΑΣ", "a１２三𠮷", "x" * 40, "ab cd", "", "\n。 \t"])
def test_terms_are_characters_pairs_and_whole_latin_words(text):
    """Equal keys for equal terms and no others; a text's terms do not depend on its neighbours."""
    texts = ["前文ab", text, "12后文"]
    owner, keys = term_keys(texts, "bigram")
    np.testing.assert_array_equal(owner, np.repeat([0, 1, 2], [len(split(t)) for t in texts]))
    names = [term for t in texts for term in split(t)]
    assert len(dict(zip(names, keys.tolist()))) == len(set(zip(names, keys.tolist()))) == len(set(keys.tolist()))


@pytest.mark.slow
def test_words_are_jiebas():
    jieba = pytest.importorskip("jieba")
    texts = ["信用卡怎么还款 Visa", "", "还款 额度"]
    owner, keys = term_keys(texts, "word")
    names = [(place, word) for place, text in enumerate(texts) for word in jieba.lcut(text.lower()) if word.strip()]
    assert owner.tolist() == [place for place, _ in names]
    assert len(set(keys.tolist())) == len({word for _, word in names}) == len(set(zip((w for _, w in names), keys.tolist())))


def test_keys_of_many_terms_differ():
    chars = [chr(0x4E00 + place) for place in range(700)]
    texts = [a + b for a in chars for b in chars] + [str(number) for number in range(200_000)]
    _, keys = term_keys(texts, "bigram")
    assert len(np.unique(keys)) == 700 + 700 * 700 + 200_000


def test_the_fingerprint_tells_contents_and_settings_apart():
    base = fresh({0: "卡丢了", 1: "额度"}).fingerprint()
    assert fresh({1: "额度", 0: "卡丢了"}).fingerprint() == base
    others = [fresh({0: "卡丢了", 2: "额度"}), fresh({0: "额度", 1: "卡丢了"}), fresh({0: "卡丢了", 1: "额度额度"}),
              fresh({0: "卡丢了"}), fresh({0: "卡丢了", 1: "额度"}, KeywordSettings(b=0.5)),
              fresh({0: "卡丢了", 1: "额度"}, KeywordSettings("word"))]
    assert len({base, *(other.fingerprint() for other in others)}) == 7


def test_a_saved_index_is_mapped_checked_and_replaced(tmp_path):
    index, directory = KeywordIndex.build(some_texts(2000, 9)), tmp_path / "index"
    index.save(directory)
    loaded = KeywordIndex.load(directory)
    assert loaded.settings == index.settings
    for name in Postings.arrays:
        array = getattr(loaded.parts[0], name)
        assert isinstance(array.base, np.memmap) or isinstance(array.base.base, np.memmap), name
        with pytest.raises(ValueError):
            array[:1] = 0
    before = loaded.search(["怎么还款"], 5)
    index.remove([0, 1])
    index.save(directory)  # another process goes on with the files that it has open
    np.testing.assert_array_equal(loaded.search(["怎么还款"], 5), before)
    assert len(KeywordIndex.load(directory)) == 1998
    with pytest.raises(UserError, match="is there, but is no keyword"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").write_text("a user's")
        index.save(tmp_path / "other")
    with pytest.raises(UserError, match="no keyword index"):
        KeywordIndex.load(tmp_path / "absent")


@pytest.mark.parametrize("name", ["slots.npy", "keyword.json", "starts.npy", "manifest.json"])
def test_an_altered_file_is_refused(tmp_path, name):
    index = KeywordIndex.build(some_texts(50, 10))
    index.save(tmp_path / "index")
    path = tmp_path / "index" / name
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    with pytest.raises(UserError, match=name):
        KeywordIndex.load(tmp_path / "index")
    path.unlink()
    with pytest.raises(UserError):
        KeywordIndex.load(tmp_path / "index")


@pytest.mark.parametrize("change", [{"k1": -1}, {"tokens": "trigram"}, {"count": 49}, {"format": 99}, {"mark": None}])
def test_fields_are_checked(tmp_path, change):
    import json

    index, path = KeywordIndex.build(some_texts(50, 10)), tmp_path / "index" / "keyword.json"
    index.save(tmp_path / "index")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (tmp_path / "index" / "manifest.json").unlink()
    manifest.write(str(tmp_path / "index"), "keyword")
    with pytest.raises(UserError, match="keyword.json"):
        KeywordIndex.load(tmp_path / "index")


def test_unknown_terms_are_refused():
    with pytest.raises(UserError, match="tokens letters: unknown"):
        KeywordIndex(KeywordSettings("letters"))


def test_recall_keeps_the_index_of_a_corpus(tmp_path):
    """Built once, used again with the same result, refused for another corpus or other terms, replaced when told to."""
    (tmp_path / "corpus.csv").write_text("".join(f"{text}\n" for text in some_texts(40, 0)), encoding="utf-8")
    (tmp_path / "pairs.csv").write_text("".join(f"{text}\t{text}了\n" for text in some_texts(40, 0)[:9]), encoding="utf-8")

    def recall(*flags, run=succeed, name="one"):
        return run("recall.py", "--device", "cpu", "--method", "keyword", "--corpus_file", "corpus.csv", "--similar_text_pair",
                   "pairs.csv", "--recall_result_file", name, "--keyword_dir", "kept", *flags, cwd=tmp_path)

    assert "keyword index saved in kept" in recall()
    assert "keyword index of kept reused" in recall(name="two")
    one, two = ((tmp_path / "recall_result" / name).read_bytes() for name in ("one", "two"))
    assert one == two and one
    assert "--keyword_dir kept: was built with other --tokens, --k1 or --b" in recall("--k1", 2, run=fail)
    assert "saved in kept" in recall("--k1", 2, "--rebuild_index") and "reused" in recall("--k1", 2)
    with open(tmp_path / "corpus.csv", "a", encoding="utf-8") as file:
        file.write("又一条\n")
    assert "--keyword_dir kept: was built with another corpus" in recall("--k1", 2, run=fail)
    (tmp_path / "kept" / "keyword.json").write_text("{}")
    assert "kept" in recall("--k1", 2, run=fail)
    KeywordIndex.build(["别的"]).save(tmp_path / "faqs")  # of nobody's corpus
    assert "another corpus" in recall("--keyword_dir", "faqs", run=fail)


@pytest.mark.parametrize(("flag", "value"), [("--keyword_dir", "kept"), ("--tokens", "word"), ("--k1", 2)])
def test_flags_of_keyword_search_want_it(tmp_path, flag, value):
    assert f"{flag}: is of keyword search, which --method dense has not" in fail(
        "recall.py", "--params_path", "none", "--corpus_file", "c", "--query", "x", flag, value, cwd=tmp_path)


def test_a_faq_is_searched_as_it_was_made(tmp_path):
    assert "--tokens: goes with --corpus_file" in fail(
        "calibrate.py", "--faq_dir", "faq", "--questions_file", "questions.tsv", "--tokens", "word", cwd=tmp_path)
