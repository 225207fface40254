import gzip
import os
import subprocess
from argparse import Namespace

import numpy as np
import pytest
from conftest import fail
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import Letters

from data import Neighbours, TrainingSet, deal_without_duplicates
from semindex.errors import UserError
from semindex.text.corpus import Corpus, read_corpus
from semindex.text.ragged import Ragged
from semindex.text.tables import ReadReport, group_pairs, numbers, read_pairs, read_rows, read_table


def write(tmp_path, content, name="f.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def test_bom_crlf_blank_lines_and_outer_spaces_are_tolerated(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf" + "甲 \t乙\r\n\r\n  \n丙\t 丁".encode())
    rows, lines = read_table(path, (2,))
    assert rows == [["甲", "乙"], ["丙", "丁"]]
    assert lines.blank == 2 and lines.notes() == ", 2 blank lines skipped"


def test_gzip_is_read_and_a_cut_one_refused(tmp_path):
    data = gzip.compress("甲\t乙\n".encode() * 1000)
    assert len(read_table(write(tmp_path, data, "a.gz"), (2,))[0]) == 1000
    with pytest.raises(UserError, match="not a whole gzip file"):
        read_table(write(tmp_path, data[:-20], "b.gz"), (2,))
    with pytest.raises(UserError, match="not a whole gzip file"):
        read_table(write(tmp_path, b"plain text", "c.gz"), (2,))


@pytest.mark.parametrize(("content", "message"), [
    ("a\tb\nc\n", r":2: 1 column; expected text<TAB>text"),
    ("a\tb\nc\td\te\n", r":2: 3 columns; expected"),
    ("a\tb\nc\t\n", r":2: column 2 is empty"),
    ("\tb\n", r":1: column 1 is empty"),
    (b"a\tb\n\xc4\xe3\t\xba\xc3\n", r":2: invalid UTF-8 at byte 1"),
    ("", "is empty"),
    ("\n \n\n", "holds no line"),
])
def test_faults_name_file_and_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as error:
        read_table(path, (2,))
    assert path in str(error.value)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_table(str(tmp_path / "no"), (2,))
    with pytest.raises(UserError, match="is a directory"):
        read_table(str(tmp_path), (2,))


def test_bad_lines_are_counted_and_skipped_on_request(tmp_path):
    path = write(tmp_path, b"a\tb\nc\n\xff\td\ne\tf\tg\n\t\nh\t\ni\tj\n")
    rows, lines = read_table(path, (2,), skip_bad_lines=True)
    assert rows == [["a", "b"], ["i", "j"]]
    assert lines.bad == 4 and lines.blank == 1


def test_lines_must_agree_in_their_columns(tmp_path):
    path = write(tmp_path, "a\tb\nc\td\te\nf\tg\n")
    with pytest.raises(UserError, match=r":2: 3 columns, but the lines before have 2"):
        read_table(path, (2, 3))
    rows, lines = read_table(path, (2, 3), skip_bad_lines=True)
    assert rows == [["a", "b"], ["f", "g"]] and lines.bad == 1


def test_other_line_separators_stay_inside_a_text(tmp_path):
    path = write(tmp_path, "a\u2028b\x0bc\x85d\te\n")
    assert read_table(path, (2,))[0] == [["a\u2028b\x0bc\x85d", "e"]]


def test_group_pairs_keeps_order_and_all_positives():
    assert group_pairs([["q", "b"], ["p", "c"], ["q", "a"], ["q", "b"]]) == {"q": ["b", "a"], "p": ["c"]}
    assert group_pairs([["q"], ["q"]]) == {"q": []}


@given(st.lists(st.text(st.characters(blacklist_characters="\n\r\t", blacklist_categories=["Cs"]), min_size=1)
                .map(str.strip).filter(bool), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_corpus_holds_each_text_once_and_maps_rows_back(tmp_path_factory, texts):
    corpus = Corpus.from_texts(texts)
    distinct = list(dict.fromkeys(texts))
    assert [corpus[i] for i in range(len(corpus))] == distinct == corpus.slice(0, len(corpus))
    assert [corpus[i] for i in corpus.inverse] == texts
    assert [texts[row] for row in corpus.first_rows()] == distinct
    assert corpus.slice(1, 3) == distinct[1:3] or len(distinct) == 1
    path = str(tmp_path_factory.mktemp("c") / "texts.txt")
    corpus.save(path)
    again = Corpus.load(path)
    assert again.slice(0, len(again)) == distinct and again.fingerprint == corpus.fingerprint


def test_corpus_is_streamed_from_a_file(tmp_path):
    corpus, lines = read_corpus(write(tmp_path, "乙\n甲\n\n乙\n"))
    assert corpus.slice(0, 2) == ["乙", "甲"] and corpus.inverse.tolist() == [0, 1, 0] and lines.blank == 1


def ragged(rows):
    flat = np.array([token for row in rows for token in row], np.int32)
    return Ragged(flat, np.cumsum([0] + [len(row) for row in rows]))


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=20), st.integers(1, 7),
       st.randoms())
