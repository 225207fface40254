"""A real Milvus server on loopback: what Milvus Lite does, it does; killed in the middle, nothing is lost or twice."""

import numpy as np
import pytest
from milvus_server import running
from test_index_engines import unit

from semindex.search.directory import TextIndex
from semindex.search.index import Content, IndexSettings, build_index
from semindex.search.milvus_client import Connection
from semindex.search.milvus_collection import Collection, Rows
from semindex.search.milvus_settings import MilvusSettings
from semindex.text.corpus import Corpus

TEXTS = [f"第{i}个问题怎么办" for i in range(300)]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("milvus") / "server") as found:
        yield found


class Killing(Connection):
    """A connection whose server is killed when a verb is called for the nth time, and started again meanwhile."""

    def __init__(self, settings, server, lost=(), **at):
        super().__init__(settings)
        self.server, self.at, self.lost, self.threads = server, at, dict(lost), []

    def call(self, verb, *args, **options):
        if verb in self.at:
            self.at[verb] -= 1
            if self.at[verb] == 0:
                self.threads.append(self.server.killed_and_started())
        return super().call(verb, *args, **options)

    def attempt(self, what, work, collection=""):
        """Of a verb named `lost`: the server does it, and is killed before its answer arrives."""
        if what in self.lost:
            self.lost[what] -= 1
        if self.lost.get(what) != 0:
            return super().attempt(what, work, collection)
        tries = []

        def without_answer(client):
            tries.append(work(client))
            if len(tries) == 1:
                self.threads.append(self.server.killed_and_started())
                client.list_collections(timeout=1)
            return tries[-1]

        return super().attempt(what, without_answer, collection)

    def join(self):
        for thread in self.threads:
            thread.join()
        assert self.threads and self.troubles  # it was there, went away, and was waited for


def test_a_server_does_what_a_file_does(server, tmp_path):
    some = IndexSettings("milvus", milvus=MilvusSettings(server.uri, collection="whole"))
    vectors, queries, corpus = unit(300, 16), unit(20, 16, seed=2), Corpus.from_texts(TEXTS)
    cosines = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    names = []
    for encoder in ("one", "two"):
        content = Content(corpus, encoder, ["甲", "乙"] * 150, full_text=True)
        index = build_index(vectors, some, content=content)
        assert index.keyword is None  # 2.3.5 has no full text: ours is taken
        TextIndex(index, corpus, encoder).save(str(tmp_path / encoder))
        names.append(index.collection.name)
        assert index.connection.call("list_aliases", names[-1])["aliases"] == ["whole"]
    assert set(names) <= set(index.connection.call("list_collections"))
    index = TextIndex.load(str(tmp_path / "two"), some).index
    ids, scores = index.search(queries, 10)
    np.testing.assert_array_equal(ids, np.argsort(-cosines, axis=1)[:, :10])
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, ids, 1), atol=1e-5)
    found, _ = index.search_category(queries, 10, "乙")
    np.testing.assert_array_equal(found, 1 + 2 * np.argsort(-cosines[:, 1::2], axis=1)[:, :10])
    index.remove(np.arange(0, 300, 2))
    index.add(unit(1, 16, seed=9), [0])
    assert index.collection.count() == len(index) == 151
    assert index.search(unit(1, 16, seed=9), 1)[0].tolist() == [[0]]
    np.testing.assert_array_equal(index.search(queries, 10)[0][:, 0] % 2, index.search(queries, 1)[0][:, 0] % 2)
    np.testing.assert_array_equal(index.vectors_of(np.array([3, 1])), vectors[[3, 1]])


def test_killed_in_the_middle_nothing_is_lost_and_nothing_twice(server):
    settings, rows = MilvusSettings(server.uri), 6000
    vectors, keys = unit(rows, 16), np.arange(rows) * 7
    connection = Killing(settings, server, insert=3)
    collection = Collection(connection, "killed", 16)
    collection.batch = 1000
    collection.converge(Rows(keys, vectors), "", collection.create(16, 100))
    connection.join()
    assert int(collection.call("describe_index", "vector")["pending_index_rows"]) == 0  # else a coarser index answers
    own, _ = collection.listing()
    assert collection.count() == rows and own.tolist() == keys.tolist()
    np.testing.assert_array_equal(collection.vectors(keys[::100]), vectors[::100])

    connection = Killing(settings, server, lost={"insert": 2})
    lost = Collection(connection, "lost", 16)
    lost.batch = 300
    lost.create(16, 100)
    lost.insert(Rows(keys[:900], vectors[:900]), np.arange(900))
    connection.join()
    lost.finish()
    assert lost.count() == 900 and lost.listing()[0].tolist() == keys[:900].tolist()  # the second try was an upsert

    some = IndexSettings("milvus", milvus=settings)
    index = build_index(vectors[:500], some)
    before = index.search(vectors[:200], 10)
    index.connection = index.collection.connection = Killing(settings, server, search=3)
    for start in range(0, 200, 20):
        ids, scores = index.search(vectors[start : start + 20], 10)
        np.testing.assert_array_equal(ids, before[0][start : start + 20])
        np.testing.assert_allclose(scores, before[1][start : start + 20], atol=1e-6)
    index.connection.join()
    assert index.collection.count() == 500 and collection.count() == rows
