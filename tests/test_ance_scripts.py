"""ANCE end to end: the scripts as a user starts them, killed and started again, on one process and two."""

import json
import os
import random
import shlex
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import forked
import numpy as np
import paddle
import pytest
from conftest import ROOT, SUBJECTS, fail, launch, run, succeed

from semindex import locks
from semindex.collection import store as collections
from training.negatives.generations import Generations

pytestmark = pytest.mark.slow
ANCE = ["train_ance.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--output_emb_size", 16,
        "--batch_size", 8, "--learning_rate", "1e-3", "--max_seq_length", 24, "--topk_training", 10,
        "--negative_sample", 4, "--epochs", 1000]


@pytest.fixture(scope="module")
def trec(tmp_path_factory):
    """A collection of long and empty documents, four columns, graded judgements; flags that name it."""
    where = tmp_path_factory.mktemp("trec")
    rng = random.Random(1)
    filler = ["".join(rng.choice(SUBJECTS) for _ in range(9)) for _ in range(48)]
    with open(where / "corpus.tsv", "w", encoding="utf-8") as file:
        for i, subject in enumerate(SUBJECTS):
            for j in range(4):
                body = "" if j == 3 else f"{filler[4 * i + j][: 20 * j]}{subject}的办法{j}"
                file.write(f"D{i}-{j}\t\t\t\n" if j == 3 else f"D{i}-{j}\thttp://x/{i}\t题{j}\t{body}\n")
    for name, prefix, text in (("train", "q", "{}怎么办"), ("dev", "d", "请问{}找谁")):
        (where / f"{name}.queries").write_text(
            "".join(f"{prefix}{i}\t{text.format(s)}\n" for i, s in enumerate(SUBJECTS)), encoding="utf-8")
        (where / f"{name}.qrels").write_text("".join(f"{prefix}{i} 0 D{i}-{j} {2 - j}\n" for i in range(12) for j in range(3)))
    return where


def trec_flags(where):
    return ["--corpus_file", where / "corpus.tsv", "--queries_file", where / "train.queries", "--qrels_file",
            where / "train.qrels", "--dev_queries_file", where / "dev.queries", "--dev_qrels_file", where / "dev.qrels"]


class Job:
    """A script in the background, its output in a file."""

    def __init__(self, path, *command):
        self.path = path
        with open(path, "a") as file:
            self.process = forked.start(command, cwd=path.parent, stdout=file, stderr=file)

    def until(self, text, count=1):
        """Wait until a text was printed so often."""
        ends = time.monotonic() + 120
        while self.path.read_text().count(text) < count:
            assert self.process.poll() is None and time.monotonic() < ends, self.path.read_text()
            time.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def weights(directory):
    return {name: value.numpy() for name, value in paddle.load(str(directory / "latest" / "model_state.pdparams")).items()}


def test_sync_refreshes_and_a_resumed_run_gives_the_same_weights(toy, tmp_path):
    command = [*ANCE, "--train_set_file", toy / "train.csv", "--corpus_file", toy / "corpus.csv", "--warmup", "bm25",
               "--refresh_steps", 8, "--max_steps", 20, "--log_steps", 1, "--save_steps", 5, "--keep_checkpoints", 2,
               "--dropout", 0.2]
    text = succeed(*command, "--save_dir", tmp_path / "whole")
    for number, source, step in ((0, "bm25", 0), (1, "ann", 8), (2, "ann", 16)):
        assert f"negatives of generation {number} ({source}, of step {step}, age 0 steps)" in text
    assert f"trainning_file: {tmp_path}/whole/ann/generation_2" in text and "48 dropped as positives" in text
    for place, step in enumerate(("step 7,", "step 12,", "step 18,")):
        job = Job(tmp_path / f"log{place}", *command, "--save_dir", tmp_path / "part", "--resume")
        job.until(f"global {step}")
        job.kill()
    succeed(*command, "--save_dir", tmp_path / "part", "--resume")
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "part")
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    for number in (1, 2):
        np.testing.assert_array_equal(*(Generations(tmp_path / run / "ann").negatives(number) for run in ("whole", "part")))
    error = fail(*command, "--save_dir", tmp_path / "part", "--resume", "--topk_training", 11)
    assert "was made with training texts" in error


