"""What the service keeps, and what is searched after each write."""

import asyncio
import sqlite3
import threading
import time

import pytest
from service_parts import service_of
from small_encoder import run

from deploy.service import replies, snapshots
from deploy.service.compute import FullError
from deploy.service.generation import PART
from deploy.service.replies import LargeError
from deploy.service.store import ConflictError, Store, UncertainError, UnknownError
from semindex.faq.confidence import Confidence
from semindex.faq.entries import Entry
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


def test_a_full_disk_undoes_the_write_and_the_next_one_works(tmp_path):
    store = Store(str(tmp_path / "a.sqlite"))
    store._db().execute("PRAGMA max_page_count = 40")
    for text in ("x" * 300_000, "x" * 300_000):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.add([Entry("大", text)])
    assert store.add([Entry("小", "y")])[0].number == 1 and store.count() == 1
    store.close()


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


def test_a_slow_disk_holds_up_no_search_and_nobody_is_told_what_is_not_so(tmp_path):
    async def serve():
        service = service_of(tmp_path)
        await service.start([Entry("甲", "x")])
        other = sqlite3.connect(service.store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # what another program does with the file
        writes = [asyncio.create_task(service.write(lambda text=text: service.store.add([Entry(text, "y")]), 0.3)) for text in "乙丙"]
        told = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(one) for one in told] == [UncertainError, asyncio.TimeoutError]  # its turn had come; it had not
        assert (await service.search(["甲"]))["replies"][0]["hits"][0]["question"] == "甲"
        other.execute("ROLLBACK")
        while (await service.search(["乙"], method="keyword"))["replies"][0]["hits"][:1] == []:
            await asyncio.sleep(0.01)  # bounded by the test's own timeout
        assert [entry.question for _, entry in service.store.some()] == ["甲", "乙"]
        await asyncio.to_thread(service.stop, 5)

    asyncio.run(serve())


def test_what_no_keyword_finds_is_no_hit_of_keywords(tmp_path):
    async def serve():
        service = service_of(tmp_path)
        await service.start([Entry("甲乙", "x"), Entry("丙丁", "y")])
        rows = (await service.search(["甲乙", "无关"], method="keyword"))["replies"]
        assert [[hit["question"] for hit in row["hits"]] for row in rows] == [["甲乙"], []] and rows[1]["state"] == "none"
        await asyncio.to_thread(service.stop, 5)

    asyncio.run(serve())


def test_an_answer_that_would_be_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(replies, "LARGEST", 100)

    async def serve():
        service = service_of(tmp_path)
        await service.start([Entry("甲", "x" * 60)])
        with pytest.raises(LargeError):
            await service.search(["甲", "甲"])
        assert len((await service.search(["甲"]))["replies"]) == 1
        await asyncio.to_thread(service.stop, 5)

    asyncio.run(serve())


def test_what_comes_during_a_rebuild_is_bounded_too(tmp_path, monkeypatch):
    going, came = threading.Event(), threading.Event()
    real = snapshots.write

    def slow(*args):
        going.set()
        assert came.wait(60)
        return real(*args)

    monkeypatch.setattr(snapshots, "write", slow)

    async def serve():
        service = service_of(tmp_path, bound=3)
        await service.start([Entry("ab", "x")])
        for text in ("bc", "cd", "de", "ef"):
            await service.write(lambda text=text: service.store.add([Entry(text, text)]))
        assert await asyncio.to_thread(going.wait, 60)
        for text in ("fa", "fb", "fc", "fd"):
            await service.write(lambda text=text: service.store.add([Entry(text, text)]))
        assert service.rebuilding and service.generation.index.pending > 3
        came.set()
        until = time.monotonic() + 60
        while service.rebuilds < 2 and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert not service.generation.index.pending
        await asyncio.to_thread(service.stop, 5)

    asyncio.run(serve())


def test_a_start_that_is_cut_short_keeps_what_it_encoded(tmp_path):
    """The encoder waits at the last question for a snapshot of those before; the next start encodes what is not in it."""
    (tmp_path / "data").mkdir()
    store = Store(str(tmp_path / "data" / "entries.sqlite"))
    store.add([Entry(f"e{n}", "x") for n in range(2 * PART)] + [Entry("z" * 60, "x")])
    store.close()
    rows, cut = [], threading.Event()

    def encoding(ids):
        rows.append(len(ids))
        until = time.monotonic() + 30
        while ids.shape[1] == 60 and not cut.is_set() and time.monotonic() < until:
            if snapshots.names(service.generation.directory):
                cut.set()
                raise FullError(1)
            time.sleep(0.01)
        return run(ids)

    async def begin():
        await service.start()
        await asyncio.to_thread(service.stop, 5)

    service = service_of(tmp_path, encoding, bound=10)
    with pytest.raises(FullError):
        asyncio.run(begin())
    service.stop(5)
    first, rows[:] = sum(rows), []
    service = service_of(tmp_path, encoding, bound=10)
    asyncio.run(begin())
    assert service.generation.index.pending <= 10  # it was not ready before its rebuild
    assert first > 2 * PART and sum(rows) < PART + 20  # the last part, and what warms the encoder up


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
