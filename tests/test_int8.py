"""Vectors in 8 bits: what they find, what they cost, and that the float32 vectors are read from where they lie."""

import json
import os

import numpy as np
import pytest
from conftest import succeed

from semindex.errors import UserError
from semindex.search import int8 as int8_module
from semindex.search import rows as rows_module
from semindex.search.directory import TextIndex, reusable_index
from semindex.search.exact import ExactIndex
from semindex.search.index import IndexSettings, engine, recall_of_index
from semindex.search.rows import Rows, in_memory, let_go
from semindex.text.corpus import Corpus

EVERY = pytest.mark.parametrize("kind", ["int8", "hnsw_int8"])


def uneven(rows, seed=0, width=64):
    """Unit vectors in clusters, some dimensions thirty times as wide as others, as those of trained encoders are."""
    rng = np.random.default_rng(seed)
    spread = np.exp(np.random.default_rng(7).normal(size=width))
    centres = np.random.default_rng(8).normal(size=[rows // 20 + 1, width])
    vectors = ((centres[rng.integers(0, len(centres), rows)] + rng.normal(size=[rows, width])) * spread).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def saved(index, directory):
    os.makedirs(directory)
    index.save(str(directory))
    return json.loads(json.dumps({"dimension": index.dimension, "count": len(index), "parameters": index.parameters()}))


@EVERY
@pytest.mark.parametrize("queries", [1, 3, 20, 200])
def test_recall_is_that_of_float32(kind, queries, tmp_path):
    """Every way of multiplying: one by one, a few, many. The scores are those of the float32 vectors."""
    vectors, asked = uneven(4000), uneven(max(queries, 20), seed=1)
    index = engine(kind).build(vectors)
    index = type(index).load(str(tmp_path / "a"), saved(index, tmp_path / "a"))
    truth, _ = ExactIndex.build(vectors).search(asked, 50)
    parts = [index.search(asked[start : start + queries], 50) for start in range(0, len(asked), queries)]
    found, scores = (np.concatenate(part) for part in zip(*parts))
    assert np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(found, truth)]) >= 0.99
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", asked, vectors[found]), atol=1e-5)


@EVERY
def test_what_was_calibrated_on_little_is_calibrated_anew(kind):
    """The first vectors are a thousandth as wide as the rest: ranges of theirs would keep nothing of those."""
    vectors = uneven(3000)
    index = engine(kind)(64)
    index.add(vectors[:1] / 1000)
    for start in range(1, 3000, 500):
        index.add(vectors[start : start + 500])
    assert recall_of_index(index, uneven(50, seed=1), 20) >= 0.97


def test_codes_are_a_quarter_of_the_vectors():
    count = 4 * int8_module.PACK  # of a last block that is not full the codes are kept twice
    index = engine("int8").build(uneven(count, width=256))
    kept = sum(block.nbytes for block in index.packed) + index.last.nbytes
    assert count * 256 <= kept < 1.3 * count * 256


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("places", [0, 1, 5, 40])
def test_threads_share_every_product_once(rows, places, threads):
    blocks = range(4096, 4096 * (places + 1), 4096)
    shares = int8_module._shares(rows, blocks, threads)
    done = sorted((row, place) for own, some in shares for row in range(rows)[own] for place in some)
    assert done == [(row, place) for row in range(rows) for place in blocks]
    assert len(shares) <= threads and 2 * len(shares) >= min(threads, rows * places) and all(some for _, some in shares)


@EVERY
def test_the_float32_vectors_stay_in_their_file(kind, tmp_path):
    np.save(tmp_path / "vectors.npy", uneven(2000))
    lent = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    index = engine(kind).build(lent)
    assert index._rows.lent is lent and not len(index._rows.later)
    loaded = type(index).load(str(tmp_path / "a"), saved(index, tmp_path / "a"))
    assert isinstance(loaded._rows.lent, np.memmap)
    np.testing.assert_array_equal(loaded.vectors_of(np.arange(2000)), lent)
    assert loaded.exact().rows is loaded._rows.lent  # to be compared with exact search costs no memory either


def test_pages_that_were_let_go_of_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "SMALL", 0)
    np.save(tmp_path / "vectors.npy", uneven(2000))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    before = np.array(mapped)
    let_go(mapped)
    np.testing.assert_array_equal(mapped, before)
    changed = np.load(tmp_path / "vectors.npy", mmap_mode="c")
    changed[0] = 7
    let_go(changed)  # what was written into a copy is in no file
    assert (changed[0] == 7).all()


def test_a_file_is_in_memory_where_the_system_has_its_pages(tmp_path):
    np.save(tmp_path / "vectors.npy", uneven(20_000))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert in_memory(np.zeros([2, 2], np.float32))
    if not in_memory(mapped):
        pytest.skip("this file system cannot be asked what is in memory")
    with open(tmp_path / "vectors.npy", "rb+") as file:
        os.fsync(file.fileno())  # only what is on the disk can be let go of
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_memory(mapped):
        pytest.skip("this system keeps the pages that it was told to let go of")
    np.array(mapped)
    assert in_memory(mapped)
    os.remove(tmp_path / "vectors.npy")
    assert not in_memory(mapped)  # nothing is known of it any more


