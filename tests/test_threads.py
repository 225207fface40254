"""Threads that share an encoder: each gets the vectors of its own texts, whatever engine computes them."""

import sys
import threading

import numpy as np
import pytest

from models.encoders import dynamic, fast_encoder
from models.loading import load

THREADS, CALLS = 4, 40


def calls(thread):
    """Texts of other lengths and numbers in every call: a mix-up shows in the shape, or in the numbers."""
    return [[f"{thread}号第{i}次" + "问题" * (i % 5) + str(j) for j in range(1 + (thread + i) % 3)] for i in range(CALLS)]


@pytest.fixture
def often():
    """Threads that take turns as often as Python can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dynamic", "training", "static", "onnx"])
def test_threads_that_share_an_encoder_get_their_own_vectors(checkpoint, engine, often):
    model, tokenizer = load(str(checkpoint), {})
    if engine == "training":  # as in an evaluation: dropout is switched off for each call, and on again
        model.train()
        encoder = dynamic(model, tokenizer)
    else:
        encoder, _ = fast_encoder(model, tokenizer, engine, 1)
    truth = [[encoder(texts) for texts in calls(thread)] for thread in range(THREADS)]
    faults, start = [], threading.Barrier(THREADS)

    def work(thread):
        start.wait()
        for i, texts in enumerate(calls(thread)):
            try:
                vectors = encoder(texts)
                if vectors.shape != truth[thread][i].shape or not np.allclose(vectors, truth[thread][i], rtol=0, atol=1e-6):
                    faults.append((thread, i, "other vectors"))
            except Exception as error:
                faults.append((thread, i, error))

    threads = [threading.Thread(target=work, args=[thread]) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert model.training == (engine == "training")