@settings(max_examples=60, deadline=None)
def test_padding_is_to_the_longest_of_a_chunk_and_order_comes_back(rows, size, random):
    wanted = np.array([random.randrange(len(rows)) for _ in range(len(rows) + 2)])
    chunks, order = ragged(rows).padded_chunks(wanted, size, 0)
    out = [row for chunk in chunks for row in chunk]
    for place, text in zip(order, wanted):
        row = out[place].tolist()
        assert row[: len(rows[text])] == rows[text] and not any(row[len(rows[text]):])
    for chunk in chunks:
        assert chunk.dtype == np.int64  # Windows gives int32 unless told
        assert (chunk != 0).any(axis=0).all() and len(chunk) <= size


def training_set(samples, **options):
    return TrainingSet.from_samples(samples, Letters(), **{"batch_size": 4, "seed": 3} | options)


SAMPLES = [[f"q{i}", f"p{i}"] for i in range(21)]


def test_processes_share_a_batch_without_overlap_and_see_what_one_process_sees():
    one = training_set(SAMPLES, batch_size=8)
    two = [training_set(SAMPLES, rank=rank, world=2) for rank in range(2)]
    plan = one.plan(5)
    for samples, others in zip(plan, two[0].plan(5)):
        assert (samples == others).all()
        joined, parts = one.batch(samples), [side.batch(samples) for side in two]
        assert all((part.ids == joined.ids).all() for part in parts)
        assert [part.share for part in parts] == [slice(0, len(samples) // 2), slice(len(samples) // 2, len(samples))]
        assert sum(parts[0].counts) == len(samples) and parts[0].counts == parts[1].counts
    assert [len(samples) for samples in plan] == [8, 8, 5]
    assert sorted(np.concatenate(plan)) == list(range(21))


def test_order_follows_seed_and_epoch():
    data = training_set(SAMPLES)
    flat = [np.concatenate(plan).tolist() for plan in (data.plan(0), data.plan(0), data.plan(1),
                                                      training_set(SAMPLES, seed=4).plan(0))]
    assert flat[0] == flat[1] != flat[2] and flat[0] != flat[3]


def test_a_last_batch_with_nothing_to_contrast_is_left_out():
    assert [len(b) for b in training_set(SAMPLES, batch_size=5).plan(0)] == [5, 5, 5, 5]
    assert [len(b) for b in training_set(SAMPLES, batch_size=3, world=3).plan(0)] == [9, 9]


def brute_mask(samples, chosen):
    pairs = [row[:2] for row in samples]
    near = {frozenset(pair) for pair in pairs}
    batch = [samples[i] for i in chosen]
    # a positive stands for both texts of its pair, a hard negative for itself
    candidates = [row[:2] for row in batch] + [[text] for column in range(2, len(batch[0])) for text in [r[column] for r in batch]]
    return [[j != i and any(c == a or frozenset((a, c)) in near for a in row[:2] for c in texts)
             for j, texts in enumerate(candidates)] for i, row in enumerate(batch)]


@given(st.lists(st.tuples(*[st.sampled_from("abcdefghij")] * 3).map(list), min_size=2, max_size=15), st.booleans())
@settings(max_examples=150, deadline=None)
def test_false_negatives_are_those_of_the_definition(samples, hard):
    samples = samples if hard else [row[:2] for row in samples]
    data = training_set(samples)
    mask = data.positives.mask(data.batch(np.arange(len(samples))).ids)
    assert mask.tolist() == brute_mask(samples, range(len(samples)))


def test_mask_of_texts_alone():
    data = training_set([["a"], ["b"], ["a"]])
    batch = data.batch(np.arange(3))
    assert batch.ids.tolist() == [[0, 1, 0], [0, 1, 0]] and data.columns == 2
    assert data.positives.mask(batch.ids).tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    assert data.shared_texts() == 2


def test_shared_texts_are_counted():
    assert training_set([["a", "b"], ["a", "c"], ["d", "e"]]).shared_texts() == 2


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=40), st.integers(2, 6))
@settings(max_examples=100, deadline=None)
def test_no_duplicates_loses_no_sample(pairs, size):
    rows = np.array(pairs)
    batches = deal_without_duplicates(rows, np.arange(len(rows))[::-1], size)
    assert sorted(np.concatenate(batches)) == list(range(len(rows)))
    for batch in batches:
        texts = [text for i in batch for text in set(pairs[i])]
        assert len(texts) == len(set(texts)) and len(batch) <= size


