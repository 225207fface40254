"""Several processes behind one port: one writes, each finds what was written; they are started again when they die."""

import contextlib
import http.client
import json
import re
import signal
import socket
import time
import urllib.request
from pathlib import Path

import conftest
import pytest
from conftest import SUBJECTS, succeed
from service import Server, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Two exported encoders and the FAQ of the first."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "train.csv").write_text("".join(f"{s}怎么办\t{s}了找谁\n" for s in SUBJECTS), encoding="utf-8")
    (folder / "faq.tsv").write_text("".join(f"{s}怎么办\t答{i}\t类\t{s}了找谁\n" for i, s in enumerate(SUBJECTS)), encoding="utf-8")
    (folder / "dev.tsv").write_text("".join(f"{s}了咋整\t{s}怎么办\n" for s in SUBJECTS), encoding="utf-8")
    for seed in (1, 2):
        succeed("train_batch_neg.py", "--device", "cpu", "--model_name_or_path", "scratch-1x32", "--output_emb_size", "16", "--seed",
                str(seed), "--train_set_file", "train.csv", "--max_steps", "3", "--save_dir", f"run{seed}", cwd=folder)
        succeed("export_model.py", "--params_path", f"run{seed}/latest", "--output_path", f"models/{seed}", "--format", "onnx", cwd=folder)
    succeed("build_faq.py", "--device", "cpu", "--faq_file", "faq.tsv", "--model_dir", "models/1", "--output_dir", "faq", cwd=folder)
    return folder


def addresses(server, count):
    """The workers' own addresses, told before anything else."""
    while len(lines := re.findall(r"worker \d: (http\S+)\n", server.logged())) < count:
        assert server.process.poll() is None, server.logged()
        time.sleep(0.02)
    return lines


