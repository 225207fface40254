"""Files of a FAQ: entries read from tables and JSON lines, and split for training, calibration and test."""

import pytest
from conftest import ROOT

from semindex.errors import UserError
from semindex.faq.entries import Entry, questions_of, read_faq
from semindex.faq.split import read_unanswered, split_faq
from semindex.text.same_text import plain
from semindex.text.tables import read_labelled

SAMPLE = ROOT / "datasets" / "faq_zh"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_tables_and_json_lines_say_the_same(tmp_path):
    table = write(tmp_path / "faq.tsv", "问题\t答案\n卡丢了怎么办\t挂失\t银行\t丢卡\t卡不见了\n怎么退款\t点退款\n怎么开票\t下载\t\t要发票\n")
    entries, _ = read_faq(table)
    assert entries == [Entry("卡丢了怎么办", "挂失", "银行", ["丢卡", "卡不见了"]), Entry("怎么退款", "点退款"),
                       Entry("怎么开票", "下载", "", ["要发票"])]
    lines = write(tmp_path / "faq.jsonl", "".join(entry.as_json() for entry in entries))
    assert read_faq(lines)[0] == entries
    again = write(tmp_path / "again.tsv", "".join(entry.as_row() for entry in entries))
    assert read_faq(again)[0] == entries
    assert questions_of(entries) == (["卡丢了怎么办", "丢卡", "卡不见了", "怎么退款", "怎么开票", "要发票"], [0, 0, 0, 1, 2, 2])


