"""The index that changes while it is searched finds what one built at once finds."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from service_parts import found, index_of
from small_encoder import WIDTH, Characters, run

from deploy.service import live as lives
from deploy.service import snapshots
from semindex.faq.entries import Entry
from semindex.search.fusion import Fusion
from semindex.search.keyword import KeywordSettings
from semindex.search.methods import Method

words = st.text("abcdef", min_size=1, max_size=5)
steps = st.lists(st.one_of(
    st.tuples(st.just("put"), st.integers(1, 6), st.lists(words, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("remove"), st.integers(1, 6)), st.just(("rebuild",)), st.just(("adopt",)), st.just(("restart",))), max_size=14)


@pytest.mark.slow
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
        same = live.search([query], run(Characters()([query]).pad(np.arange(1), 0)), Method(), 3).exact[0]
        return live.entry_of[same] if same >= 0 else None

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
