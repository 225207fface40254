"""The service: its store, its index that changes, its batches, and the server as a process."""

import asyncio
import base64
import json
import signal
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import conftest
import numpy as np
import pytest
import uvicorn
from conftest import SUBJECTS, succeed
from hypothesis import given, settings
from hypothesis import strategies as st
from service import running
from small_encoder import WIDTH, Characters, encoder, run

from deploy.service import live as lives
from deploy.service import snapshots
from deploy.service.app import create
from deploy.service.cache import Cache
from deploy.service.compute import Compute, FullError
from deploy.service.generation import Model
from deploy.service.serving import Service
from deploy.service.store import ConflictError, Store, UnknownError
from semindex.faq.confidence import Confidence
from semindex.faq.entries import Entry
from semindex.search.fusion import Fusion
from semindex.search.keyword import KeywordSettings
from semindex.search.methods import Calibration, Method


def test_the_store_numbers_changes_and_refuses_what_cannot_be(tmp_path):
    store = Store(str(tmp_path / "a.sqlite"))
    one, two = store.add([Entry("甲", "一", "", ["乙"]), Entry("丙", "二")])
    assert (one.number, two.number, store.last(), store.count()) == (1, 2, 2, 2)
    for wrong in ([Entry("丁", "三"), Entry("乙", "四")], [Entry("戊", "五"), Entry("戊", "六")]):
        with pytest.raises(ConflictError):
            store.add(wrong)
    assert store.count() == 2 and store.last() == 2  # all or none
    store.change(one.id, Entry("甲", "新", "", ["庚"]))
    store.remove(two.id)
    with pytest.raises(UnknownError):
        store.change(two.id, Entry("丙", "二"))
    with pytest.raises(UnknownError):
        store.remove(two.id)
    assert [(c.number, c.id, c.entry and c.entry.answer) for c in store.since(0)] == [(3, one.id, "新"), (4, two.id, None)]
    assert store.since(3)[0].id == two.id and not store.since(4)
    assert store.add([Entry("乙", "再")])[0].id > two.id  # its question is free, its id is new
    assert [entry.answer for _, entry in store.some(like="再")] == ["再"] and not store.some(like="%")
    for label in (0, 1):
        store.add_feedback(0.0, "问", "甲", label)
    assert list(store.feedback()) == [("问", "甲", 1)]
    store.close()
    again = Store(str(tmp_path / "a.sqlite"))
    assert again.last() == 5 and again.get(one.id).similar == ["庚"]
    again.close()


def index_of(entries):
    """An index built at once."""
    live = lives.Live.empty("f", WIDTH)
    changes = [SimpleNamespace(number=n, id=id, entry=entry) for n, (id, entry) in enumerate(sorted(entries.items()), 1)]
    live.apply(changes, run(Characters()([t for _, e in sorted(entries.items()) for t in e.questions]).pad(
        np.arange(sum(len(e.questions) for e in entries.values())), 0)) if entries else np.empty([0, WIDTH], np.float32))
    return live


def found(live, queries, method):
    vectors = run(Characters()(queries).pad(np.arange(len(queries)), 0))
    fused = live.search(queries, vectors, method, 5).fused
    return [[(int(i), round(float(s), 5)) for i, s in zip(row, scores) if i >= 0] for row, scores in zip(fused.ids, fused.scores)]


