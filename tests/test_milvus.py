"""An index in Milvus Lite: the contract of every engine, keys from content, versions behind an alias, errors."""

import gc
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from test_index_engines import Engines, unit

from semindex.errors import UserError
from semindex.search.directory import TextIndex
from semindex.search.index import Content, IndexSettings, build_index, engine
from semindex.search.milvus import keys_of
from semindex.search.milvus_client import Connection, lasting
from semindex.search.milvus_collection import Collection, Rows, cut
from semindex.search.milvus_names import is_version, publish, temporary_name
from semindex.search.milvus_settings import MilvusSettings
from semindex.text.corpus import Corpus

TEXTS = [f"第{i}个问题怎么办" for i in range(60)]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return str(tmp_path_factory.mktemp("milvus") / "lite.db")


@pytest.fixture
def named(uri, request):
    """Settings with an alias of the test's own."""
    alias = "t_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in request.node.name)[:60]
    return IndexSettings("milvus", milvus=MilvusSettings(uri, collection=alias))


def collections(some):
    """The collections of an alias, and the one that it stands for."""
    alias, connection = some.milvus.collection, Connection(some.milvus)
    names = sorted(n for n in connection.call("list_collections") if n.startswith(f"{alias}_"))
    return names, [n for n in names if alias in connection.call("list_aliases", n)["aliases"]]


class InLite(Engines):
    """The operations of every engine."""

    uri, turn = "", 0

    def settings_of(self):
        InLite.turn += 1
        return {"exact": IndexSettings("exact"),
                "milvus": IndexSettings("milvus", milvus=MilvusSettings(InLite.uri, collection=f"engine{InLite.turn}"))}


@pytest.mark.slow
def test_the_contract_of_every_engine(uri):
    from hypothesis.stateful import run_state_machine_as_test

    InLite.uri = uri
    run_state_machine_as_test(InLite, settings=settings(max_examples=4, stateful_step_count=12, deadline=None))


def test_scores_are_cosines_best_first(named):
    vectors, queries = unit(300, 16, seed=1), unit(20, 16, seed=2)
    index = build_index(vectors, named)
    ids, scores = index.search(queries, 10)
    cosines = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    np.testing.assert_array_equal(ids, np.argsort(-cosines, axis=1)[:, :10])
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, ids, 1), atol=1e-6)
    assert (np.diff(scores) <= 0).all()


def kept(named, vectors, texts, encoder="one", categories=None, **more):
    return build_index(vectors, named, content=Content(texts, encoder, categories, **more))


def test_only_what_changed_is_sent(named, capsys):
    vectors, categories = unit(60), ["甲", "乙"] * 30
    kept(named, vectors, TEXTS, categories=categories)
    assert "60 new" in capsys.readouterr().out
    kept(named, vectors, TEXTS, categories=categories)
    assert capsys.readouterr().out.endswith(": 60 kept\n")
    order = np.random.default_rng(0).permutation(60)[10:]  # ten are gone, all stand elsewhere
    texts = [TEXTS[i] for i in order] + ["新的", "更新的"]
    changed = [categories[i] for i in order] + ["丙", "丙"]
    changed[0] = "丁"
    more = np.concatenate([vectors[order], unit(2, seed=5)])
    index = kept(named, more, texts, categories=changed)
    assert capsys.readouterr().out.endswith(": 49 kept, 2 new, 1 changed, 10 removed\n")
    ids, _ = index.search(more, 1)
    assert ids[:, 0].tolist() == list(range(52)) and index.collection.count() == 52
    np.testing.assert_array_equal(index.vectors_of(np.arange(52)), more)


def test_a_category_is_a_filter(named):
    vectors = unit(60)
    index = kept(named, vectors, TEXTS, categories=['甲"', "乙"] * 30)
    ids, scores = index.search_category(vectors[:5], 40, '甲"')
    assert ids.shape == (5, 40) and (ids[:, :30] % 2 == 0).all() and (ids[:, 30:] == -1).all()
    truth = (vectors[:5] @ vectors[::2].T)
    np.testing.assert_allclose(scores[:, :30], -np.sort(-truth, axis=1), atol=1e-6)
    assert (index.search_category(vectors[:1], 3, "没有")[0] == -1).all()


def test_an_insert_that_was_cut_short_goes_on(named, monkeypatch):
    vectors, sent = unit(60), []

    class Cut(Connection):
        def call(self, verb, *args, **options):
            if verb in ("insert", "upsert"):
                sent.append(len(args[1]))
                if len(sent) == 4:
                    raise KeyboardInterrupt
            return super().call(verb, *args, **options)

    collection = Collection(Cut(named.milvus), f"{named.milvus.collection}_v{'0' * 16}", 8)
    collection.batch = 10
    rows = Rows(keys_of(TEXTS), vectors)
    with pytest.raises(KeyboardInterrupt):
        collection.converge(rows, "", collection.create(8, 8))
    assert collections(named)[1] == []  # nothing stands behind the alias
    collection.connection = Connection(named.milvus)
    found = collection.converge(rows, "", collection.create(8, 8))
    assert found == {"kept": 30, "new": 30, "changed": 0, "removed": 0} and collection.count() == 60