def test_rows_keep_what_is_still_used():
    lent, later = uneven(10), uneven(6, seed=1)
    rows = Rows(lent)
    rows.add(later[:2])
    rows.add(later[2:])
    own, places = rows.only(np.array([15, 3, 11]))
    assert len(own) == 12 and places.tolist() == [10, 3, 11]
    np.testing.assert_array_equal(own[places], [later[5], lent[3], later[1]])


@EVERY
def test_many_changes_keep_no_vectors_of_what_is_gone(kind):
    index = engine(kind)(64)
    for turn in range(30):
        ids = index.add(uneven(50, seed=turn))
        if turn:
            index.remove(ids - 50)
    assert len(index) == 50 and len(index._rows) <= 250


@EVERY
@pytest.mark.parametrize(("name", "content"), [
    ("vectors.npy", np.zeros([9, 64], np.float32)), ("vectors.npy", np.zeros([20, 64], np.float64)),
    ("scale.npy", np.ones(63, np.float32)), ("scale.npy", np.ones(64)),
    ("ids.npy", np.arange(19)), ("codes.npy", np.zeros([20, 63], np.int8)),
])
def test_files_that_do_not_fit_one_another_are_refused(kind, name, content, tmp_path):
    index = engine(kind).build(uneven(20))
    meta = saved(index, tmp_path / "a")
    if name == "codes.npy" and kind == "hnsw_int8":
        engine(kind).build(uneven(21)).graph.save(str(tmp_path / "a" / "index.usearch"))
    else:
        np.save(tmp_path / "a" / name, content)
    with pytest.raises(UserError, match="index.json says"):
        type(index).load(str(tmp_path / "a"), meta)


@EVERY
def test_an_index_directory_is_used_again_and_a_damaged_one_is_not(kind, tmp_path):
    texts = Corpus.from_texts([f"t{i}" for i in range(60)])
    place = str(tmp_path / "index")
    TextIndex(engine(kind).build(uneven(60)), texts, "encoder").save(place)
    asked = IndexSettings(kind)
    assert reusable_index(place, "encoder", texts.fingerprint, asked).index.kind == kind
    with pytest.raises(UserError, match=f"--index_type exact: the index in .* was built with {kind}"):
        reusable_index(place, "encoder", texts.fingerprint, IndexSettings("exact"))
    if kind == "hnsw_int8":
        with pytest.raises(UserError, match="--hnsw_m 7: the index in .* was built with 32"):
            reusable_index(place, "encoder", texts.fingerprint, IndexSettings(kind, m=7))
    for name in sorted(os.listdir(place)):
        path = os.path.join(place, name)
        with open(path, "r+b") as file:
            before = file.read()
            file.seek(len(before) // 2)
            file.write(bytes([before[len(before) // 2] ^ 1]))
        with pytest.raises(UserError):
            TextIndex.load(place)
        with open(path, "wb") as file:
            file.write(before)
    assert len(TextIndex.load(place).index) == 60


def test_few_and_many_queries_find_the_same(monkeypatch):
    """Codes and the vectors themselves choose the same, but at the margin of the candidates."""
    index, asked = engine("int8").build(uneven(5000)), uneven(40, seed=1)
    few, _ = index.search(asked, 50)
    monkeypatch.setattr(int8_module, "MANY", 0)
    many, _ = index.search(asked, 50)
    monkeypatch.setattr(int8_module, "in_memory", lambda vectors: False)
    from_disk, _ = index.search(asked, 50)
    assert (few == many).mean() > 0.99 and (from_disk == many).mean() > 0.99


@pytest.mark.slow
def test_recall_finds_the_same_with_every_index(tmp_path):
    """recall.py with an index that is built, saved and, the second time, read: 8 bits change nothing it writes."""
    questions = [f"第{a}张{b}卡丢了怎么{c}" for a in range(8) for b in ("银行", "校园", "公交") for c in ("办", "挂失")]
    (tmp_path / "pairs.csv").write_text("".join(f"{one}\t{two}\n" for one, two in zip(questions, questions[1:])))
    (tmp_path / "corpus.csv").write_text("".join(f"{one}\n" for one in questions))
    succeed("train_batch_neg.py", "--device", "cpu", "--train_set_file", tmp_path / "pairs.csv", "--save_dir",
            tmp_path / "model", "--model_name_or_path", "scratch-1x32", "--epochs", 0)
    found = {}
    for kind in ("exact", "int8", "hnsw_int8"):
        command = ["recall.py", "--device", "cpu", "--params_path", tmp_path / "model" / "latest", "--corpus_file",
                   tmp_path / "corpus.csv", "--similar_text_pair", tmp_path / "pairs.csv", "--recall_result_dir", tmp_path,
                   "--recall_result_file", kind, "--recall_num", 5, "--index_dir", tmp_path / f"{kind}.index",
                   "--index_type", kind, "--report_index_recall"]
        assert f"({kind}, " in succeed(*command)
        built = (tmp_path / kind).read_bytes()
        said = succeed(*command)
        assert "reused" in said and "index recall@5 against exact search" in said
        assert (tmp_path / kind).read_bytes() == built
        found[kind] = [line.split("\t") for line in built.decode().splitlines()]
    for kind in ("int8", "hnsw_int8"):
        for own, other in zip(found[kind], found["exact"]):
            assert own[0] == other[0] and abs(float(own[2]) - float(other[2])) < 1e-5
