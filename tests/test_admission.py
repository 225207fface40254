"""Who is let in: not who would wait longer than the rate of the answers allows."""

import asyncio
from types import SimpleNamespace

from deploy.service.admission import FEW, KEPT, SHARE, Admission
from deploy.service.guard import Guard, Limits
from deploy.service.metrics import Metrics


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def serve(admission, clock, count, seconds, beside):
    """Answer so many, one after the other, each in so many seconds, with so many others inside all the while."""
    for _ in range(beside):
        admission.enter()
    for _ in range(count):
        admission.enter()
        clock.now += seconds
        admission.leave()


def test_the_wait_is_those_inside_over_the_rate_of_the_answers():
    clock = Clock()
    admission = Admission(10.0, clock)
    assert admission.expected() == admission.refuses() == 0
    serve(admission, clock, KEPT + 1, 0.01, beside=40)  # 100 a second
    assert abs(admission.expected() - 0.4) < 0.01 and admission.refuses() == 0
    while not admission.refuses():
        admission.enter()
    assert abs(admission.inside - SHARE * 10 * 100) <= 3 and admission.refuses() > SHARE * 10


def test_time_without_anybody_counts_for_nothing_and_few_always_come_in():
    clock = Clock()
    admission = Admission(1.0, clock)
    serve(admission, clock, KEPT + 1, 0.5, beside=0)  # 2 a second: so few as FEW would wait for 16
    clock.now += 10_000
    assert admission.expected() == 0
    for _ in range(FEW - 1):
        admission.enter()
        assert admission.refuses() == 0
    admission.enter()
    assert abs(admission.refuses() - FEW / 2) < 0.2


def ask(guard, answers, body=b"{}", stalls=None):
    """Return the coroutine of one request; its status goes to answers. stalls: an event that its body waits for."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if stalls:
            await stalls.wait()
        return left.pop()

    async def send(message):
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    headers = [(b"content-length", str(len(body)).encode())]
    return guard({"type": "http", "method": "POST", "path": "/search", "headers": headers}, receive, send)


def guarded(clock):
    """Return a guard before an application that answers once its event is set, and that event."""
    done = asyncio.Event()

    async def application(_, receive, send):
        assert not (await receive())["more_body"]
        await done.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    nothing = SimpleNamespace(compute=None, shared=SimpleNamespace(cache=None))
    guard = Guard(application, Limits(seconds=10.0), lambda: True, Metrics(nothing))
    guard.admission = Admission(10.0, clock)
    serve(guard.admission, clock, KEPT + 1, 0.01, beside=0)  # 100 a second
    return guard, done


def test_of_a_crowd_that_comes_at_once_those_alone_come_in_who_will_be_answered_in_time():
    async def crowd():
        guard, done = guarded(Clock())
        answers = []
        asked = asyncio.gather(*(ask(guard, answers) for _ in range(1000)))
        asyncio.get_running_loop().call_later(0.2, done.set)
        await asyncio.wait_for(asked, 60)
        return answers, guard.admission.inside

    answers, inside = asyncio.run(crowd())
    assert abs(answers.count(200) - SHARE * 10 * 100) <= 3 and answers.count(429) == 1000 - answers.count(200)
    assert inside == 0


def test_a_fault_is_answered_and_counted_as_one():
    async def application(scope, receive, send):
        raise ZeroDivisionError

    async def fail():
        answers = []
        nothing = SimpleNamespace(compute=None, shared=SimpleNamespace(cache=None))
        guard = Guard(application, Limits(), lambda: True, Metrics(nothing))
        await ask(guard, answers)
        return answers, guard.metrics.requests.labels("other", "POST", 500)._value.get()

    assert asyncio.run(fail()) == ([500], 1)


def test_who_sends_slowly_takes_nobodys_place():
    async def slow():
        guard, done = guarded(Clock())
        answers, stalls = [], asyncio.Event()
        asked = asyncio.gather(*(ask(guard, answers, stalls=stalls) for _ in range(200)))
        while guard.admission.inside < 200:
            await asyncio.sleep(0)
        while guard.admission.inside:
            await asyncio.sleep(0.01)
        stalls.set()
        while guard.admission.inside < 200:
            await asyncio.sleep(0.01)
        done.set()
        await asked
        return answers, guard.admission.inside

    answers, inside = asyncio.run(asyncio.wait_for(slow(), 60))
    assert answers == [200] * 200 and inside == 0