def test_async_jobs_are_killed_and_started_again(toy, tmp_path):
    """Trainer and generator die by kill -9, in turn and together, at random moments; three generations and more follow."""
    rng = random.Random(3)
    trainer = [*ANCE, "--train_set_file", toy / "train.csv", "--corpus_file", toy / "corpus.csv", "--refresh", "async",
               "--refresh_steps", 20, "--save_dir", tmp_path / "run", "--max_steps", 2000, "--resume", "--log_steps", 5,
               "--keep_checkpoints", 2, "--ann_dir", tmp_path / "the negatives", "--data_dir", tmp_path / "the data"]
    jobs = {"trainer": Job(tmp_path / "trainer.log", *trainer)}
    jobs["trainer"].until("run_ann_data_gen.py")  # the command that it prints is all that the other job needs
    line = (tmp_path / "trainer.log").read_text().split("start python ")[1].splitlines()[0]
    generator = [*shlex.split(line), "--poll_seconds", 0.1]
    jobs["generator"] = Job(tmp_path / "generator.log", *generator)
    commands = {"generator": generator, "trainer": trainer}
    taken, published = "negatives of generation", "published"
    for turn, killed in enumerate((["generator"], ["trainer"], ["trainer", "generator"])):
        jobs["generator"].until(published, turn + 1)
        jobs["trainer"].until(taken, turn + 1)
        time.sleep(rng.uniform(0, 0.5))
        for name in killed:
            jobs[name].kill()
        for name in reversed(killed):
            jobs[name] = Job(tmp_path / f"{name}.log", *commands[name])
    jobs["trainer"].until(taken, 6)
    jobs["trainer"].process.send_signal(signal.SIGTERM)  # saves and ends
    assert jobs["trainer"].process.wait(60) == 128 + signal.SIGTERM
    text = (tmp_path / "trainer.log").read_text()
    ages = [int(line.split("age ")[1].split()[0]) for line in text.splitlines() if taken in line]
    assert len(ages) >= 6 and min(ages) >= 0 and "waiting for negatives" in text
    assert "resumed from" in text
    numbers = Generations(tmp_path / "the negatives").numbers()
    assert numbers[-1] >= 3 and len(numbers) <= 3
    for number in numbers:
        assert (Generations(tmp_path / "the negatives").negatives(number) >= 0).all()
    for job in jobs.values():
        if job.process.poll() is None:
            job.kill()
    figures = json.loads((tmp_path / "the negatives" / f"generation_{numbers[-1]}" / "generation.json").read_text())
    assert figures["seconds"].keys() == {"encoding", "search"} and figures["step"] > 0
    picture = succeed("plot_training.py", "--save_dir", tmp_path / "run", "--output_file", tmp_path / "run.png")
    assert picture.strip().endswith("run.png") and (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_the_generator_ends_with_the_training(toy, tmp_path):
    """On two processes, which find the negatives that one finds."""
    generator = ["run_ann_data_gen.py", "--device", "cpu", "--training_dir", tmp_path / "run", "--poll_seconds", 0.1,
                 "--topk_training", 10]
    with ThreadPoolExecutor(1) as thread:
        beside = thread.submit(launch, 2, *generator, cwd=tmp_path)
        succeed(*ANCE, "--train_set_file", toy / "train.csv", "--warmup", "in_batch", "--refresh", "async", "--refresh_steps",
                10, "--save_dir", tmp_path / "run", "--max_steps", 25)
        done = beside.result()
    text = "".join((tmp_path / "log" / f"workerlog.{rank}").read_text() for rank in (0, 1))
    assert done.returncode == 0 and text.count(f"from {tmp_path / 'run' / 'model_25'}") == 1, done.stdout + text
    generations = Generations(tmp_path / "run" / "ann")
    assert all(name.startswith("generation_") for name in os.listdir(tmp_path / "run" / "ann"))  # no vectors are left
    two = generations.negatives(generations.numbers()[-1])
    succeed(*generator, "--ann_dir", tmp_path / "ann")
    np.testing.assert_array_equal(Generations(tmp_path / "ann").negatives(0), two)


def test_a_collection_is_trained_on_ranked_and_measured(trec, tmp_path):
    """MaxP, the paper's encoder, LAMB; full ranking and reranking; vectors on one process and on two."""
    command = ["train_ance.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--similarity", "dot",
               "--optimizer", "lamb", "--batch_size", 6, "--learning_rate", "1e-2", "--max_seq_length", 16,
               "--max_chunks", 3, "--topk_training", 10, "--negative_sample", 4, "--refresh_steps", 20, "--max_steps", 60,
               "--epochs", 1000, "--eval_steps", 30, "--use_gradient_cache", "--chunk_numbers", 2, *trec_flags(trec),
               "--save_dir", tmp_path / "run"]
    text = succeed(*command)
    assert "48 documents, " in text and "mrr@10=" in text and "tokenised\n" in text
    passages = int(text.split("48 documents, ")[1].split()[0])
    best = tmp_path / "run" / "latest"
    state = json.loads((best / "training_state.json").read_text())
    assert state["chunk_size"] == 6 * 7 / 2  # a query, and three passages each of a positive and a negative
    ranking = ["rank_collection.py", "--device", "cpu", "--corpus_file", trec / "corpus.tsv", "--queries_file",
               trec / "dev.queries"]
    text = succeed(*ranking, "--params_path", best, "--run_file", tmp_path / "full", "--data_dir", tmp_path / "cache")
    assert "12 queries" in text and "432 lines" in text  # 36 of 48 documents have a text
    assert "tokenised before" in succeed(*ranking, "--params_path", best, "--run_file", tmp_path / "again", "--data_dir",
                                         tmp_path / "cache")
    assert (tmp_path / "full").read_text() == (tmp_path / "again").read_text()
    lines = [line.split() for line in (tmp_path / "full").read_text().splitlines()]
    some = {(q, d): s for q, _, d, rank, s, _ in lines if int(rank) % 3 == 0}
    (tmp_path / "candidates").write_text("".join(f"{q} 0 {d} 1 0.5 x\n" for q, d in [*reversed(some), ("d0", "D0-3")]))
    done = run(*ranking, "--params_path", best, "--run_file", tmp_path / "reranked", "--candidates_file",
               tmp_path / "candidates")
    assert done.returncode == 0 and "are not in the collection or have no text" in done.stderr, done.stderr
    again = [line.split() for line in (tmp_path / "reranked").read_text().splitlines()]
    assert {(q, d) for q, _, d, *_ in again} == set(some)
    for q, _, d, _, s, _ in again:
        assert float(s) == pytest.approx(float(some[q, d]), abs=1e-4)
    printed = succeed("evaluate.py", "--run_file", tmp_path / "full", "--qrels_file", trec / "dev.qrels", "--format", "json")
    found = json.loads(printed)
    assert found["recall@1000"] == 100.0 and found["mrr@10"] > 30
    inference = ["run_ann_data_gen.py", "--device", "cpu", "--init_model_dir", best, "--data_dir",
                 tmp_path / "run" / "collection", "--inference", "--output_dir"]
    with locks.locked(str(tmp_path / "one")):  # another job encodes into the same place
        assert "--output_dir " in (error := fail(*inference, tmp_path / "one")) and "is being written by another" in error
    succeed(*inference, tmp_path / "one")
    done = launch(2, *inference, tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("passages.npy", "queries.npy"):
        one, two = (np.load(tmp_path / run / name) for run in ("one", "two"))
        np.testing.assert_array_equal(one, two)
        assert len(one) == {"passages.npy": passages, "queries.npy": 24}[name]
    ids = (tmp_path / "one" / "passage_ids.txt").read_text().splitlines()
    assert len(ids) == passages and "D0-2\t1" in ids and not any(line.startswith("D0-3") for line in ids)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "is there, but is no vectors" in fail(*inference, tmp_path / "mine")
    assert "is written anew as a whole" in fail(*inference, tmp_path / "run")  # it holds the checkpoint that is read


def test_two_processes_train_as_one(trec, tmp_path):
    command = ["train_ance.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--learning_rate", "1e-3",
               "--max_seq_length", 16, "--topk_training", 10, "--negative_sample", 4, "--refresh_steps", 3, "--max_steps",
               5, "--epochs", 100, "--dropout", 0.0, "--in_batch", *trec_flags(trec)]
    succeed(*command, "--batch_size", 8, "--save_dir", tmp_path / "one")
    done = launch(2, *command, "--batch_size", 4, "--save_dir", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=2e-5, err_msg=name)


def test_mined_negatives_are_what_the_trainers_read(toy, checkpoint, tmp_path):
    mining = ["mine_negatives.py", "--device", "cpu", "--train_set_file", toy / "train.csv", "--corpus_file",
              toy / "corpus.csv", "--output_file", tmp_path / "triples.tsv"]
    text = succeed(*mining, "--params_path", checkpoint, "--by", "both", "--negatives", 4, "--rank_min", 1,
                   "--max_per_query", 3, "--relative_margin", 0.01, "--report_file", tmp_path / "report.tsv")
    assert "dense: 24 pairs" in text and "bm25: 24 pairs" in text
    rows = [line.split("\t") for line in (tmp_path / "triples.tsv").read_text(encoding="utf-8").splitlines()]
    pairs = {tuple(line.split("\t")) for line in (toy / "train.csv").read_text(encoding="utf-8").splitlines()}
    assert all((q, p) in pairs and (q, n) not in pairs and n != q for q, p, n in rows)
    queries = [q for q, _, _ in rows]
    assert max(map(queries.count, queries)) == 3 and len({tuple(row) for row in rows}) == len(rows)
    reasons = {line.split("\t")[4] for line in (tmp_path / "report.tsv").read_text(encoding="utf-8").splitlines()}
    assert reasons <= {"within the margin", "equal text"} and "within the margin" in reasons
    for script in ("train_hardest_neg.py", "train_batch_neg.py", "train_simcse.py"):
        succeed(script, "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--batch_size", 8, "--max_seq_length",
                24, "--train_set_file", tmp_path / "triples.tsv", "--save_dir", tmp_path / script, "--max_steps", 2)
    text = succeed(*ANCE, "--train_set_file", tmp_path / "triples.tsv", "--warmup", "triples", "--save_dir", tmp_path / "ance",
                   "--max_steps", 2)
    assert "negatives of generation 0 (triples, of step 0" in text
    third = {line.split("\t")[2] for line in (tmp_path / "triples.tsv").read_text(encoding="utf-8").splitlines()}
    collection = collections.load(str(tmp_path / "ance" / "collection"))
    negatives = Generations(tmp_path / "ance" / "ann").negatives(0)
    counts = Generations(tmp_path / "ance" / "ann").read(0).counts
    assert counts["negatives"] > 24 and set(collection.texts.some(negatives[:, 0])) <= third
    assert "--by dense needs --params_path" in fail(*mining, "--by", "dense")
    assert "leaves nothing" in fail(*mining, "--rank_min", 200)


def test_the_negatives_are_drawn(toy, tmp_path):
    succeed(*ANCE, "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "run", "--max_steps", 2)
    command = ["plot_negatives.py", "--params_path", tmp_path / "run" / "latest", "--data_dir",
               tmp_path / "run" / "collection", "--output_dir", tmp_path / "out", "--negatives", 5]
    text = succeed(*command, "--query", "卡丢了怎么办", "忘记密码怎么办")
    page = (tmp_path / "out" / "negatives.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and page.count("data-text=") == 2 * (1 + 1 + 3 * 5)
    assert "positive" in page and "我的卡丢了该咋处理" in page and "http" not in page
    assert sum(name.endswith(".png") for name in os.listdir(tmp_path / "out")) == 2 and "negatives.html" in text
    assert "no training query" in fail(*command, "--query", "谁")


def test_flags_that_do_not_go_together(toy, tmp_path):
    base = ["train_ance.py", "--device", "cpu", "--save_dir", tmp_path]
    assert "give either --train_set_file" in fail(*base)
    assert "--queries_file needs --corpus_file" in fail(*base, "--queries_file", "x")
    assert "go with --queries_file" in fail(*base, "--train_set_file", toy / "train.csv", "--qrels_file", "x")
    assert "give --training_dir" in fail("run_ann_data_gen.py", "--device", "cpu")
    assert "go together" in fail("run_ann_data_gen.py", "--training_dir", tmp_path, "--inference")


def test_the_documents_scripts(toy, tmp_path):
    """Warm-up, the training and the job beside it, vectors: by the names of the documents."""
    data = forked.python_env() | {"DEVICE": "cpu", "TRAIN_SET_FILE": str(toy / "train.csv")}

    def shell(name, *flags, wait=True, **more):
        process = subprocess.Popen(["bash", str(ROOT / "scripts" / f"{name}.sh"), *map(str, flags)], cwd=tmp_path,
                                   env=os.environ | data | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not wait:
            return process
        text = process.communicate(timeout=200)[0]
        assert process.returncode == 0, text
        return text

    shell("run_train_warmup", "--max_steps", 4, MODEL_NAME_OR_PATH="scratch-1x32", MAX_SEQ_LENGTH="24")
    beside = shell("run_ann_data_gen", "--poll_seconds", 0.2, wait=False, TOPK_TRAINING="10", NEGATIVE_SAMPLE="3")
    text = shell("run_train", "--max_steps", 30, REFRESH_STEPS="10")
    assert "negatives of generation 0 (ann" in text and "warmup from:./checkpoints/ance_warmup/latest" in text
    text = beside.communicate(timeout=100)[0]
    assert beside.returncode == 0 and "published ./checkpoints/ance/ann/generation_0" in text
    assert "24 queries" in shell("run_inference") and (tmp_path / "vectors" / "passages.npy").is_file()