words = st.text("abcdef", min_size=1, max_size=5)
steps = st.lists(st.one_of(
    st.tuples(st.just("put"), st.integers(1, 6), st.lists(words, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("remove"), st.integers(1, 6)), st.just(("rebuild",)), st.just(("adopt",)), st.just(("restart",))), max_size=14)


@settings(max_examples=30, deadline=None)
@given(steps)
def test_an_index_that_changed_finds_what_a_new_one_finds(tmp_path_factory, steps):
    directory = str(tmp_path_factory.mktemp("snapshots"))
    live, entries, number, frozen = lives.Live.empty("f", WIDTH), {}, 0, None
    for step in steps:
        if step[0] in ("put", "remove"):
            number += 1
            entry = Entry(f"{step[1]}{step[2][0]}", "x", "", [f"{step[1]}{w}" for w in step[2][1:]]) if step[0] == "put" else None
            texts = entry.questions if entry else []
            live.apply([SimpleNamespace(number=number, id=step[1], entry=entry)],
                       run(Characters()(texts).pad(np.arange(len(texts)), 0)) if texts else np.empty([0, WIDTH], np.float32))
            entries.pop(step[1], None)
            entries |= {step[1]: entry} if entry else {}
        elif step[0] == "rebuild":
            frozen = live.freeze()
            snapshots.write(frozen, directory, "f")
        elif step[0] == "adopt" and frozen:  # changes came in between
            live.adopt(snapshots.open_snapshot(f"{directory}/{snapshots.names(directory)[0]}"), frozen)
            frozen = None
        elif step[0] == "restart" and frozen and frozen.number == number:
            live = snapshots.load(directory, lives.Live.empty("f", WIDTH), number, pytest.fail)
            frozen = None
    assert set(live.questions) == set(entries)
    fresh = index_of(entries)
    asked = ["1a", "2bc", "6f", "ab", *[e.question for e in entries.values()]]
    for method in (Method("dense"), Method("keyword"), Method("hybrid", Fusion("minmax"))):
        one, two = found(live, asked, method), found(fresh, asked, method)
        for mine, theirs in zip(one, two):
            assert [s for _, s in mine] == pytest.approx([s for _, s in theirs], abs=1e-4)


def test_a_question_that_reads_as_one_that_is_gone_is_still_found():
    live = index_of({1: Entry("AB?", "x"), 2: Entry("ab", "y"), 3: Entry("ab!", "z")})

    def exact(query):
        return live.owner.get(live.search([query], run(Characters()([query]).pad(np.arange(1), 0)), Method(), 3).exact[0])

    assert [exact(query) for query in ("ab", "ab?", "a b", "c")] == [2, 1, 2, None]
    live.apply([SimpleNamespace(number=9, id=2, entry=None)], np.empty([0, WIDTH], np.float32))
    assert exact("ab") == 1
    live.apply([SimpleNamespace(number=10, id=1, entry=None)], np.empty([0, WIDTH], np.float32))
    assert exact("ab") == 3


def test_a_damaged_snapshot_is_passed_over(tmp_path):
    live = index_of({1: Entry("ab", "x"), 2: Entry("cd", "y")})
    snapshots.write(live.freeze(), str(tmp_path), "f")
    path = tmp_path / snapshots.names(str(tmp_path))[0] / "vectors.npy"

    def load(warn, *about, last=2, **more):
        return len(snapshots.load(str(tmp_path), lives.Live.empty(*about, **more), last, warn))

    assert load(pytest.fail, "f", WIDTH) == 2
    told = []
    for message, *about in (("another encoder", "g", WIDTH), ("another store", "f", WIDTH, "other"),
                            ("other keyword settings", "f", WIDTH, "", KeywordSettings(k1=1.0))):
        assert not load(told.append, *about) and message in told.pop()
    path.write_bytes(path.read_bytes()[:-4])
    assert not load(told.append, "f", WIDTH) and "passed over" in told.pop()
    assert not load(told.append, "f", WIDTH, last=1) and "newer than the store" in told.pop()
    assert not snapshots.names(str(tmp_path))


def test_texts_of_many_requests_share_batches_and_get_their_own_vectors():
    shapes, gate = [], threading.Event()

    def slow(ids):
        gate.wait(10)
        shapes.append(ids.shape)
        return run(ids)

    compute, own = Compute(), encoder(slow, budget=64)

    async def ask():
        first = asyncio.create_task(compute.encode(["a"], own))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(compute.encode([letter * n], own)) for letter in "bcdefgh" for n in (2, 9)]
        await asyncio.sleep(0.05)
        gate.set()
        return [await task for task in (first, *others)]

    vectors = asyncio.run(ask())
    texts = ["a", *(letter * n for letter in "bcdefgh" for n in (2, 9))]
    np.testing.assert_allclose(np.concatenate(vectors), np.concatenate([encoder()([text]) for text in texts]), atol=1e-6)
    assert len(shapes) < 6 and all(rows * longest <= 64 for rows, longest in shapes)
    compute.stop(5)


def test_a_batch_that_fails_fails_its_own_requests_only():
    def picky(ids):
        if ids.shape[1] == 3:
            raise RuntimeError("no threes")
        return run(ids)

    compute, own = Compute(), encoder(picky, batch_size=1)

    async def ask():
        return await asyncio.gather(*(compute.encode([text], own) for text in ("a", "bbb", "cc")), return_exceptions=True)

    one, two, three = asyncio.run(ask())
    assert isinstance(two, RuntimeError) and one.shape == three.shape == (1, WIDTH)
    compute.stop(5)


