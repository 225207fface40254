"""Generations of the service: a new encoder goes live without a failed request, or is refused; one step back is kept."""

import asyncio
import json

import numpy as np
import pytest
from small_encoder import WIDTH, encoder, run

from deploy.service.activation import Activation, Kept, Record, RefusedError
from deploy.service.generation import Model
from deploy.service.serving import Service
from semindex.errors import UserError
from semindex.faq.entries import Entry

WORDS = ["充电桩在哪", "退款多久到账", "怎么改密码", "如何开发票", "快递到哪了", "会员怎么退订"]


def other(ids):
    """Another encoder: as good, with other vectors."""
    return np.roll(run(ids), 1, axis=1)


def blind(ids):
    """An encoder that tells no text from another."""
    return np.tile(np.eye(1, WIDTH, dtype=np.float32), [len(ids), 1])


ENCODERS = {"first": run, "other": other, "blind": blind, "again": run}


def opened(path):
    name = path.rsplit("/", 1)[-1]
    if name not in ENCODERS:
        raise UserError(f"{path}: no export")
    return Model(encoder(ENCODERS[name]), f"{name[:5]:x<64}", path)


class Place:
    """A service over the encoder `first`, with exports beside it."""

    def __init__(self, tmp_path, dev=True, **more):
        self.tmp_path, self.more = tmp_path, more
        for name in (*ENCODERS, "wrong"):
            (tmp_path / "models" / name).mkdir(parents=True, exist_ok=True)
        self.dev = ([word + "呢" for word in WORDS] + ["天气"], [*WORDS, ""]) if dev else ((), ())

    async def __aenter__(self):
        model = opened(str(self.tmp_path / "models" / "first"))
        data = str(self.tmp_path / "data")
        kept = Kept.load(data, model.fingerprint) or Kept(model.fingerprint, Record(model.path, model.fingerprint))
        self.service = Service(data, opened(kept.current.path), bound=4, **self.more)
        self.activation = Activation(self.service, kept, opened, str(self.tmp_path / "models"), self.dev)
        await self.service.start([Entry(word, f"答{place}") for place, word in enumerate(WORDS)])
        return self

    async def __aexit__(self, *_):
        await asyncio.to_thread(self.service.stop, 5)

    async def end(self):
        while self.activation._busy:
            await asyncio.sleep(0.005)
        return self.activation.about()

    async def first(self, query):
        return (await self.service.search([query]))["replies"][0]["hits"][0]["answer"]


@pytest.mark.slow
def test_a_new_encoder_goes_live_while_searches_and_writes_go_on_and_back(tmp_path):
    async def go():
        async with Place(tmp_path) as place:
            stop, answers, writes = asyncio.Event(), [], []

            async def ask():
                while not stop.is_set():
                    answers.append(await place.first(WORDS[2]))

            async def write():
                for number in range(40):
                    await place.service.write(lambda number=number: place.service.store.add([Entry(f"新问题{number}", "新")]))
                    writes.append(number)

            asking, writing = asyncio.create_task(ask()), asyncio.create_task(write())
            place.activation.activate("other")
            with pytest.raises(RefusedError, match="being built"):
                place.activation.activate("other")
            about = await place.end()
            await writing
            stop.set()
            await asking
            assert about["new"]["state"] == "live" and about["new"]["compared"]["gain"] == 0
            assert (about["current"]["model"], about["previous"]["model"]) == ("other", "first")
            assert set(answers) == {"答2"} and len(writes) == 40
            index = place.service.generation.index
            assert sorted(index.questions) == [id for id, _ in place.service.store.some(limit=100)]
            vectors = index.delta.vectors_of(index.delta.ids)
            np.testing.assert_allclose(vectors, opened("other").encoder([index.text[i] for i in index.delta.ids.tolist()]), atol=1e-6)
            place.activation.roll_back()
            about = await place.end()
            assert (about["current"]["model"], about["previous"]["model"]) == ("first", "other")
            assert await place.first(WORDS[2]) == "答2" and len(place.service.generation.index) == len(WORDS) + 40
            place.activation.activate("other", force=True)
            await place.end()
        async with Place(tmp_path) as place:  # a restart goes on with what was live
            assert place.service.model.fingerprint.startswith("other") and await place.first(WORDS[1]) == "答1"
            names = {path.name for path in (tmp_path / "data" / "snapshots").iterdir()}
            assert names <= {f"model-{'first':x<16}", f"model-{'other':x<16}"}

    asyncio.run(go())


