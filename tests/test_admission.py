"""Who is let in: not who would wait longer than the rate of the answers allows."""

from deploy.service.admission import FEW, KEPT, SHARE, Admission


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
