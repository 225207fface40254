"""The documents' flags, places and defaults, one by one; docs/from_the_documents.md as a whole is tested beside this."""

import os
import subprocess
from types import SimpleNamespace

import pytest
from conftest import ROOT
from paddlenlp.transformers import LinearDecayWithWarmup

import generate_recall
import prepare_collection
import run_ann_data_gen
import split_data
import train_ance
import train_simcse
from models.loading import create
from models.settings import SETTINGS
from semindex import document_flags
from semindex.errors import UserError


def training(*words):
    args = train_ance.parser().parse_args(words)
    document_flags.set_training(args)
    return args


def test_the_drivers_names_are_ours():
    args = training(
        "--per_gpu_train_batch_size=8", "--num_train_epochs", "2.0", "--logging_steps", "100", "--output_dir", "out",
        "--overwrite_output_dir", "--fp16", "--warmup_steps", "5000", "--logging_steps_per_eval", "3")
    assert (args.batch_size, args.epochs, args.log_steps, args.save_dir) == (8, 2, 100, "out")
    assert args.overwrite and args.precision == "auto" and args.warmup_steps == 5000 and args.eval_steps == 300
    with pytest.raises(UserError, match="not a whole number"):
        training("--num_train_epochs", "2.5")
    assert training("--logging_steps_per_eval", "3", "--train_set_file", "x").eval_steps == 0  # nothing to evaluate with
    args = run_ann_data_gen.parser().parse_args(["--per_gpu_eval_batch_size", "16", "--end_output_num", "0"])
    assert (args.batch_size, args.end_output_num, args.end_ann_step) == (16, 0, 0)


def test_what_has_no_meaning_is_named_once():
    args = training("--task_name", "MSMarco", "--cache_dir", "x", "--log_dir", "y", "--do_train", "--triplet",
                    "--expected_train_size", "35000000", "--load_optimizer_scheduler")
    text = document_flags.passed_over(args)
    assert text.startswith("passed over: --task_name (there is one task), --cache_dir (") and "\n" not in text
    assert all(text.count(flag) == 1 for flag in ("--log_dir", "--expected_train_size", "--load_optimizer_scheduler"))
    assert "--triplet" not in text and "--do_train" not in text
    assert document_flags.passed_over(training("--triplet")) == ""


@pytest.mark.parametrize(("words", "found"), [
    (["--model_type", "rdot_nll", "--max_seq_length", "512"], ("dot", 512, 1)),
    (["--model_type", "rdot_nll_multi_chunk", "--max_seq_length", "2048"], ("dot", 512, 4)),
    (["--train_model_type", "rdot_nll_multi_chunk"], ("dot", 512, 4)),
    (["--model_type", "rdot_nll_multi_chunk", "--max_seq_length", "64", "--max_chunks", "3"], ("dot", 64, 3)),
    (["--max_seq_length", "64"], (None, 64, None)),
])
def test_the_model_type_says_similarity_and_passages(words, found):
    args = training(*words)
    assert (args.similarity, args.max_seq_length, args.max_chunks) == found
    with pytest.raises(UserError, match="a multiple of 512"):
        training("--model_type", "rdot_nll_multi_chunk", "--max_seq_length", "700")


def test_a_checkpoint_may_be_named_as_model(tmp_path):
    (tmp_path / SETTINGS).touch()
    args = training("--model_name_or_path", str(tmp_path))
    assert (args.init_from_ckpt, args.model_name_or_path) == (str(tmp_path), None)
    args = training("--model_name_or_path", str(tmp_path / "other"))
    assert (args.init_from_ckpt, args.model_name_or_path) == (None, str(tmp_path / "other"))


def test_raw_files_have_their_published_names(tmp_path):
    def prepared(*words):
        args = prepare_collection.parser().parse_args(["--out_data_dir", "out", "--data_dir", str(tmp_path), *words])
        document_flags.set_preprocessing(args)
        return args

    with pytest.raises(UserError, match=r"holds no collection.tsv; --data_type 1 wants collection.tsv, queries.train.tsv"):
        prepared("--data_type", "1")
    for name in ("collection.tsv", "queries.train.tsv.gz", "qrels.train.tsv", "queries.dev.small.tsv"):
        (tmp_path / name).touch()
    args = prepared("--data_type", "1", "--dev_qrels_file", "mine", "--max_doc_character", "10000")
    assert args.queries_file.endswith("queries.train.tsv.gz") and args.dev_qrels_file == "mine"
    assert "--max_doc_character" in document_flags.passed_over(args)
    with pytest.raises(UserError, match="holds no msmarco-docs.tsv"):
        prepared()


