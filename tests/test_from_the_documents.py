"""What docs/from_the_documents.md says to type runs: tiny data and encoder, its blocks named `here` in its order.

Those named `also` are other ways to a step that was made before: they run last.

Replaced in them is only what the page itself tells a machine without a card to leave out.
"""

import importlib
import json
import os
import re
import shlex

import forked
import numpy as np
import paddle
import pytest
from conftest import FRAMES, ROOT, SUBJECTS

from models.loading import create
from training.negatives.generations import Generations

PAGE = ROOT / "docs" / "from_the_documents.md"
ENCODERS = ("rocketqa-zh-base-query-encoder", "ernie-1.0", "roberta-base")
FIGURES = ["ndcg@10", "map@10", "mrr", "recall@1000", "hole@10", "hole", "mrr@10"]


def blocks(document):
    """(kind, text) of a document's blocks: printed, here, also; continuation lines joined."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {document}:")[1].split("\n## ")[0]
    found = re.findall(r"^```(?:sh|text) (\w+)\n(.*?)^```$", section, re.M | re.S)
    assert found and {kind for kind, _ in found} <= {"printed", "here", "also"}
    return [(kind, re.sub(r"\s*\\\n\s*", " ", text)) for kind, text in found]


def on_a_cpu(text):
    text = re.sub(r'-m paddle\.distributed\.launch --gpus \S+ (--log_dir \S+ )?', "", text)
    return text.replace("--device gpu", "--device cpu")


@pytest.mark.parametrize("document", ["000", "001", "002", "004"])
def test_each_flag_that_is_printed_is_typed_and_known(document):
    flags = {kind: set(re.findall(r"--\w+", " ".join(text for found, text in blocks(document) if found in kind)))
             for kind in (("printed",), ("here", "also"))}
    printed, typed = flags.values()
    assert printed - {"--nproc_per_node"} <= typed
    for kind, text in blocks(document):
        for line in on_a_cpu(text).splitlines() if kind != "printed" else []:
            words = shlex.split(line, comments=True)
            if words[:1] == ["python"] and "deploy" not in line:
                script = next(word for word in words if word.endswith(".py"))
                importlib.import_module(script[:-3]).parser().parse_args(words[words.index(script) + 1 :])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A directory as a pretrained encoder's, and weights as published with the recipe: no file beside them."""
    folder = tmp_path_factory.mktemp("encoder")
    texts = [frame.format(subject) + "0123456789" for frame in FRAMES for subject in SUBJECTS]
    model, tokenizer = create("scratch-1x32", {"output_emb_size": 256, "pooling": "pooler"}, texts)
    model.ptm.save_pretrained(str(folder / "encoder"))
    tokenizer.save(str(folder / "encoder"))
    paddle.save(model.state_dict(), str(folder / "model_state.pdparams"))
    return folder


@pytest.fixture
def clone(encoder, tmp_path):
    """A clone's files and folders to stand in, encoders under the documents' names."""
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in ("semindex", "models", "training", "deploy", "scripts"))]:
        (tmp_path / path.name).symlink_to(path)
    for name in ENCODERS:
        (tmp_path / name).symlink_to(encoder / "encoder")
    return tmp_path


