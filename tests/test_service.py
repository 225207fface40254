"""The service as a process: every endpoint, bad requests, keys, a kill."""

import base64
import http.client
import json
import signal
from concurrent.futures import ThreadPoolExecutor

import conftest
import numpy as np
import pytest
from conftest import SUBJECTS
from service import running


@pytest.mark.slow
def test_every_endpoint_answers(server, place):
    status, info, _ = server.ask("GET", "/info")
    assert status == 200 and info["entries"] == len(SUBJECTS) and info["questions"] == 2 * len(SUBJECTS)
    status, reply, _ = server.ask("POST", "/search", {"query": f"{SUBJECTS[2]}怎么办？", "top": 2})
    hit = reply["replies"][0]["hits"][0]
    assert (status, hit["answer"], hit["sources"]["dense"]["rank"]) == (200, "答2", 1) and len(reply["replies"][0]["hits"]) == 2
    for method in ("dense", "keyword", "hybrid"):
        status, reply, _ = server.ask("POST", "/search", {"query": [f"{s}怎么办" for s in SUBJECTS], "method": method})
        assert status == 200 and [row["hits"][0]["answer"] for row in reply["replies"]] == [f"答{i}" for i in range(len(SUBJECTS))]
    vectors = server.ask("POST", "/encode", {"id": 7, "texts": ["退款", "挂失"], "is_tokenized": False})[1]
    assert server.ask("POST", "/encode", {"id": [2**70, "卡"], "texts": ["退款"]})[1]["id"] == [2**70, "卡"]
    assert vectors["id"] == 7 and vectors["status"] == 200 and vectors["result"] == vectors["results"]
    form = server.ask("POST", "/encode", raw=b"id=7&texts=%E9%80%80%E6%AC%BE&texts=%E6%8C%82%E5%A4%B1",
                      headers={"Content-Type": "application/x-www-form-urlencoded"})[1]
    np.testing.assert_allclose(form["result"], vectors["result"], atol=1e-5)
    tokens = server.ask("POST", "/encode", {"texts": [["退", "款"]], "is_tokenized": True})
    assert tokens[0] == 200 and len(tokens[1]["result"]) == 1
    for shape in ("float", "base64"):
        rows = server.ask("POST", "/v1/embeddings", {"input": ["退款", "挂失"], "model": "x", "encoding_format": shape})[1]["data"]
        got = [np.frombuffer(base64.b64decode(r["embedding"]), "<f4") if shape == "base64" else r["embedding"] for r in rows]
        np.testing.assert_allclose(got, vectors["result"], atol=1e-5)
    short = np.array(server.ask("POST", "/v1/embeddings", {"input": "退款", "dimensions": 4})[1]["data"][0]["embedding"])
    assert short.shape == (4,) and np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
    cosine = server.ask("POST", "/similarity", {"pairs": [["退款", "挂失"], ["退款", "退款"]]})[1]["cosines"]
    assert cosine == pytest.approx([float(np.dot(*vectors["result"])), 1], abs=1e-4)
    metrics = server.ask("GET", "/metrics")[1]
    assert 'semindex_requests_total{method="POST",path="/search",status="200"}' in metrics and "semindex_entries 12.0" in metrics
    assert {"/search", "/entries/{id}", "/v1/embeddings"} <= set(server.ask("GET", "/openapi.json")[1]["paths"])