def test_a_full_queue_says_so_and_the_work_of_who_left_is_dropped():
    gate = threading.Event()
    compute, own = Compute(most=4), encoder(lambda ids: gate.wait(10) and run(ids))

    async def ask():
        first = asyncio.create_task(compute.encode(["a"], own))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(compute.encode(["b", "c", "d"], own))
        await asyncio.sleep(0.05)
        with pytest.raises(FullError):
            await compute.encode(["e"], own)
        left.cancel()
        gate.set()
        await first
        return await compute.encode(["f"], own)

    assert asyncio.run(ask()).shape == (1, WIDTH)
    assert compute.numbers.dropped == 3 and compute.waiting == 0
    compute.stop(5)


def test_a_full_disk_undoes_the_write_and_the_next_one_works(tmp_path):
    store = Store(str(tmp_path / "a.sqlite"))
    store._db().execute("PRAGMA max_page_count = 40")
    for text in ("x" * 300_000, "x" * 300_000):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.add([Entry("大", text)])
    assert store.add([Entry("小", "y")])[0].number == 1 and store.count() == 1
    store.close()


def service_of(tmp_path, run=run, **more):
    return Service(str(tmp_path / "data"), Model(encoder(run), "f"), **more)


def test_a_write_is_refused_before_it_is_on_the_disk_or_not_at_all(tmp_path):
    gate = threading.Event()
    gate.set()

    def slow(ids):
        gate.wait(10)
        return run(ids)

    async def ask():
        service = service_of(tmp_path, slow, most=4)
        await service.start()
        gate.clear()
        first = asyncio.create_task(service.vectors(["a"], "query"))
        await asyncio.sleep(0.05)
        written = asyncio.create_task(service.write(lambda: service.store.add([Entry("甲", "x", "", list("bcdef"))])))
        await asyncio.sleep(0.05)
        with pytest.raises(FullError):
            await service.write(lambda: service.store.add([Entry("乙", "y")]))
        assert service.store.count() == 1
        left = asyncio.create_task(service.write(lambda: service.store.remove(1)))
        gate.set()
        await first
        assert (await written)[0][0].id == 1
        left.cancel()
        await service.write(lambda: service.store.add([Entry("丙", "z")]))
        assert sorted(service.generation.index.questions) == [entry for entry, _ in service.store.some()]
        await asyncio.to_thread(service.stop, 5)

    asyncio.run(ask())


def test_a_store_that_was_replaced_or_put_back_is_what_is_searched(tmp_path):
    data = tmp_path / "data"

    async def serve(first=(), writes=()):
        service = service_of(tmp_path, bound=1)
        await service.start([Entry(text, text) for text in first])
        for text in writes:
            await service.write(lambda text=text: service.store.add([Entry(text, text)]))
            while service.rebuilding:
                await asyncio.sleep(0.01)
        asked = ["ab", "bc", "cd", "de", "ef", "fa", "fb", "fc"]
        found = [reply["hits"][0]["answer"] for reply in (await service.search(asked))["replies"]]
        await asyncio.to_thread(service.stop, 5)
        return {one for one, two in zip(asked, found) if one == two}, service.rebuilds

    assert asyncio.run(serve(["ab", "bc"]))[0] == {"ab", "bc"}
    (data / "kept").write_bytes((data / "entries.sqlite").read_bytes())
    assert asyncio.run(serve(writes=["cd", "de", "ef"]))[0] == {"ab", "bc", "cd", "de", "ef"}
    (data / "entries.sqlite").write_bytes((data / "kept").read_bytes())
    found, rebuilds = asyncio.run(serve(writes=["fa", "fb", "fc"]))
    assert found == {"ab", "bc", "fa", "fb", "fc"} and rebuilds
    (data / "entries.sqlite").unlink()
    assert asyncio.run(serve(["fa", "cd", "de", "ef", "fb"]))[0] == {"fa", "cd", "de", "ef", "fb"}


def test_another_entry_is_no_answer_in_the_place_of_one_that_is_gone(tmp_path):
    sure = Confidence((0,) * 6, (1,) * 6, (0,) * 6, 10, answer=0.5, suggest=0.2)  # of everything
    calibration = Calibration(Method(), "f", "c", thresholds=sure.as_json())

    async def ask():
        service = service_of(tmp_path, calibration=calibration)
        await service.start([Entry("abc", "right"), Entry("abd", "wrong")])
        before = (await service.search(["abc"]))["replies"][0]
        await asyncio.to_thread(service.store.remove, 1)  # the index has not heard of it yet
        after = (await service.search(["abc"]))["replies"][0]
        await asyncio.to_thread(service.stop, 5)
        return before, after

    before, after = asyncio.run(ask())
    assert (before["state"], before["hits"][0]["answer"]) == ("answer", "right")
    assert (after["state"], after["confidence"], [hit["answer"] for hit in after["hits"]]) == ("suggest", None, ["wrong"])