@pytest.mark.parametrize(("name", "text", "message"), [
    ("a.tsv", "怎么退款\n", ":1: the question '怎么退款' has no answer"),
    ("a.tsv", "怎么退款\t\t购物\n", ":1: the question '怎么退款' has no answer"),
    ("a.tsv", "甲\t乙\n丙\t丁\t\t甲\n", ":2: the question '甲' stands in line 1 too"),
    ("a.tsv", "question\tanswer\n", "holds no question with an answer"),
    ("a.jsonl", "[1]\n", ":1: no JSON object"),
    ("a.jsonl", "{\n", ":1: no JSON"),
    ("a.jsonl", '{"question": "甲"}\n', ":1: question or answer is missing or empty"),
    ("a.jsonl", '{"question": "甲", "answer": 3}\n', ":1: answer is 3, expected a text"),
    ("a.jsonl", '{"question": "甲", "answer": "乙", "similar": "丙"}\n', "expected a list of texts"),
    ("a.jsonl", '{"question": "甲", "answer": "乙", "similar": [1]}\n', "similar holds what is no text"),
    ("a.jsonl", '{"question": "甲", "answer": "\\ud800"}\n', ":1: holds half of a surrogate pair"),
    ("a.jsonl", '{"question": "甲", "answer": 3}\n', 'expected an object {"question"'),
    ("a.tsv", "退款？\t七天\n退款!\t三十天\n", ":2: the question '退款!' reads as '退款？' of line 1"),
    ("a.tsv", "reset  password\t甲\nreset\u3000password\t乙\n", ":2: the question 'reset password' stands in line 1 too"),
])
def test_what_is_wrong_with_a_line_is_said(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(UserError) as error:
        read_faq(path)
    assert message in str(error.value) and str(error.value).startswith(path)


@pytest.mark.parametrize("header", ["问题\t回复\t类别", "标准问\t答案", "Question\tAnswer"])
def test_white_space_is_read_alike_everywhere_and_headers_are_no_entries(tmp_path, header, capsys):
    entries, _ = read_faq(write(tmp_path / "faq.tsv", f"{header}\n怎么　退款\t 点 这里 \t\t退  钱\n"))
    assert entries == [Entry("怎么 退款", "点 这里", "", ["退 钱"])]
    kept = write(tmp_path / "faq.jsonl", "".join(entry.as_json() for entry in entries))
    assert read_faq(kept)[0] == entries
    assert read_labelled(write(tmp_path / "q.tsv", "退\u3000款\t怎么　退款\n"), False) == (["退 款"], ["怎么 退款"])
    read_faq(write(tmp_path / "typo.jsonl", '{"question": "甲", "answer": "乙", "similiar": ["丙"]}\n'))
    assert "fields that are passed over: similiar" in capsys.readouterr().err


def test_bad_lines_are_skipped_when_asked(tmp_path):
    path = write(tmp_path / "faq.tsv", "甲\t乙\n丙\n丁\t戊\t\t甲\n己\t庚\n")
    entries, lines = read_faq(path, skip_bad_lines=True)
    assert [entry.question for entry in entries] == ["甲", "己"] and lines.bad == 2


def test_the_sample_faq_is_the_sample_groups():
    entries, _ = read_faq(str(SAMPLE / "faq.tsv"))
    groups = [line.split("\t") for line in (SAMPLE / "groups.tsv").read_text(encoding="utf-8").splitlines()]
    assert [entry.questions for entry in entries] == [list(dict.fromkeys(group)) for group in groups]
    unanswered = read_unanswered([str(SAMPLE / "off_topic.txt"), str(SAMPLE / "near_miss.tsv")], entries)
    assert list(map(len, unanswered)) == [80, 60]
    standard = {entry.question for entry in entries}
    for line in (SAMPLE / "near_miss.tsv").read_text(encoding="utf-8").splitlines():
        assert line.split("\t")[1] in standard


def test_a_split_keeps_each_question_on_one_side():
    entries = [Entry(f"问{i}", f"答{i}", "类", [f"问{i}之{j}" for j in range(i)]) for i in range(8)]
    faq, train, dev, test = split_faq(entries, [["无1", "无2", "无3"]], 2, 2, seed=3)
    assert split_faq(entries, [["无1", "无2", "无3"]], 2, 2, seed=3) == (faq, train, dev, test)
    kept = [row.rstrip("\n").split("\t") for row in faq]
    known = {text for row in kept for text in (row[0], *row[3:])}
    held = [row.split("\t")[0] for row in (*dev, *test)]
    assert not known & set(held) and len(set(held)) == len(held)
    assert known | set(held) == {text for entry in entries for text in entry.questions} | {"无1", "无2", "无3"}
    assert {text for row in train for text in row.rstrip("\n").split("\t")} <= known
    assert [len(row) - 3 if len(row) > 3 else 0 for row in kept] == [0, 1, 1, 1, 1, 1, 2, 3]
    assert sum(row.endswith("\t\n") for row in dev) == 1 and sum(row.endswith("\t\n") for row in test) == 2
    assert all(row.split("\t")[1].strip() in ("", f"问{row[1]}") for row in (*dev, *test))


def test_what_stands_twice_is_not_held_out_and_kept(tmp_path):
    entries = [Entry("甲", "一\n\n二\t三", "", ["乙", "乙", "甲", "丙", "丁"])]
    faq, _, dev, test = split_faq(entries, [], 1, 1, seed=0, json=True)
    path = write(tmp_path / "faq.jsonl", "".join(faq))
    kept, held = read_faq(path)[0], [row.split("\t")[0] for row in (*dev, *test)]
    assert kept[0].answer == entries[0].answer
    assert sorted([*kept[0].questions, *held]) == sorted(entries[0].questions) and len(held) == 2


def test_questions_that_read_alike_stay_on_one_side(tmp_path):
    entries = [Entry("甲", "一", "", ["甲！", "乙", "乙？", "丙", "丙。", "丁"])]
    for seed in range(8):
        faq, _, dev, test = split_faq(entries, [], 1, 1, seed)
        kept = set(plain([text for row in faq for text in row.rstrip("\n").split("\t")]))
        held = plain([row.split("\t")[0] for row in (*dev, *test)])
        assert len(held) == len(set(held)) == 2 and not kept & set(held)
    path = write(tmp_path / "no.txt", "天气\t\n甲？\n")
    with pytest.raises(UserError, match=":2: '甲？' reads as a question"):
        read_unanswered([path], entries)


def test_unanswered_questions_that_the_faq_asks_are_refused(tmp_path):
    path = write(tmp_path / "no.txt", "天气\n甲\n")
    with pytest.raises(UserError, match=":2: '甲' reads as a question of the FAQ"):
        read_unanswered([path], [Entry("甲", "乙")])