def test_warm_up_in_steps(toy, tmp_path):
    """Four steps of eight are half of them: the same learning rate at each step."""
    from training.schedule import Schedule
    from training.step import Step

    made = Step._make_optimizer
    rates = {}
    for steps, proportion in ((4, 0.0), (0, 0.5)):
        step = SimpleNamespace(schedule=Schedule("x", learning_rate=1.0, warmup_steps=steps, warmup_proportion=proportion),
                               model=create("scratch-1x32", {}, ["字"])[0], head=SimpleNamespace(named_parameters=list))
        made(step, 8)
        assert isinstance(step.rate, LinearDecayWithWarmup)
        rates[steps] = []
        for _ in range(8):
            rates[steps].append(step.rate())
            step.rate.step()
    assert rates[4] == rates[0] == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]


def test_simcse_reads_128_tokens():
    texts = ["信用卡丢了怎么办"]
    assert create("scratch-1x32", {}, texts, "simcse")[0].settings.max_seq_length == 128
    assert create("scratch-1x32", {}, texts, "in_batch_negative")[0].settings.max_seq_length == 64
    assert create("scratch-1x32", {"max_seq_length": 32}, texts, "simcse")[1].max_seq_length == 32
    assert "checkpoint's, or 128]" in " ".join(train_simcse.parser().format_help().split())


def test_data_without_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def main(script, *words):
        monkeypatch.setattr("sys.argv", [f"{script.__name__}.py", *words])
        script.main()

    with pytest.raises(UserError, match="pairs.tsv: no such file; put your pairs there"):
        main(split_data)
    with pytest.raises(UserError, match=r"data/train.csv and data/dev.csv or data/test.csv: no such file; split_data.py"):
        main(generate_recall)
    with pytest.raises(UserError, match="go together"):
        main(generate_recall, "--train_set_file", "pairs.tsv")
    (tmp_path / "pairs.tsv").write_text("".join(f"问{i}\t答{i}\n" for i in range(20)), encoding="utf-8")
    main(split_data)
    (tmp_path / "data" / "test.csv").unlink()
    main(generate_recall)
    corpus = (tmp_path / "data" / "corpus.csv").read_text(encoding="utf-8").split()
    assert len(corpus) == 2 * 16 + 2 == len(set(corpus))


def bash(folder, text):
    return subprocess.run(["bash", "-euc", f"source {ROOT}/scripts/launch.sh; {text}"], cwd=folder, text=True,
                          capture_output=True, env=os.environ | {"PYTHON": "python3"})


@pytest.mark.slow
def test_scripts_find_the_newest_training_and_the_data(tmp_path):
    done = bash(tmp_path, "x=$(newest_training); echo never")
    assert done.returncode == 2 and "never" not in done.stdout and "name a checkpoint with PARAMS_PATH" in done.stderr
    for place, when in (("", 300), ("inbatch", 200), ("simcse/中 文", 400), ("gone", 500)):
        folder = tmp_path / "checkpoints" / place
        (folder / "model_7").mkdir(parents=True)
        (folder / "latest").symlink_to("model_7" if place != "gone" else "model_8")
        os.utime(folder / "latest", (when, when), follow_symlinks=False)
    assert bash(tmp_path, "newest_training").stdout == "checkpoints/simcse/中 文/latest\n"
    os.utime(tmp_path / "checkpoints" / "latest", (450, 450), follow_symlinks=False)
    assert bash(tmp_path, "newest_training").stdout == "checkpoints/latest\n"
    for folder, found in (("", "recall"), ("data", "data"), ("recall", "recall")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "train.csv").touch()
        assert bash(tmp_path, "data_file train.csv").stdout == f"{found}/train.csv\n"
