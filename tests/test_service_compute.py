"""The thread that computes: batches, the queue's bound, work whose client has left; the cache."""

import asyncio
import json
import socket
import threading
import time

import numpy as np
import pytest
import uvicorn
from service_parts import service_of
from small_encoder import WIDTH, encoder, run

from deploy.service.app import create
from deploy.service.cache import Cache
from deploy.service.compute import HELD, OLDEST, Compute, FullError


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
    assert 4 < len(shapes) < 10 and all(rows * longest <= 64 for rows, longest in shapes)
    compute.stop(5)


def test_a_patient_job_waits_for_a_few_batches_and_no_longer():
    """Batches of one text each, all waiting: a job goes before the next of them, a patient one behind HELD more."""
    begun, gate, done, compute = threading.Event(), threading.Event(), [], Compute()
    own = encoder(lambda ids: (begun.set(), gate.wait(10), done.append("batch"), run(ids))[3], batch_size=1)

    async def ask():
        texts = [asyncio.create_task(compute.encode([letter], own)) for letter in "abcdefgh"]
        while not begun.is_set():  # the thread has one, all others wait
            await asyncio.sleep(0.001)
        jobs = [asyncio.create_task(compute.call(lambda: done.append("patient"), patient=True)),
                asyncio.create_task(compute.call(lambda: done.append("job")))]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*texts, *jobs)
        await compute.call(lambda: done.append("idle"), patient=True)  # nothing else is there: at once

    asyncio.run(ask())
    assert done == ["batch", "job", *["batch"] * (HELD - 1), "patient", *["batch"] * (8 - HELD), "idle"]
    compute.stop(5)


def test_no_text_is_passed_over_by_many_that_came_later():
    """Of texts of all lengths a batch is made of like ones: none that is far younger than the oldest is among them."""
    gate, own = threading.Event(), encoder(lambda ids: gate.wait(10) and run(ids), budget=64)
    compute, done = Compute(), []
    lengths = np.random.default_rng(0).integers(1, 30, 600).tolist()

    async def one(place, length):
        await compute.encode(["b" * length], own)
        done.append(place)

    async def ask():
        tasks = [asyncio.create_task(one(place, length)) for place, length in enumerate(lengths)]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    compute.stop(5)
    left = np.ones(len(lengths), bool)
    for place in done:
        left[place] = False
        assert left[:place].sum() < OLDEST
    assert done != sorted(done)


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


@pytest.mark.slow
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
        until(lambda: service.compute.waiting == 1 and not service.compute._texts)  # it is being encoded
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
