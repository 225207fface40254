"""The scripts as a user runs them: subprocesses, files, exit codes; several processes on gloo."""

import os
import re
import signal
import subprocess
import sys
import time

import forked
import numpy as np
import paddle
import pytest
from conftest import ROOT, SHARED, TRAIN, fail, launch, run, succeed

pytestmark = pytest.mark.slow


def recall(checkpoint, toy, out, *flags):
    return ["recall.py", "--device", "cpu", "--params_path", checkpoint, "--corpus_file", toy / "corpus.csv",
            "--similar_text_pair", toy / "dev.csv", "--recall_num", 5, "--recall_result_dir", out,
            "--recall_result_file", "result.txt", *flags]


def test_the_recipes_commands_as_printed(toy, tmp_path):
    """Train, recall, evaluate with the documents' flags; only the encoder and the sizes are small."""
    succeed("train_batch_neg.py", "--device", "cpu", "--save_dir", "./checkpoints/inbatch", "--batch_size", 8,
            "--learning_rate", "5E-3", "--epochs", 6, "--output_emb_size", 256, "--model_name_or_path",
            "scratch-1x32", "--save_steps", 10, "--max_seq_length", 64, "--margin", 0.2, "--train_set_file",
            toy / "train.csv", "--recall_result_dir", "recall_result_dir", "--recall_result_file", "recall_result.txt",
            "--hnsw_m", 100, "--hnsw_ef", 100, "--recall_num", 50, "--similar_text_pair_file", toy / "dev.csv",
            "--corpus_file", toy / "corpus.csv", "--evaluate", cwd=tmp_path)
    assert (tmp_path / "recall_result_dir" / "evaluate_result.txt").read_text().count("\n") == 6
    assert sorted(os.listdir(tmp_path / "checkpoints" / "inbatch"))[:2] == ["best", "latest"]
    params = tmp_path / "checkpoints" / "inbatch" / "model_10" / "model_state.pdparams"
    assert (params.parent / "tokenizer_config.json").exists() and (params.parent / "vocab.txt").exists()
    succeed("recall.py", "--device", "cpu", "--recall_result_dir", "recall_result_dir", "--recall_result_file",
            "recall_result.txt", "--params_path", params, "--hnsw_m", 100, "--hnsw_ef", 100, "--batch_size", 64,
            "--output_emb_size", 256, "--max_seq_length", 60, "--recall_num", 20, "--similar_text_pair",
            toy / "dev.csv", "--corpus_file", toy / "corpus.csv", cwd=tmp_path)
    rows = [line.split("\t") for line in (tmp_path / "recall_result_dir" / "recall_result.txt").read_text().splitlines()]
    assert len(rows) == 12 * 20 and all(len(row) == 3 for row in rows)
    assert [row[0] for row in rows[::20]] == [line.split("\t")[0] for line in (toy / "dev.csv").read_text().splitlines()]
    for i in range(0, len(rows), 20):
        scores = [float(row[2]) for row in rows[i : i + 20]]
        assert scores == sorted(scores, reverse=True) and -1.0001 <= scores[-1] <= scores[0] <= 1.0001
    out = succeed("evaluate.py", "--similar_text_pair", toy / "dev.csv", "--recall_result_file",
                  "./recall_result_dir/recall_result.txt", "--recall_num", 20, cwd=tmp_path).splitlines()
    assert [line.split("=")[0] for line in out] == ["recall@1", "recall@5", "recall@10", "recall@20"]
    assert float(out[-1].split("=")[1]) > 50  # twelve subjects: chance would find a third among 20 of 36


