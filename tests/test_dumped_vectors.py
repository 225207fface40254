"""Metrics of vectors and ids alone, as the document computes them; first generations of negatives."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import fail, run, succeed

import evaluate
import train_ance
from models.loading import create
from semindex.errors import UserError
from semindex.measure import report
from semindex.measure import trec as trec_metrics
from semindex.measure.vectors import Dump, of_vectors
from training.negatives import ance, generator
from training.negatives.generations import Generation, Generations
from training.negatives.refresh import SyncRefresh


def dump(folder, passages, passage_ids, queries, query_ids):
    folder.mkdir(exist_ok=True)
    np.save(folder / "passages.npy", np.array(passages, np.float32))
    np.save(folder / "queries.npy", np.array(queries, np.float32))
    (folder / "passage_ids.txt").write_text("".join(f"{name}\n" for name in passage_ids))
    (folder / "query_ids.txt").write_text("".join(f"{name}\n" for name in query_ids))
    return folder


def measured(*words):
    args = evaluate.parser().parse_args([str(word) for word in words])
    report.check(args)
    return of_vectors(args)


def test_metrics_of_vectors_against_a_loop(tmp_path):
    """Passages of a document count once, by the best of them; candidates alone are ranked; as trec_eval measures."""
    rng = np.random.default_rng(0)
    owner = np.sort(rng.integers(0, 30, 80))
    passages, queries = rng.normal(size=(80, 8)), rng.normal(size=(7, 8))
    ids = [f"D{d}\t{i}" for i, d in enumerate(owner)]
    folder = dump(tmp_path / "vectors", passages, ids, queries, [f"q{i}" for i in range(7)])
    qrels = {f"q{i}": {f"D{d}": int(rng.integers(0, 3)) for d in rng.choice(np.unique(owner), 6, False)} for i in range(6)}
    (tmp_path / "qrels").write_text("".join(f"{q} 0 {d} {grade}\n" for q, row in qrels.items() for d, grade in row.items()))
    names = ["mrr@10", "recall@1000", "ndcg@10", "map", "map@10", "hole@10", "hole"]
    scores = passages.astype(np.float32) @ queries.astype(np.float32).T
    run = {f"q{i}": {f"D{d}": float(scores[owner == d, i].max()) for d in np.unique(owner)} for i in range(6)}
    found = measured("--vectors_dir", folder, "--qrels_file", tmp_path / "qrels", "--metrics", *names)[str(folder)]
    expected = trec_metrics.per_query(run, qrels, names)
    for name in names:
        assert found[name] == pytest.approx(list(expected[name].values()), abs=1e-6), name
    shallow = Dump(str(folder)).full_run([0, 1], 5)
    for query, row in shallow.items():
        assert list(row) == trec_metrics.ordered(run[query])[:5]
    some = {query: dict(list(row.items())[::3]) for query, row in run.items()}
    (tmp_path / "candidates").write_text("".join(f"{q}\t{d}\n" for q, row in some.items() for d in row) + "q0\tnone\n")
    found = measured("--vectors_dir", folder, "--qrels_file", tmp_path / "qrels", "--metrics", *names, "--candidates_file",
                     tmp_path / "candidates")[str(folder)]
    expected = trec_metrics.per_query(some, qrels, names)
    for name in names:
        assert found[name] == pytest.approx(list(expected[name].values()), abs=1e-6), name


def test_vectors_that_do_not_fit_are_errors(tmp_path):
    (tmp_path / "qrels").write_text("q 0 a 1\n")
    words = ["--qrels_file", tmp_path / "qrels", "--vectors_dir"]
    with pytest.raises(UserError, match="holds no passages.npy; run_ann_data_gen.py --inference writes it"):
        measured(*words, tmp_path)
    folder = dump(tmp_path / "a", [[1, 0]], ["a", "b"], [[1, 0]], ["q"])
    with pytest.raises(UserError, match="passages.npy holds 1 vector, passage_ids.txt 2 ids"):
        measured(*words, folder)
    with pytest.raises(UserError, match="2 wide, queries.npy 3"):
        measured(*words, dump(folder, [[1, 0]], ["a"], [[1, 0, 0]], ["q"]))
    (folder / "passages.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="damaged"):
        measured(*words, folder)
    with pytest.raises(UserError, match="has no line for any query"):
        measured(*words, dump(folder, [[1, 0]], ["a"], [[1, 0]], ["p"]))
    with pytest.raises(UserError, match="--candidates_file goes with --vectors_dir"):
        measured("--run_file", "x", "--qrels_file", "y", "--candidates_file", "z")


@pytest.mark.slow
def test_figures_are_percent_or_fractions(tmp_path):
    dump(tmp_path / "v", [[1, 0], [0.9, 0], [0.8, 0]], "abc", [[1, 0]], ["q"])
    (tmp_path / "qrels").write_text("q 0 c 1\n")
    command = ["evaluate.py", "--vectors_dir", "v", "--qrels_file", "qrels", "--metrics", "mrr@10", "hole"]
    assert succeed(*command, cwd=tmp_path) == "mrr@10=33.333\nhole=66.667\n"
    assert succeed(*command, "--fractions", cwd=tmp_path) == "mrr@10=0.33333\nhole=0.66667\n"
    assert "leave --fractions out" in fail(*command, "--fractions", "--compare", cwd=tmp_path)
    assert not (tmp_path / "result.tsv").exists()


def test_the_first_generation_is_kept_for_the_training_it_was_made_for(tmp_path):
    def left(source="init", key="k", weights="w", **refresh):
        generations = Generations(str(tmp_path / "ann"))
        generations.publish(Generation(0, 0, source, key, weights), np.zeros([1, 1], np.int32))
        generations.publish(Generation(1, 5, "ann", "k", "later"), np.zeros([1, 1], np.int32))
        miner = SimpleNamespace(collection=SimpleNamespace(about=SimpleNamespace(key="k")))
        generations.clear(SyncRefresh(None, miner, generations, None, 10, **{"warmup": "none", "origin": "w"} | refresh)._prepared)
        numbers = generations.numbers()
        generations.clear()
        assert generations.numbers() == []
        return numbers

    assert left() == left(origin="") == [0]
    assert left(source="ann") == left(key="other") == left(weights="other") == left(warmup="bm25") == []


@pytest.mark.slow
def test_the_newest_checkpoint_is_the_trainings_or_the_one_named(checkpoint, tmp_path):
    def newest(**args):
        return generator.newest(argparse.Namespace(**{"training_dir": None, "init_model_dir": None} | args))

    assert newest(training_dir=str(tmp_path / "none")) is None
    path = str(checkpoint)
    assert newest(init_model_dir=path) == (path, ance.identity(path), -1, True)
    assert newest(init_model_dir=path, training_dir=str(tmp_path)) == (path, ance.identity(path), -1, False)
    found = newest(init_model_dir="other", training_dir=str(checkpoint.parent))
    assert found is not None and found[0].endswith("model_4") and found[2:] == (4, True)


@pytest.mark.slow
def test_a_prepared_collection_must_fit(toy, checkpoint, tmp_path):
    (tmp_path / "corpus").write_text("".join(f"{i}\t文本{i}\n" for i in range(9)), encoding="utf-8")
    (tmp_path / "queries").write_text("a\t文本\n", encoding="utf-8")
    (tmp_path / "qrels").write_text("a 0 1 1\n")
    sources = ["--corpus_file", "corpus", "--queries_file", "queries", "--qrels_file", "qrels"]
    succeed("prepare_collection.py", "--device", "cpu", "--out_data_dir", "made", "--init_from_ckpt", checkpoint, *sources,
            cwd=tmp_path)

    def prepared(**more):
        args = train_ance.parser().parse_args(["--data_dir", str(tmp_path / "made"), "--init_from_ckpt", str(checkpoint)])
        for name, value in more.items():
            setattr(args, name, value)
        return ance.of_prepared(args)

    model, tokenizer, collection = prepared()
    assert (model.settings.max_seq_length, tokenizer.max_seq_length, len(collection.pairs)) == (24, 24, 1)
    with pytest.raises(UserError, match="--max_seq_length 32 contradicts --data_dir .* tokenised with 24"):
        prepared(max_seq_length=32)
    with pytest.raises(UserError, match="no vocabulary before it is trained"):
        prepared(init_from_ckpt=None, model_name_or_path="scratch-1x32")
    other, words = create("scratch-1x32", {}, ["别的词"])
    other.ptm.save_pretrained(str(tmp_path / "encoder"))
    words.save(str(tmp_path / "encoder"))
    with pytest.raises(UserError, match="tokenised with another tokenizer"):
        prepared(init_from_ckpt=None, model_name_or_path=str(tmp_path / "encoder"))
    alone = ["train_ance.py", "--device", "cpu", "--data_dir", "made"]
    assert "leave the flag out, or name the rest" in fail(*alone, "--qrels_file", "qrels", cwd=tmp_path)
    done = run("run_ann_data_gen.py", "--device", "cpu", "--training_dir", "none", "--init_model_dir", checkpoint,
               "--data_dir", "nothing", "--end_output_num", 0, cwd=tmp_path)
    assert done.returncode == 2 and "nothing: holds no tokenised collection; prepare_collection.py makes one" in done.stderr


@pytest.mark.slow
def test_first_negatives_of_another_checkpoint_replace_those_of_before(toy, checkpoint, tmp_path):
    """Made anew as generation 0, which the training takes up; it takes none that others' weights gave."""
    base = ["train_ance.py", "--device", "cpu", "--train_set_file", toy / "train.csv", "--batch_size", 8, "--topk_training",
            10, "--negative_sample", 3, "--save_dir", tmp_path / "run", "--log_steps", 1, "--init_from_ckpt"]
    succeed(*base, checkpoint, "--max_steps", 1)
    prepare = ["run_ann_data_gen.py", "--device", "cpu", "--training_dir", tmp_path / "new", "--data_dir",
               tmp_path / "run" / "collection", "--output_dir", tmp_path / "ann", "--topk_training", 10,
               "--negative_sample", 3, "--end_output_num", 0, "--init_model_dir"]
    generations = Generations(str(tmp_path / "ann"))
    for path in (tmp_path / "run" / "latest", checkpoint):
        assert "generation 0 from" in succeed(*prepare, path)
        assert generations.numbers() == [0] and generations.read(0).weights == ance.identity(str(path))
    text = succeed(*base, checkpoint, "--max_steps", 2, "--ann_dir", tmp_path / "ann", "--overwrite", "--refresh", "async")
    assert "negatives of generation 0 (init, of step 0" in text
    text = succeed(*base, checkpoint, "--max_steps", 2, "--ann_dir", tmp_path / "ann", "--overwrite", "--warmup", "bm25")
    assert "negatives of generation 0 (bm25" in text