@pytest.mark.slow
def test_entries_come_change_and_go(server):
    status, made, _ = server.ask("POST", "/entries", {"question": "充电桩 在哪", "answer": "地下二层"})
    assert status == 201
    path = f"/entries/{made['id']}"

    def first():
        return server.ask("POST", "/search", {"query": "充电桩在哪"})[1]["replies"][0]["hits"][0]["answer"]

    assert first() == "地下二层"
    assert server.ask("PUT", path, {"question": "充电桩在哪", "answer": "地下三层", "similar": ["哪里能充电"]})[0] == 200 and first() == "地下三层"
    assert server.ask("POST", "/entries", {"question": "哪里能充电", "answer": "x"})[0] == 409
    assert server.ask("GET", path)[1]["similar"] == ["哪里能充电"]
    assert server.ask("GET", "/entries?like=" + "%E5%9C%B0%E4%B8%8B")[1]["entries"][0]["id"] == made["id"]
    assert any(json.loads(line)["answer"] == "地下三层" for line in server.ask("GET", "/entries/export")[1].splitlines())
    assert server.ask("DELETE", path)[0] == 200 and first() != "地下三层" and server.ask("GET", path)[0] == 404
    ids = server.ask("POST", "/entries/import", {"entries": [{"question": f"新{i}", "answer": "y"} for i in range(3)]})[1]["ids"]
    assert len(ids) == 3
    for label in (1, 0):
        assert server.ask("POST", "/feedback", {"query": "充电", "question": "新1", "label": label})[0] == 201
    assert server.ask("GET", "/feedback/export")[1] == "充电\t新1\t0\n"
    for id in ids:
        server.ask("DELETE", f"/entries/{id}")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "body", "status"), [
    ("POST", "/search", b"{", 422), ("POST", "/search", b"", 422), ("POST", "/search", b"\xff\xfe", 422),
    ("POST", "/search", {}, 422), ("POST", "/search", {"query": ""}, 422), ("POST", "/search", {"query": "  "}, 422),
    ("POST", "/search", {"query": []}, 422), ("POST", "/search", {"query": 3}, 422), ("POST", "/search", {"query": "a", "top": 0}, 422),
    ("POST", "/search", {"query": "a", "method": "both"}, 422), ("POST", "/search", {"query": "a", "x": 1}, 422),
    ("POST", "/search", {"query": "长" * 9000}, 422), ("POST", "/search", {"query": "长" * 100_000}, 413),
    ("POST", "/search", {"query": ["a"] * 1025}, 422), ("POST", "/encode", {"texts": "a"}, 422), ("POST", "/encode", b"", 400),
    ("POST", "/encode", {"texts": [["a"]]}, 422), ("POST", "/encode", b"[" * 5000, 422),
    ("POST", "/v1/embeddings", {"input": "a", "dimensions": 5000}, 422), ("POST", "/similarity", {"pairs": [["a"]]}, 422),
    ("POST", "/search", {"query": "\x1c"}, 422), ("POST", "/search", b'{"query": "\\ud800"}', 422),
    ("POST", "/entries", {"question": "a\x1c", "answer": "\x1d"}, 422), ("POST", "/encode", b'{"texts": ["\\ud800"]}', 422),
    ("POST", "/encode", b'{"id": NaN, "texts": ["a"]}', 422), ("POST", "/encode", b'{"id": 1e999, "texts": ["a"]}', 422),
    ("POST", "/encode", b'{"id": "\\ud800", "texts": ["a"]}', 422), ("POST", "/encode", {"texts": ["a", "\x1c"]}, 422),
    ("GET", "/search", None, 405), ("XYZZY", "/search", None, 400), ("PATCH", "/search", {}, 405), ("GET", "/entries/0", None, 404), ("GET", "/entries/x", None, 404),
    ("GET", "/entries/99999999999999999999", None, 404), ("DELETE", "/entries/12345", None, 404), ("GET", "/entries?after=-1", None, 422),
    ("GET", "/../../etc/passwd", None, 404), ("POST", "/entries", {"question": "a"}, 422), ("POST", "/feedback", {"query": "a"}, 422),
    ("GET", "/entries?like=%27%20OR%201%3D1--", None, 200), ("GET", "/entries/" + "9" * 5000, None, 404), ("GET", "/entries/", None, 404),
    ("POST", "/v1/embeddings", b'{"input": "a", "model": "\\ud800"}', 422), ("POST", "/v1/embeddings", b'{"input": "a", "user": "\\ud800"}', 422),
    ("POST", "/entries", {"question": "a\0b", "answer": "b"}, 422), ("GET", "/entries?like=%00", None, 422),
    ("POST", "/entries/import", b"{", 422), ("POST", "/entries/import", {"entries": [{"question": "a"}]}, 422),
])
def test_bad_requests_get_a_json_error(server, method, path, body, status):
    raw = body if isinstance(body, bytes) else None
    got, content, _ = server.ask(method, path, None if raw is not None else body, raw=raw)
    assert got == status, content
    assert status == 200 or (set(content) == {"error", "status"} and content["status"] == status)


@pytest.mark.slow
def test_errors_name_the_field_in_the_words_of_the_request(server):
    assert server.ask("POST", "/search", {"query": ["a", ""]})[1]["error"].startswith("body.query")
    for body in ({"query": ["a", ""]}, {"query": 3}):
        assert "[" not in server.ask("POST", "/search", body)[1]["error"].partition(": ")[0]


@pytest.mark.slow
def test_what_is_exported_can_be_imported(server):
    text = server.ask("GET", "/entries/export")[1]
    lines = [json.loads(line) for line in text.splitlines()]
    kind = {"Content-Type": "application/x-ndjson"}
    assert server.ask("POST", "/entries/import", raw=text.encode(), headers=kind)[0] == 409  # they are all there
    moved = "".join(json.dumps(line | {"question": f"另{line['question']}", "similar": [], "answer": "a\tb\nc"}) + "\n" for line in lines)
    status, made, _ = server.ask("POST", "/entries/import", raw=moved.encode(), headers=kind)
    assert status == 201 and len(made["ids"]) == len(lines)
    assert server.ask("GET", f"/entries/{made['ids'][0]}")[1]["answer"] == "a\tb\nc"
    for id in made["ids"]:
        assert server.ask("DELETE", f"/entries/{id}")[0] == 200
    assert server.ask("POST", "/entries/import", raw=b'{"question": "a", "answer": "b"}\n{', headers=kind)[0] == 422