def test_two_processes_train_recall_and_write_as_one(toy, tmp_path):
    """Dropout off: the joined batch on one process and its halves on two give the same weights and recall file."""
    flags = ["--train_set_file", toy / "train.csv", "--max_steps", 5, "--dropout", 0, "--head_dropout", 0,
             "--dev_set_file", toy / "dev.csv", "--corpus_file", toy / "corpus.csv", "--eval_steps", 3]
    one, two = [*TRAIN, *flags, "--save_dir", "one"], [*TRAIN, *flags, "--save_dir", "two"]
    two[two.index("--batch_size") + 1] = 4
    printed = succeed(*one, cwd=tmp_path)
    done = launch(2, *two, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    a, b = (paddle.load(str(tmp_path / name / "latest" / "model_state.pdparams")) for name in ("one", "two"))
    assert a.keys() == b.keys()
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 2e-4  # of Adam steps of 1e-3
    losses = [[float(number) for number in re.findall(r"[\d.]+", line.split(", speed")[0])]  # step, epoch, batch, loss
              for text in (printed, done.stdout) for line in text.splitlines() if line.startswith("global step")]
    assert len(losses) == 10  # only rank 0 speaks
    np.testing.assert_allclose(losses[:5], losses[5:], atol=2e-5)  # halves of a batch are of another shape
    assert printed.count("evaluating") == done.stdout.count("evaluating") == 2

    succeed(*recall(tmp_path / "one" / "latest", toy, "out1"), cwd=tmp_path)
    done = launch(2, *recall(tmp_path / "one" / "latest", toy, "out2", "--index_dir", "index"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out1" / "result.txt").read_bytes() == (tmp_path / "out2" / "result.txt").read_bytes()
    done = launch(2, *recall(tmp_path / "one" / "latest", toy, "out3", "--index_dir", "index"), cwd=tmp_path)
    assert "index of index reused" in done.stdout
    assert (tmp_path / "out1" / "result.txt").read_bytes() == (tmp_path / "out3" / "result.txt").read_bytes()


def test_a_process_waits_for_one_that_works_long(tmp_path):
    """Gloo gives up after 30 s: an index that takes longer to build would end the run."""
    (tmp_path / "work.py").write_text(
        f"import sys, time\nsys.path.insert(0, {str(ROOT)!r})\nfrom semindex import runtime\nruntime.start('cpu', 0)\n"
        "print('worked', runtime.on_rank_0(lambda: time.sleep(33) or 7))\n")
    done = subprocess.run([sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir",
                           str(tmp_path / "log"), str(tmp_path / "work.py")], timeout=200, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all("worked 7" in (tmp_path / "log" / f"workerlog.{rank}").read_text() for rank in range(2))


def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    """For every head, every parameter's gradient, dropout off, an odd last batch and hard negatives; and in chunks."""
    script = ROOT / "tests" / "gradients.py"
    for done in (forked.run([script, tmp_path / "one"]), launch(2, script, tmp_path / "two", cwd=tmp_path)):
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = paddle.load(str(tmp_path / "one")), paddle.load(str(tmp_path / "two"))
    assert len(one) == 24 + 14 and one.keys() == two.keys()
    assert {"head.temperature", "head.linear.weight"} <= two["learned, both"].keys()
    for way, b in two.items():
        a = one[way.rsplit(", ", 1)[0] + ", plain"]
        assert len(a) > 20 and a.keys() == b.keys()
        length = sum(float((value**2).sum()) for value in a.values()) ** 0.5
        assert length > 0.1
        for name in a:
            assert abs(a[name] - b[name]).max() <= 1e-6 * length, f"{way}: {name}"


def test_an_index_is_built_once_and_used_again(checkpoint, toy, tmp_path):
    command = recall(checkpoint, toy, tmp_path / "out", "--index_dir", tmp_path / "index", "--index_type", "hnsw",
                     "--hnsw_threads", 1, "--report_index_recall", "--trec_run_file", tmp_path / "run.trec")
    first = succeed(*command)
    assert "start build index.........." in first and "Total index number:36" in first and "index recall@5" in first
    result = (tmp_path / "out" / "result.txt").read_bytes()
    second = succeed(*command)
    assert "reused" in second and "start build" not in second
    assert (tmp_path / "out" / "result.txt").read_bytes() == result
    fields = (tmp_path / "run.trec").read_text().splitlines()[5].split()
    corpus = (toy / "corpus.csv").read_text().splitlines()
    dev = (toy / "dev.csv").read_text().splitlines()
    line = result.decode().splitlines()[5].split("\t")
    assert fields[1] == "Q0" and fields[3] == "1" and dev[int(fields[0]) - 1].split("\t")[0] == line[0]
    assert corpus[int(fields[2]) - 1] == line[1]
    (tmp_path / "corpus.csv").write_text("完全不同的语料\n另一句话\n第三句\n第四句\n第五句\n")
    other = [tmp_path / "corpus.csv" if word == toy / "corpus.csv" else word for word in command]
    assert "built with another corpus; pass --rebuild_index" in fail(*other)
    assert "Total index number:5" in succeed(*other, "--rebuild_index")
    with open(tmp_path / "index" / "index.bin", "r+b") as file:
        file.truncate(100)
    assert "index.bin: changed since" in fail(*other)
    (tmp_path / "index" / "manifest.json").unlink()
    assert "is there, but is no index" in fail(*other, "--rebuild_index")
    assert (tmp_path / "index" / "texts.txt").exists()


def test_an_index_of_another_encoder_is_refused(checkpoint, toy, tmp_path):
    succeed(*recall(checkpoint, toy, tmp_path / "out", "--index_dir", tmp_path / "index"))
    succeed(*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "other", "--epochs", 0)
    command = recall(tmp_path / "other" / "latest", toy, tmp_path / "out", "--index_dir", tmp_path / "index")
    assert "built with another encoder" in fail(*command)


def test_corpus_smaller_than_recall_num_and_corpus_of_one(checkpoint, toy, tmp_path):
    (tmp_path / "corpus.csv").write_text("只有一句\n只有一句\n")
    for kind in ("exact", "hnsw", "int8", "hnsw_int8"):
        command = recall(checkpoint, toy, tmp_path / "out", "--index_type", kind)
        command[command.index(toy / "corpus.csv")] = tmp_path / "corpus.csv"
        done = run(*command)
        assert done.returncode == 0 and "the corpus has only 1 text, no more can be recalled" in done.stderr
        assert "1 duplicate left out" in done.stdout
        assert (tmp_path / "out" / "result.txt").read_text().count("\n") == 12


def train(toy, tmp_path, *flags):
    return [*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", tmp_path / "out", "--max_steps", 1, *flags]


def test_checkpoints_that_do_not_fit(checkpoint, toy, tmp_path):
    assert "contradicts the checkpoint" in fail(*recall(checkpoint, toy, tmp_path, "--output_emb_size", 256))
    assert "no such checkpoint" in fail(*recall(tmp_path / "none", toy, tmp_path))
    state = paddle.load(str(checkpoint / "model_state.pdparams"))
    other = tmp_path / "other"
    other.mkdir()
    for name in os.listdir(checkpoint):
        (other / name).write_bytes((checkpoint / name).read_bytes())
    state["ptm.embeddings.word_embeddings.weight"] = paddle.zeros([7, 32])
    paddle.save(state, str(other / "model_state.pdparams"))
    (other / "manifest.json").unlink()  # as a checkpoint from before there were checksums
    assert "[7, 32] instead of" in fail(*recall(other, toy, tmp_path))


def test_init_from_ckpt_starts_from_its_weights(checkpoint, toy, tmp_path):
    out = succeed("train_batch_neg.py", "--device", "cpu", "--train_set_file", toy / "train.csv", "--init_from_ckpt",
                  checkpoint / "model_state.pdparams", "--epochs", 0, "--save_dir", tmp_path / "out")
    assert f"warmup from:{checkpoint}/model_state.pdparams" in out
    a, b = (paddle.load(str(path / "model_state.pdparams")) for path in (checkpoint, tmp_path / "out" / "latest"))
    assert all(bool((a[name] == b[name]).all()) for name in a)


def test_ctrl_c_ends_with_one_word_and_a_resume_goes_on(toy, tmp_path):
    command = [str(word) for word in train(toy, tmp_path, "--max_steps", 10_000, "--epochs", 10_000, "--save_steps", 5,
                                           "--keep_checkpoints", 1)]
    process = subprocess.Popen([sys.executable, "-u", str(ROOT / command[0]), *command[1:]], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while "global step 12," not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    steps = [name for name in os.listdir(tmp_path / "out") if name.startswith("model_")]
    assert len(steps) == 1
    process = subprocess.Popen([sys.executable, "-u", str(ROOT / command[0]), *command[1:], "--resume"], text=True,
                               stdout=subprocess.PIPE)
    for line in process.stdout:
        if line.startswith("resumed from"):
            break
    process.kill()
    process.wait()
    assert steps[0] in line


def test_a_reader_that_leaves_early_is_no_error(toy, checkpoint, tmp_path):
    succeed(*recall(checkpoint, toy, tmp_path))
    pipe = subprocess.run(f"{sys.executable} {ROOT}/evaluate.py --similar_text_pair {toy}/dev.csv --recall_result_file "
                          f"{tmp_path}/result.txt --result_tsv '' | head -n 0; exit ${{PIPESTATUS[0]}}", shell=True,
                          executable="/bin/bash", capture_output=True, text=True)
    assert pipe.returncode == 0 and pipe.stderr.count("\n") == pipe.stderr.count("warning: ") == 1


@pytest.mark.slow
def test_a_closed_pipe_ends_no_training(toy, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = forked.run([*TRAIN, "--train_set_file", toy / "train.csv", "--max_steps", 3, "--save_dir", tmp_path / "run"], stdout=writing)
    os.close(writing)
    assert done.returncode == 0 and "Traceback" not in done.stderr and os.readlink(tmp_path / "run" / "latest") == "model_3"


@pytest.mark.parametrize("script", sorted([*ROOT.glob("scripts/*.sh"), *ROOT.glob("deploy/*/*.sh")]), ids=lambda p: p.name)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_shell_scripts_take_overrides_and_fail_when_a_step_fails(toy, tmp_path):
    env = {"DEVICE": "cpu", "MODEL_NAME_OR_PATH": "scratch-1x32", "EPOCHS": "1",
           "TRAIN_SET_FILE": str(toy / "train.csv"), "SAVE_DIR": str(tmp_path / "ckpt"),
           "PARAMS_PATH": str(tmp_path / "ckpt" / "latest"), "SIMILAR_TEXT_PAIR": str(toy / "dev.csv"),
           "CORPUS_FILE": str(toy / "corpus.csv"), "RECALL_RESULT_DIR": str(tmp_path / "result"),
           "RECALL_NUM": "10", "INDEX_DIR": str(tmp_path / "index"), "BATCH_SIZE": "8"}

    def shell(name, *flags, **more):
        # sh, as in the recipe's documents: not bash on Debian
        return forked.shell(["sh", ROOT / "scripts" / name, *flags], env=env | more, timeout=200)

    for name, flags in (("train_batch_neg.sh", ()), ("run_build_index.sh", ()), ("evaluate.sh", ("--result_tsv", ""))):
        done = shell(name, *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("+ ")  # the command it runs
    assert "recall@10=" in done.stdout
    more = {"TEXT_PAIR_FILE": str(toy / "dev.csv"), "OUTPUT_PATH": str(tmp_path / "output"), "MODEL_DIR": str(tmp_path / "output"),
            "TEST_SET_FILE": "", "MAX_SEQ_LENGTH": "24"}
    texts = tmp_path / "texts.csv"
    texts.write_text((toy / "corpus.csv").read_text())
    for name, own in (("predict.sh", {}), ("export_model.sh", {}), ("../deploy/python/deploy.sh", {}),
                      ("train_hardest_neg.sh", {"SAVE_DIR": str(tmp_path / "hardest")}),
                      ("train_simcse.sh", {"SAVE_DIR": str(tmp_path / "simcse"), "TRAIN_SET_FILE": str(texts)})):
        done = shell(name, **more | own)
        assert done.returncode == 0, done.stdout + done.stderr
    assert shell("export_model.sh", PARAMS_PATH="none").returncode == 2
    assert shell("train_batch_neg.sh", TRAIN_SET_FILE="none.csv").returncode == 2
    assert shell("run_build_index.sh", PARAMS_PATH="none").returncode == 2
    assert shell("evaluate.sh", RECALL_RESULT_FILE="none").returncode == 2


@pytest.mark.skipif(not (SHARED / "finance_pairs").is_dir(), reason="finance_pairs is not on this machine")
def test_real_files_are_read_whole(tmp_path):
    data = SHARED / "finance_pairs"
    succeed("keyword_recall.py", "--corpus_file", data / "corpus.csv", "--similar_text_pair", data / "test.csv",
            "--recall_result_dir", tmp_path, "--recall_result_file", "bm25.txt")
    out = succeed("evaluate.py", "--similar_text_pair", data / "test.csv", "--recall_result_file",
                  tmp_path / "bm25.txt", cwd=tmp_path)
    values = dict(line.split("=") for line in out.splitlines())
    assert 8 < float(values["recall@10"]) < 9 and 21 < float(values["recall@50"]) < 23


def test_waiting_is_not_needed():
    began = time.perf_counter()
    fail(*TRAIN, "--train_set_file", "none.csv", "--model_name_or_path", "ernie-3.0-medium-zh")
    assert time.perf_counter() - began < 60