def test_a_worse_encoder_is_refused_unless_forced(tmp_path):
    async def go():
        async with Place(tmp_path) as place:
            place.activation.activate("blind")
            about = await place.end()
            assert about["new"]["state"] == "refused" and "worse on the dev questions" in about["new"]["reason"]
            assert about["new"]["compared"]["live"]["answer@1"] == 1 > about["new"]["compared"]["new"]["answer@1"]
            assert about["current"]["model"] == "first" and about["previous"] is None and await place.first(WORDS[3]) == "答3"
            place.activation.activate("again")
            assert "live" in (await place.end())["new"]["state"]  # as good counts
            place.activation.activate("blind", force=True)
            about = await place.end()
            assert about["new"]["state"] == "live" and about["new"]["compared"]["gain"] < 0

    asyncio.run(go())


def test_what_cannot_go_live_is_told(tmp_path):
    async def go():
        async with Place(tmp_path, dev=False) as place:
            for name in ("../data", "..", "", "a/b", "nope", "x\0"):
                with pytest.raises(RefusedError, match="no export"):
                    place.activation.activate(name, force=True)
            with pytest.raises(RefusedError, match="nothing tells"):
                place.activation.activate("other")
            with pytest.raises(RefusedError, match="no generation before"):
                place.activation.roll_back()
            for name, reason in (("first", "is live already"), ("wrong", "no export")):
                place.activation.activate(name, force=True)
                about = await place.end()
                assert about["new"]["state"] == "refused" and reason in about["new"]["reason"]
            place.activation.activate("other", force=True)
            assert (await place.end())["new"] == {"state": "live"}

    asyncio.run(go())


def test_a_new_export_beside_the_old_one_is_found(tmp_path):
    async def go():
        async with Place(tmp_path) as place:
            (tmp_path / "models" / "blind" / "manifest.json").write_text("{}")
            watching = asyncio.create_task(place.activation.watch(0.01))
            await asyncio.sleep(0.05)
            assert place.activation.about()["new"]["state"] == "idle"  # it was there before
            (tmp_path / "models" / "other" / "manifest.json").write_text("{}")
            while place.activation.about()["current"]["model"] != "other":
                await asyncio.sleep(0.01)
            watching.cancel()

    asyncio.run(go())


def test_a_damaged_record_of_what_is_live_is_told(tmp_path):
    (tmp_path / "generations.json").write_text(json.dumps({"format": 1, "named": "x", "current": {"path": 3}, "previous": None}))
    with pytest.raises(UserError, match="current"):
        Kept.load(str(tmp_path), "x")
    assert Kept.load(str(tmp_path / "none"), "x") is None


def test_a_text_that_the_encoder_fails_on_holds_up_nothing(tmp_path):
    def picky(ids):
        if (ids == 1 + ord("坏") % 997).any():
            raise RuntimeError("no")
        return run(ids)

    async def go():
        service = Service(str(tmp_path / "data"), Model(encoder(picky), "f"))
        await service.start([Entry("甲乙", "一"), Entry("坏丙", "二"), Entry("丁戊", "三")])
        await service.write(lambda: service.store.add([Entry("己庚", "四")]))
        found = [(await service.search([query], method=method))["replies"][0]["hits"][0]["answer"]
                 for query, method in (("甲乙", "dense"), ("坏丙", "keyword"), ("己庚", "dense"))]
        await asyncio.to_thread(service.stop, 5)
        return found

    assert asyncio.run(go()) == ["一", "二", "四"]