@pytest.mark.slow
def test_other_sites_pages_can_neither_read_nor_write(server):
    entry = {"question": "外来的", "answer": "x"}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example", "Origin": "http://evil.example"}):
        for path, body in (("/entries", entry), ("/search", {"query": "a"}), ("/admin/rollback", None)):
            status, content, _ = server.ask("POST", path, body, headers, raw=b"" if body is None else None)
            assert status == 403 and "evil" in content["error"] or "null" in content["error"]
    assert server.ask("POST", "/search", {"query": "a"}, {"Origin": server.address})[0] == 200  # its own page
    assert server.ask("GET", "/entries?like=%E5%A4%96%E6%9D%A5%E7%9A%84")[1]["entries"] == []
    for path in ("/", "/health", "/ready"):
        assert server.ask("HEAD", path)[0] == 200


@pytest.mark.slow
def test_made_up_methods_make_no_series(server):
    server.ask("XYZZY", "/search")
    assert "XYZZY" not in server.ask("GET", "/metrics")[1]


@pytest.mark.slow
def test_two_services_do_not_share_their_data(server, place):
    done = conftest.run("deploy/service/serve.py", "--model_dir", "export", "--data_dir", server.data, "--port", "0", cwd=place)
    assert done.returncode == 2 and "--data_dir" in done.stderr


@pytest.mark.slow
def test_a_variable_that_names_no_choice_is_refused(place):
    done = conftest.run("deploy/service/serve.py", "--model_dir", "export", "--data_dir", "unused", cwd=place,
                      env={"SEMINDEX_ENGINE": "onyx"})
    assert done.returncode == 2 and "SEMINDEX_ENGINE=onyx: expected one of auto, static, onnx, int8" in done.stderr
    flags = ["deploy/service/serve.py", "--model_dir", "export", "--data_dir", "unused"]
    done = conftest.run(*flags, cwd=place, env={"SEMINDEX_LOG_TEXTS": "maybe"})
    assert done.returncode == 2 and "SEMINDEX_LOG_TEXTS=maybe: expected true or false" in done.stderr
    for more, words in ((["--models_dir", "nowhere"], "--models_dir nowhere"), (["--read_key", "密"], "--read_key"),
                        (["--host", "192.0.2.1"], "--host 192.0.2.1 --port")):
        done = conftest.run(*flags, *more, cwd=place)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(place, tmp_path):
    flags = ["--faq_dir", place / "faq", "--data_dir", tmp_path / "data", "--rebuild_after", 10]
    acknowledged, removed = {}, set()
    for turn in range(3):
        with running(*flags) as server:
            known = {row["id"]: row["answer"] for row in server.ask("GET", "/entries?limit=1000")[1]["entries"]}
            assert set(acknowledged.items()) <= set(known.items()) and not removed & set(known)

            def write(number, server=server, turn=turn):
                try:
                    status, made, _ = server.ask("POST", "/entries", {"question": f"第{turn}轮{number}", "answer": f"{turn}-{number}"})
                except (OSError, http.client.HTTPException):  # it was killed before, or while it answered
                    return
                if status == 201:
                    acknowledged[made["id"]] = f"{turn}-{number}"
                    if len(acknowledged) > 15 and turn < 2:
                        server.process.kill()

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(write, range(12)))
            if turn == 1 and server.process.poll() is None:
                gone = min(acknowledged)
                if server.ask("DELETE", f"/entries/{gone}")[0] == 200:
                    removed.add(gone)
                    del acknowledged[gone]
            server.process.kill()
    with running(*flags) as server:
        rows = {row["id"]: row for row in server.ask("GET", "/entries?limit=1000")[1]["entries"]}
        assert set(acknowledged) <= set(rows)
        queries = [rows[id]["question"] for id in acknowledged]
        replies = server.ask("POST", "/search", {"query": queries, "top": 1})[1]["replies"]
        assert [reply["hits"][0]["answer"] for reply in replies] == [rows[id]["answer"] for id in acknowledged]
        assert server.stop()[0] == 128 + signal.SIGTERM


@pytest.mark.slow
def test_keys_and_variables(place, tmp_path):
    env = {"SEMINDEX_READ_KEY": "r", "SEMINDEX_WRITE_KEY": "w", "SEMINDEX_DATA_DIR": str(tmp_path / "data"),
           "SEMINDEX_CACHE_SIZE": "0"}
    with running("--model_dir", place / "export", env=env) as server:
        for key, read, write in (("", 401, 401), ("x", 401, 401), ("r", 200, 401), ("w", 200, 201)):
            headers = {"Authorization": f"bearer {key}"} if key else {}
            assert server.ask("POST", "/search", {"query": "a"}, headers)[0] == read
            assert server.ask("POST", "/entries", {"question": f"q{key}", "answer": "a"}, headers)[0] == write
        metrics = server.ask("GET", "/metrics", headers={"X-API-Key": "r"})[1]
        assert "semindex_cache_hits 0.0" in metrics  # the same was searched twice
        assert server.ask("GET", "/info", headers={"X-API-Key": "r"})[0] == 200 and server.ask("GET", "/health")[0] == 200
        code, log = server.stop()
        assert code == 128 + signal.SIGTERM and "terminated" in log.splitlines()
        rows = [json.loads(line) for line in log.splitlines() if line != "terminated"]
        assert {row["level"] for row in rows if "not calibrated" not in row["text"]} == {"INFO"}