def test_a_row_that_stands_twice_is_mended(named):
    vectors, connection = unit(60), Connection(named.milvus)
    collection, rows = Collection(connection, f"{named.milvus.collection}_v{'0' * 16}", 8), Rows(keys_of(TEXTS), vectors)
    collection.converge(rows, "", collection.create(8, 8))
    collection.insert(rows, np.arange(3))  # Milvus does not compare keys on insert
    twice = collection.count()
    collection.converge(rows, "", False)
    assert collection.count() == 60 and twice in (60, 63)


@pytest.mark.slow
def test_versions_of_encoders_stand_behind_an_alias(named, tmp_path):
    corpus, seen = Corpus.from_texts(TEXTS), []
    for number, encoder in enumerate(["one", "two", "three"]):
        index = kept(named, unit(60, seed=number), TEXTS, encoder)
        before = collections(named)[1]
        assert before == seen[-1:]  # not before it is saved
        TextIndex(index, corpus, encoder).save(str(tmp_path / encoder))
        seen.append(index.collection.name)
        assert collections(named) == (sorted(seen[-2:]), seen[-1:])  # the last one is kept, older ones are not
    again = TextIndex.load(str(tmp_path / "two"), named)  # one step back
    assert (again.index.search(unit(60, seed=1), 1)[0][:, 0] == np.arange(60)).all()
    with pytest.raises(UserError, match="is not there any more; build the index again"):
        TextIndex.load(str(tmp_path / "one"), named)
    again.index.remove([0])
    with pytest.raises(UserError, match="holds 59 rows, the index 60"):
        TextIndex.load(str(tmp_path / "two"), named)


@pytest.mark.slow
def test_an_index_that_is_not_kept_goes_with_its_object(named):
    index = build_index(unit(20), named, queries=5)
    dead = temporary_name(index.connection, named.milvus.collection).replace(f"_{os.getpid()}_", "_999999999_")
    Collection(index.connection, dead, 8).create(8, 8)  # of a process that was killed
    assert len(collections(named)[0]) == 2 and not is_version(index.collection.name, named.milvus.collection)
    other = build_index(unit(20), named, queries=5)
    assert dead not in collections(named)[0] and len(collections(named)[0]) == 2
    del index, other
    gc.collect()  # pymilvus keeps an exception that it dealt with, and with it the frames
    assert collections(named) == ([], [])


def test_another_corpus_is_not_overwritten(named):
    """Nor put aside by another encoder, a second one of which would drop it; one text in common makes it no other."""
    index = kept(named, unit(60), TEXTS)
    publish(index.collection, named.milvus.collection)
    for encoder in ("one", "two"):
        for first, known in (("天气", "none"), (TEXTS[0], "1")):
            with pytest.raises(UserError, match=f"holds 60 texts, {known} of them of this corpus; name another --milvus_collection"):
                kept(named, unit(3), [first, "音乐", "电影"], encoder)
    assert collections(named) == ([index.collection.name], [index.collection.name]) and index.collection.count() == 60


def test_an_alias_takes_no_collection_of_others(named):
    other = Collection(Connection(named.milvus), named.milvus.collection, 8)
    other.create(8, 8)
    index = kept(named, unit(60), TEXTS)
    with pytest.raises(UserError, match="has a collection of this name that is not ours"):
        publish(index.collection, named.milvus.collection)
    other.drop()


@pytest.mark.slow
def test_milvus_searches_by_keyword(named, tmp_path):
    index = kept(named, unit(60), TEXTS[:57] + ["银行卡丢了", "退款多久到账", "退款退款到账"], full_text=True)
    ids, scores = index.keyword.search(["退款到账", "银行卡"], 3)
    assert set(ids[0, :2].tolist()) == {58, 59} and ids[1, 0] == 57
    assert (scores[:, 0] > 0).all() and (np.diff(scores[0, :2]) <= 0).all()
    os.mkdir(tmp_path / "a")
    index.save(str(tmp_path / "a"))
    meta = {"dimension": 8, "count": 60, "parameters": index.parameters()}
    assert engine("milvus").load(str(tmp_path / "a"), meta).keyword is not None
    assert kept(IndexSettings("milvus", milvus=MilvusSettings(named.milvus.uri, collection="never", full_text="never")),
                unit(60), TEXTS, full_text=True).keyword is None


def test_keys_are_made_from_texts():
    keys = keys_of(["卡丢了", "退款", "卡丢了"])
    assert keys[0] == keys_of(["卡丢了"])[0] and len(set(keys.tolist())) == 3 and (keys < 0).all()
    assert cut("卡" * 10, 8) == "卡卡" and cut("ab", 8) == "ab"