@pytest.mark.parametrize("path", ["/search", "/encode"])
def test_the_work_of_a_client_that_left_is_dropped(tmp_path, path):
    gate = threading.Event()
    gate.set()
    service = service_of(tmp_path, lambda ids: gate.wait(10) and run(ids))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create(service), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def ask(*texts):
        body = json.dumps({"query" if path == "/search" else "texts": texts}).encode()
        client = socket.create_connection(listener.getsockname())
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        return client

    def until(true):
        while not true():  # bounded by the test's own timeout
            time.sleep(0.01)

    try:
        until(lambda: service.ready)
        gate.clear()
        stays, leaves = ask("a"), None
        until(lambda: service.compute.waiting == 1)
        leaves = ask("b", "c")
        until(lambda: service.compute.waiting == 3)
        leaves.close()
        until(lambda: service.compute._texts[0].future.cancelled())  # the server has heard of it
        gate.set()
        assert stays.recv(100).startswith(b"HTTP/1.1 200")
        stays.close()
        until(lambda: service.compute.numbers.dropped == 2)
    finally:
        gate.set()
        server.should_exit = True
        thread.join(20)


def test_the_cache_forgets_the_least_used_and_the_old():
    now = [0.0]
    cache = Cache(2, 10, lambda: now[0])
    for name in "ab":
        cache.put(name, np.zeros(1))
    assert cache.get("a") is not None
    cache.put("c", np.zeros(1))
    assert cache.get("b") is None and cache.get("a") is not None
    now[0] = 11
    assert cache.get("a") is None and (cache.hits, cache.misses) == (2, 2)


@pytest.fixture(scope="module")
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
def server(place):
    with running("--faq_dir", place / "faq", "--data_dir", place / "data", "--max_body", 100_000) as server:
        yield server


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
    ("GET", "/search", None, 405), ("XYZZY", "/search", None, 405), ("GET", "/entries/0", None, 404), ("GET", "/entries/x", None, 422),
    ("GET", "/entries/99999999999999999999", None, 404), ("DELETE", "/entries/12345", None, 404), ("GET", "/entries?after=-1", None, 422),
    ("GET", "/../../etc/passwd", None, 404), ("POST", "/entries", {"question": "a"}, 422), ("POST", "/feedback", {"query": "a"}, 422),
    ("GET", "/entries?like=%27%20OR%201%3D1--", None, 200),
])
def test_bad_requests_get_a_json_error(server, method, path, body, status):
    raw = body if isinstance(body, bytes) else None
    got, content, _ = server.ask(method, path, None if raw is not None else body, raw=raw)
    assert got == status, content
    assert status == 200 or (set(content) == {"error", "status"} and content["status"] == status)


@pytest.mark.slow
def test_made_up_methods_make_no_series(server):
    server.ask("XYZZY", "/search")
    assert "XYZZY" not in server.ask("GET", "/metrics")[1]


@pytest.mark.slow
def test_two_services_do_not_share_their_data(server, place):
    done = conftest.run("deploy/service/serve.py", "--model_dir", "export", "--data_dir", "data", "--port", "0", cwd=place)
    assert done.returncode == 2 and "--data_dir" in done.stderr


@pytest.mark.slow
def test_a_variable_that_names_no_choice_is_refused(place):
    done = conftest.run("deploy/service/serve.py", "--model_dir", "export", "--data_dir", "unused", cwd=place,
                      env={"SEMINDEX_ENGINE": "onyx"})
    assert done.returncode == 2 and "SEMINDEX_ENGINE=onyx: expected one of auto, static, onnx, int8" in done.stderr


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
                except OSError:
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
    env = {"SEMINDEX_READ_KEY": "r", "SEMINDEX_WRITE_KEY": "w", "SEMINDEX_DATA_DIR": str(tmp_path / "data")}
    with running("--model_dir", place / "export", env=env) as server:
        for key, read, write in (("", 401, 401), ("x", 401, 401), ("r", 200, 401), ("w", 200, 201)):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            assert server.ask("POST", "/search", {"query": "a"}, headers)[0] == read
            assert server.ask("POST", "/entries", {"question": f"q{key}", "answer": "a"}, headers)[0] == write
        assert server.ask("GET", "/info", headers={"X-API-Key": "r"})[0] == 200 and server.ask("GET", "/health")[0] == 200
        code, log = server.stop()
        assert code == 128 + signal.SIGTERM and log.splitlines()[-1] == "terminated"
        rows = [json.loads(line) for line in log.splitlines()[:-1]]
        assert {row["level"] for row in rows if "not calibrated" not in row["text"]} == {"INFO"}