def ask(address, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def tricky(address, method, path, body, chunked=False, headers=None):
    """The status of a request whose path is sent as it is."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    data = json.dumps(body).encode()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who is refused may be cut off while it sends
        connection.request(method, path, iter([data]) if chunked else data,
                           {"Content-Type": "application/json"} | (headers or {}), encode_chunked=chunked)
    return connection.getresponse().status


def ready(address):
    while True:  # bounded by the test's own timeout
        with contextlib.suppress(OSError):
            if ask(address, "GET", "/ready")["ready"]:
                return
        time.sleep(0.02)


def test_what_one_worker_is_told_every_worker_finds(exports, tmp_path):
    server = Server("--faq_dir", exports / "faq", "--data_dir", tmp_path / "data", "--workers", 2, "--rebuild_after", 5,
                    "--dev_file", exports / "dev.tsv")
    try:
        own = addresses(server, 2)
        for address in own:
            ready(address)

        def everywhere(query):
            replies = [ask(address, "POST", "/search", {"query": query})["replies"][0]["hits"][0]["answer"] for address in own]
            assert len(set(replies)) == 1
            return replies[0]

        assert everywhere(f"{SUBJECTS[3]}怎么办") == "答3"
        ids = []
        for number in range(12):  # by turns to both; more than a rebuild waits for
            made = ask(own[number % 2], "POST", "/entries", {"question": f"第{number}个充电桩在哪", "answer": f"地下{number}层"})
            ids.append(made["id"])
            here = ask(own[number % 2], "POST", "/search", {"query": f"第{number}个充电桩在哪"})["replies"][0]["hits"][0]
            assert here["answer"] == f"地下{number}层"  # who wrote finds it at once
        while any(ask(address, "GET", "/info")["change"] < made["change"] for address in own):
            time.sleep(0.01)
        assert [everywhere(f"第{number}个充电桩在哪") for number in range(12)] == [f"地下{number}层" for number in range(12)]
        for method, path in (("POST", "/entries%3Fx=1"), ("POST", "/entries%23x"), ("POST", "/entries%00"),
                             ("DELETE", f"/entries/x/%2e%2e/{ids[3]}"), ("DELETE", f"/entries/x/../{ids[3]}")):
            assert tricky(own[1], method, path, {"question": "混进来的", "answer": "x"}) in (404, 405), path
        assert tricky(own[1], "POST", "/entries", {"question": "混进来的", "answer": "x" * (5 << 20)}, chunked=True) == 413
        page = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}  # the service's own, by its other name
        assert tricky(own[1], "DELETE", "/entries/999999", {}, headers=page) == 404
        assert tricky(own[1], "DELETE", "/entries/999999", {}, headers=page | {"Origin": "http://evil.example"}) == 403
        assert everywhere("第3个充电桩在哪") == "地下3层"
        ask(own[1], "POST", "/admin/activate", {"model": "2", "force": True})
        while any(ask(address, "GET", "/info")["model"] != "2" for address in own):
            time.sleep(0.01)
        assert everywhere("第7个充电桩在哪") == "地下7层"
        ask(own[1], "DELETE", f"/entries/{ids[7]}")
        while any(ask(address, "GET", "/info")["entries"] != len(SUBJECTS) + 11 for address in own):
            time.sleep(0.01)
        assert everywhere("第7个充电桩在哪") != "地下7层"
    finally:
        server.process.terminate()
        assert server.process.wait(60) == 128 + signal.SIGTERM


def test_a_worker_that_is_killed_comes_back_and_no_connection_is_refused(exports, tmp_path):
    server = Server("--faq_dir", exports / "faq", "--data_dir", tmp_path / "data", "--supervise")
    try:
        own = addresses(server, 1)[0]
        ready(own)
        for turn in range(2):
            made = server.ask("POST", "/entries", {"question": f"第{turn}轮", "answer": f"{turn}"})
            assert made[0] == 201
            parent = server.process.pid
            child = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
            conftest.os.kill(child, signal.SIGKILL)
            while server.ask("POST", "/search", {"query": f"第{turn}轮"})[0] == 503:  # it starts; the connection waits
                time.sleep(0.02)
            assert server.ask("POST", "/search", {"query": f"第{turn}轮"})[1]["replies"][0]["hits"][0]["answer"] == f"{turn}"
    finally:
        server.process.terminate()
        assert server.process.wait(60) == 128 + signal.SIGTERM


def test_flags_that_are_wrong_are_not_tried_again(exports, tmp_path):
    done = conftest.run("deploy/service/serve.py", "--model_dir", "nope", "--data_dir", str(tmp_path / "data"), "--supervise",
                        "--port", "0", cwd=exports)
    assert done.returncode == 2 and "nope" in done.stderr and done.stderr.count("worker 0 ended") == 1


def test_who_is_slow_or_says_too_much_is_let_go(exports, tmp_path):
    with running("--faq_dir", exports / "faq", "--data_dir", tmp_path / "data", "--timeout", "2", "--max_body", "2000",
                 "--cors_origins", "http://a.example", "--log_texts") as server:
        host, port = server.address.removeprefix("http://").split(":")

        def talk(*parts):
            """Send parts, and return all that comes back until the server closes."""
            with socket.create_connection((host, int(port)), timeout=30) as client:
                for part in parts:
                    client.sendall(part)
                found = b""
                while more := client.recv(65536):
                    found += more
                return found

        head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        assert talk(b"POST /sea") == b""  # a head without an end
        assert talk(b"") == b""
        assert talk(head + b"Content-Length: 20\r\n\r\n", b'{"que').startswith(b"HTTP/1.1 408")
        chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
        assert talk(head + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk, chunk).startswith(b"HTTP/1.1 413")
        whole = b'{"query": "\xe9\x80\x80\xe6\xac\xbe"}'
        good = talk(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(whole) + whole + b"\r\n0\r\n\r\n")
        assert good.startswith(b"HTTP/1.1 200")
        for origin, allowed in (("http://a.example", "http://a.example"), ("http://b.example", None)):
            headers = server.ask("POST", "/search", {"query": "充电"}, {"Origin": origin})[2]
            assert headers.get("Access-Control-Allow-Origin") == allowed
        log = server.stop()[1]
        rows = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        assert {"query": "充电", "state": "suggest"}.items() <= next(row for row in rows if row["text"] == "asked" and row["query"] == "充电").items()
        assert any(row["text"] == "request" and row["path"] == "/search" and row["status"] == 200 and row["milliseconds"] > 0 for row in rows)


def test_no_acknowledged_write_is_lost_by_kills(exports):
    done = conftest.run("deploy/load_test/kills.py", "--faq_dir", "faq", "--kills", "2", "--between", "1", cwd=exports)
    assert done.returncode == 0 and "2 kills;" in done.stdout and "lost: 0;" in done.stdout, done.stdout + done.stderr


def test_a_service_that_does_not_start_is_no_endless_wait(exports):
    error = conftest.fail("deploy/load_test/kills.py", "--faq_dir", "faq", "--kills", "2", cwd=exports, timeout=120,
                          env={"SEMINDEX_MODEL_DIR": "nowhere"})
    assert error.startswith("error: the service ended: ") and "nowhere: no such directory" in error