def test_the_token_is_never_shown(named, tmp_path):
    secret = MilvusSettings("http://user:hidden@127.0.0.1:9", "root:secret", timeout=0.1)
    with pytest.raises(UserError, match="Milvus at http://127.0.0.1:9: cannot be reached") as failed:
        _ = Connection(secret).client
    assert "secret" not in str(failed.value) + repr(secret) and "hidden" not in str(failed.value)
    assert secret.hide("root:secret or secret at http://user:hidden@h") == "*** or *** at http://***@h"
    some = IndexSettings("milvus", milvus=MilvusSettings(named.milvus.uri, "root:secret", named.milvus.collection))
    os.mkdir(tmp_path / "a")
    build_index(unit(3), some).save(str(tmp_path / "a"))
    assert "secret" not in (tmp_path / "a" / "milvus.json").read_text()


@pytest.mark.parametrize(("some", "message"), [
    ({"uri": ""}, "needs --milvus_uri .or MILVUS_URI in the environment"),
    ({"uri": "milvus"}, "the name of a Milvus Lite file ends in .db"),
    ({"uri": "ftp://host"}, "a server's address starts with http"),
    ({"collection": "a-b"}, "--milvus_collection a-b: a name has letters"),
])
def test_settings_that_can_be_none(some, message):
    with pytest.raises(UserError, match=message):
        Connection(MilvusSettings(**{"uri": "a.db"} | some))


def test_a_file_that_is_none_is_told(tmp_path):
    (tmp_path / "x.db").write_text("a file of something else")
    with pytest.raises(UserError, match=r"x.db: cannot be opened .*one process at a time"):
        _ = Connection(MilvusSettings(str(tmp_path / "x.db"), timeout=0.1)).client


def test_what_stays_wrong_is_not_tried_again():
    class Failure(Exception):
        def __init__(self, code, message=""):
            super().__init__(message)
            self.code, self.message = code, message

    assert lasting(Failure(1100)) and lasting(Failure(65535, "auth check failure")) and lasting(ValueError("x"))
    assert not lasting(Failure(101)) and not lasting(Failure(2)) and not lasting(Failure(65535, "context canceled"))


def test_what_a_directory_tells_is_checked(named, tmp_path):
    index = build_index(unit(20), named)
    os.mkdir(tmp_path / "a")
    index.save(str(tmp_path / "a"))
    meta = {"dimension": 8, "count": 20, "parameters": index.parameters()}
    with pytest.raises(UserError, match="20 keys for 20 ids, index.json says 21"):
        engine("milvus").load(str(tmp_path / "a"), meta | {"count": 21})
    about = json.loads((tmp_path / "a" / "milvus.json").read_text())
    (tmp_path / "a" / "milvus.json").write_text(json.dumps(about | {"collection": 7}))
    with pytest.raises(UserError, match="collection is 7, expected a text"):
        engine("milvus").load(str(tmp_path / "a"), meta)


@pytest.mark.slow
def test_a_service_keeps_its_snapshots_in_milvus(named, tmp_path):
    """What serve.py does beside its searches: each snapshot is a collection of its own, the last but one stays.

    Those of another encoder, which may be refused, put nothing of it aside, nor anything of the FAQ.
    """
    from deploy.service.live import Frozen
    from deploy.service.snapshots import open_snapshot, remove, write
    from semindex.search.keyword import KeywordSettings

    vectors, faq = unit(30), kept(named, unit(60), TEXTS)
    publish(faq.collection, named.milvus.collection)
    for encoder in ("one", "two"):
        paths = []
        for number in (1, 2, 3):
            ids = np.arange(number, 30)
            frozen = Frozen("store", number, 30, KeywordSettings(), ids, ids, [TEXTS[i] for i in ids],
                            lambda ids=ids: vectors[ids])
            paths.append(write(frozen, str(tmp_path / encoder), encoder, named))
            for place, path in enumerate(paths[-2:]):
                index = open_snapshot(path, replace(named, ef=300, milvus=replace(named.milvus, token="secret")))
                assert index.search(vectors[5:9], 3)[0][:, 0].tolist() == [5, 6, 7, 8], (number, place)
                assert index.settings.ef == 300 and index.milvus.token == "secret"
    names, current = collections(named)
    assert len(names) == 1 + 2 + 2 and current == [faq.collection.name]
    remove(str(tmp_path / "two"), named)
    assert not (tmp_path / "two").exists() and len(collections(named)[0]) == 1 + 2
    assert open_snapshot(str(tmp_path / "one" / f"{3:016d}")).search(vectors[5:6], 1)[0].tolist() == [[5]]


def test_the_files_for_containers_are_yaml():
    """Their syntax alone: nothing starts containers here, as the files say."""
    import yaml
    from conftest import ROOT

    for name, part in (("docker-compose.yml", "services"), ("values.yaml", "cluster")):
        text = (ROOT / "deploy" / "milvus" / name).read_text(encoding="utf-8")
        assert part in yaml.safe_load(text) and "check the syntax of this file alone" in " ".join(text.replace("#", "").split())