def test_neighbours_of_a_batch_that_knows_none():
    assert not Neighbours(np.array([[0, 1], [2, 3]]), 4).mask(np.array([[0, 2], [1, 3]])).any()


def test_read_rows_streams(tmp_path):
    path = write(tmp_path, "a\tb\nbad\n")
    lines = ReadReport(path)
    rows = read_rows(path, (2,), lines=lines)
    assert next(rows) == (1, ["a", "b"])
    with pytest.raises(UserError):
        next(rows)


def labelled(tmp_path, *third):
    return write(tmp_path, "".join(f"q{i}\tp{i}\t{label}\n" for i, label in enumerate(third)))


def test_a_mostly_numeric_third_column_is_labels_and_the_odd_line_an_error(tmp_path):
    """A label-0 pair must not count as a positive because one line of the file is no number."""
    assert [row[0] for row in read_pairs(labelled(tmp_path, 1, 0, "0.5", "-1"))[0]] == ["q0", "q2"]
    for third, message in ((("label", 1, 0), r":1: the label 'label' is no number.*a header\?"),
                           (("label", 0), r":1: the label 'label' is no number.*a header\?"),
                           ((1, 0, "x", 1), r":3: the label 'x' is no number, but the third column of 3 of 4 lines"),
                           ((1, "nan", 0), r":2: the label 'nan'"), ((1, "inf", 0), r":2: the label 'inf'")):
        path = labelled(tmp_path, *third)
        with pytest.raises(UserError, match=message):
            read_pairs(path)
        rows, lines = read_pairs(path, skip_bad_lines=True) if 1 in third else ([], None)
        assert all(row[2] == "1" for row in rows) and (lines is None or lines.bad == 1)


def test_the_line_of_an_odd_label_counts_what_was_skipped_before_it(tmp_path):
    path = write(tmp_path, "\na\tb\t1\n\nc\td\n\ne\tf\tx\ng\th\t0\ni\tj\t1\n")
    with pytest.raises(UserError, match=":4: 2 columns"):
        read_pairs(path)
    rows, lines = read_table(path, (2, 3), skip_bad_lines=True)
    with pytest.raises(UserError, match=":6: the label 'x'"):
        numbers(rows, lines)
    rows, labels = numbers(rows, lines, skip_bad_lines=True)
    assert [row[0] for row in rows] == ["a", "g", "i"] and labels.tolist() == [1, 0, 1]
    assert lines.bad == 2 and lines.rows == 3 and list(lines.places) == [2, 7, 8]


def test_texts_of_which_some_are_numbers_stay_texts(tmp_path):
    for third in (("12306", "客服", "热线"), ("95588", "客服"), ("nan", "inf"), ("客服",)):
        rows, lines = read_table(labelled(tmp_path, *third), (3,))
        assert numbers(rows, lines) == (rows, None)


def test_every_reader_of_labels_refuses_the_odd_line(tmp_path):
    """Training, its dev file and the corpus' maker ask the same function."""
    from training import setup

    path = labelled(tmp_path, "label", 1, 0, 1)
    args = Namespace(train_set_file=path, dev_set_file=path, corpus_file=None, skip_bad_lines=False)
    for read in (lambda: setup.read_samples(args, (2, 3)), lambda: setup.dev_evaluation(args, [])):
        with pytest.raises(UserError, match=":1: the label 'label' is no number"):
            read()
    error = fail("generate_recall.py", "--train_set_file", path, "--similar_text_pair", path, "--output_file",
                 tmp_path / "corpus.csv")
    assert f"{path}:1: the label 'label' is no number" in error and not (tmp_path / "corpus.csv").exists()
    args.skip_bad_lines = True
    with pytest.raises(UserError, match="the third column holds numbers, which look like labels"):
        setup.read_samples(args, (2, 3))
    assert setup.dev_evaluation(args, []).labels.tolist() == [1, 0, 1]


def test_a_pipe_is_read_and_one_that_nobody_writes_is_an_error(tmp_path, monkeypatch, capsys):
    from semindex.text import tables

    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    monkeypatch.setattr(tables, "WRITER_SECONDS", 0)
    with pytest.raises(UserError, match="nobody writes to"):
        read_corpus(path)
    assert "waiting for somebody to write" in capsys.readouterr().err
    monkeypatch.setattr(tables, "WRITER_SECONDS", 30)
    writer = subprocess.Popen(["sh", "-c", f"printf 'a\\nb\\n' > {path}"])
    assert read_corpus(path)[0].slice(0, 2) == ["a", "b"]
    writer.wait()
