import os

import forked
import numpy as np
import pytest
from conftest import ROOT, launch, succeed

from semindex.search.shards import merge


def best(scores, k):
    """The k best of each row, equal ones by place."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, 1)


def test_merged_lists_are_those_of_one_index():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 9, [20, 50]).astype(np.float32)  # many equal ones
    for k in (1, 10, 30, 50):
        found, start = [], 0
        for size in (20, 0, 3, 27):
            ids, values = best(scores[:, start : start + size], min(k, size))
            found.append((ids + start, values))
            start += size
        for mine, truth in zip(merge(found, k), best(scores, k)):
            np.testing.assert_array_equal(mine, truth)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    """Exact search to the id, equal scores by id; hnsw, which looks at every vector here, the same scores."""
    script = ROOT / "tests" / "sharded_search.py"
    one = forked.run([script, tmp_path / "one.npz"])
    assert one.returncode == 0, one.stderr
    done = launch(2, script, tmp_path / "two.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert one.files == two.files and len(one.files) == 2 + 3 * 9
        truth = one["queries"] @ one["vectors"].T
        for name in one.files:
            if "hnsw" not in name or "ids" not in name:
                np.testing.assert_array_equal(one[name], two[name], err_msg=name)
        for k in (1, 7, 45):
            ids, scores = best(truth, k)
            np.testing.assert_array_equal(two[f"exact {k} ids"], ids)
            np.testing.assert_array_equal(two[f"sharded exact {k} ids"], ids)
            np.testing.assert_array_equal(two[f"hnsw {k} scores"], scores)
        assert two["exact 100 ids"].shape == (9, 60)
        np.testing.assert_array_equal(two["exact products"], truth.repeat(5, 0)[np.arange(45), np.arange(45) + 10])


@pytest.mark.slow
def test_a_refresh_on_two_processes_mines_what_one_mines(toy, checkpoint, tmp_path):
    """A generation of 2,536 documents by each; the job's files of vectors are gone afterwards."""
    rng = np.random.default_rng(2)
    letters = [chr(number) for number in range(0x4E00, 0x4E40)]
    texts = ["".join(rng.choice(letters, 9)) for _ in range(2500)]
    (tmp_path / "corpus.csv").write_text((toy / "corpus.csv").read_text("utf-8") + "\n".join(texts) + "\n", "utf-8")
    words = ["train_ance.py", "--device", "cpu", "--init_from_ckpt", checkpoint, "--train_set_file", toy / "train.csv",
             "--corpus_file", tmp_path / "corpus.csv", "--refresh_steps", 0, "--topk_training", 50,
             "--negative_sample", 50, "--max_steps", 1, "--batch_size", 8]
    succeed(*words, "--save_dir", tmp_path / "one")
    done = launch(2, *words, "--save_dir", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    job = ["run_ann_data_gen.py", "--device", "cpu", "--init_model_dir", checkpoint, "--data_dir",
           tmp_path / "one" / "collection", "--ann_dir", tmp_path / "three", "--topk_training", 50,
           "--negative_sample", 50]
    done = launch(2, *job, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first = np.load(tmp_path / "one" / "ann" / "generation_0" / "negatives.npy")
    assert len(first) == 24 and (first > 1024).any() and (first < 1024).any()
    for other in (tmp_path / "two" / "ann", tmp_path / "three"):
        second = np.load(other / "generation_0" / "negatives.npy")
        same = [len(np.intersect1d(a, b)) for a, b in zip(first, second)]
        # All that is ranked and no positive, and the lacking at random: products of other shapes round differently.
        assert first.shape == second.shape and np.mean(same) >= 45
    assert os.listdir(tmp_path / "three") == ["generation_0"]