def write(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def pairs(count, first=0):
    return [f"{SUBJECTS[i % 12]}{i}怎么办\t{SUBJECTS[i % 12]}{i}了找谁" for i in range(first, first + count)]


def run_page(document, folder, kind="here", **more):
    """Type a document's blocks of a kind into one shell; returns what the commands printed, together."""
    text = "\n".join(on_a_cpu(text) for found, text in blocks(document) if found == kind)
    done = forked.shell(["bash", "-euc", text], cwd=folder, env={"DEVICE": "cpu"} | more)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def cosines(text):
    return [float(line) for line in text.splitlines() if re.fullmatch(r"-?[01]\.\d+(e-\d+)?", line)]


@pytest.mark.slow
def test_000_in_batch_negatives(clone, encoder):
    write(clone / "pairs.tsv", pairs(1160))  # 928 to train on, 45 steps: there is a model_40
    (clone / "checkpoints" / "batch_neg_v1.0.0").mkdir(parents=True)
    os.link(encoder / "model_state.pdparams", clone / "checkpoints" / "batch_neg_v1.0.0" / "model_state.pdparams")
    text = run_page("000", clone)
    assert {"train.csv", "dev.csv", "test.csv", "corpus.csv", "split.json"} == set(os.listdir(clone / "data"))
    assert "train_set_file data/train.csv" in text and "saved ./checkpoints/inbatch/model_45" in text
    for flag, value in (("params_path", "checkpoints/inbatch/latest"), ("corpus_file", "data/corpus.csv")):
        assert f"--{flag} {value}" in text
    assert len(re.findall(r"^recall@(?:1|5|10|20|50)=\d+", text, re.M)) == 10
    assert len(cosines(text)) == len((clone / "data" / "test.csv").read_text().splitlines())
    assert text.count("exported to ./output") == 2 and text.count("(2, 256)") + text.count("(3, 256)") == 2
    for name, count in (("train", 320), ("dev", 12)):
        write(clone / "recall" / f"{name}.csv", pairs(count))
    write(clone / "recall" / "corpus.csv", [line.split("\t")[1] for line in pairs(64)])
    text = run_page("000", clone, "also", root_path="literature")
    assert "saved ./checkpoints/literature/model_10" in text and "recall@50=" in text
    assert (clone / "recall_result_dir" / "evaluate_result.txt").exists()


@pytest.mark.slow
def test_001_model_zoo(clone):
    write(clone / "semantic_pair_train.tsv", pairs(128))
    write(clone / "semantic_similar_pair.tsv", pairs(20, 200))
    write(clone / "corpus_file", [line.split("\t")[1] for line in pairs(220)])
    text = run_page("001", clone)
    assert re.search(r"^\d+\.\d+\t\d+\.\d+$", text, re.M) and len(cosines(text)) == 20
    assert {"latest", "hardest", "model_6"} <= set(os.listdir(clone / "checkpoints"))


@pytest.mark.slow
def test_002_simcse(clone):
    for name, count in (("train", 64), ("dev", 12), ("test", 14)):
        write(clone / "recall" / f"{name}.csv", pairs(count))
    write(clone / "recall" / "train_unsupervised.csv", [text for line in pairs(64) for text in line.split("\t")])
    write(clone / "recall" / "corpus.csv", [line.split("\t")[1] for line in pairs(64)])
    text = run_page("002", clone)
    # recall, similarities and export: each by the newer of two trainings
    assert text.count("--params_path checkpoints/simcse/latest") == 3 and "test_set_file recall/dev.csv" in text
    assert len(re.findall(r"^recall@(?:1|5|10|20|50)=\d+", text, re.M)) == 15  # of two trainings as well
    assert "[1, 256]" in text and len(cosines(text)) == 2 * 14 and text.count("(2, 256)") + text.count("(3, 256)") == 1
    text = run_page("002", clone, "also")
    assert len(re.findall(r"^recall@(?:1|5|10|20|50)=\d+", text, re.M)) == 5 and "exported to ./output" in text
    assert text.count("(2, 256)") + text.count("(3, 256)") == 1


def assert_within_rounding(folder, found):
    """The MRR@10 is that of the vectors in float64, whichever of scores that differ by rounding alone stand first.

    An encoder hardly trained gives many such. found: (figures, query's number to its candidates).
    """
    passages, queries = (np.load(folder / f"{name}.npy").astype(np.float64) for name in ("passages", "queries"))
    scores, rounding = queries @ passages.T, 4 * np.finfo(np.float32).eps * np.abs(queries).dot(np.abs(passages.T)).max()
    for figures, candidates in found:
        apart = [scores[i, [j for j in candidates(i) if j != i]] - scores[i, i] for i in range(40, 48)]
        least, most = (np.mean([(rank <= 10) / rank for rank in (1 + np.sum(one > bound) for one in apart)])
                       for bound in (-rounding, rounding))
        assert least - 1e-5 <= float(figures["mrr@10"]) <= most + 1e-5


@pytest.mark.slow
def test_004_ance(clone):
    rows = [line.split("\t") for line in pairs(48)]
    write(clone / "msmarco" / "collection.tsv", [f"{i}\t{text}" for i, (_, text) in enumerate(rows)])
    for name, chosen in (("train", range(40)), ("dev.small", range(40, 48))):
        write(clone / "msmarco" / f"queries.{name}.tsv", [f"{100 + i}\t{rows[i][0]}" for i in chosen])
        write(clone / "msmarco" / f"qrels.{name}.tsv", [f"{100 + i}\t0\t{i}\t1" for i in chosen])
    write(clone / "msmarco" / "triples.train.small.tsv", [f"{rows[i][0]}\t{rows[i][1]}\t{rows[i - 1][1]}" for i in range(40)])
    write(clone / "msmarco" / "top1000.dev", [f"{100 + i}\t{j}\t{rows[i][0]}\t{rows[j][1]}"
                                              for i in range(40, 48) for j in range(i - 20, min(i + 5, 48))])
    text = run_page("004", clone)
    warnings = [line for line in text.splitlines() if line.startswith("warning: passed over: ")]
    assert len(warnings) == 3 and "--expected_train_size (the data are counted)" in warnings[0]
    assert "--triplet" not in "".join(warnings) and all(line.count("--cache_dir") == 1 for line in warnings[1:2])
    assert text.count("warning: --evaluate_during_training: there is nothing") == 1
    assert "negatives of generation 0 (init, of step 0" in text and "generation 1 from ance/OSPass512/model_" in text
    assert text.count("tokenised before") == 1 and text.count(", tokenised\n") == 2
    state = json.loads(next((clone / "ance" / "OSPass512").glob("latest/training_state.json")).read_text())
    assert state["warmup_steps"] == 5000 and state["encoder's similarity"] == "dot" and state["batch_size"] == 8
    assert state["encoder's max_seq_length"] == 512 and state["optimizer"] == "lamb"
    sources = [Generations(clone / "ance" / "OSPass512" / "ann_data").read(number).source for number in (0, 1)]
    assert sources == ["init", "ann"]
    figures = re.findall(r"^([\w@]+)=([\d.]+)$", text, re.M)[-2 * len(FIGURES) :]
    assert [name for name, _ in figures] == 2 * FIGURES and all(0 <= float(value) <= 1 for _, value in figures)
    full, reranked = (dict(figures[start : start + 7]) for start in (0, 7))
    assert float(full["recall@1000"]) == float(reranked["recall@1000"]) == 1 and float(full["hole"]) == round(47 / 48, 5)
    assert_within_rounding(clone / "ance" / "ann_data_inf", [(full, lambda i: range(48)),
                                                             (reranked, lambda i: range(i - 20, min(i + 5, 48)))])
    counts = [min(i + 5, 48) - (i - 20) for i in range(40, 48)]  # candidates of each query, of which one is judged
    assert float(reranked["hole"]) == pytest.approx(np.mean([1 - 1 / count for count in counts]), abs=1e-5)
    text = run_page("004", clone, "also", raw_data_dir="msmarco", MODEL_NAME_OR_PATH="roberta-base")
    assert "saved ance/warmup_triples/model_" in text
