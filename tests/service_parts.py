"""Parts of the service for tests, over an encoder without files."""

from types import SimpleNamespace

import numpy as np
from small_encoder import WIDTH, Characters, encoder, run

from deploy.service import live as lives
from deploy.service.generation import Model
from deploy.service.serving import Service


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


def service_of(tmp_path, run=run, **more):
    return Service(str(tmp_path / "data"), Model(encoder(run), "f"), **more)
