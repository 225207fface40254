"""Hostile contents: files of the right form that say something odd. An entry names the command, the case, what is done."""

import pickle
from dataclasses import replace

from .cases import kind
from .judge import EITHER, ERROR, SOUND


def rewritten(flag, change):
    """Return what changes the lines of an input, given and returned as text."""
    def prepare(box):
        path = next(box.path(slot) for slot in box.command.of("text") if slot.flag == flag)
        path.write_text("".join(f"{line}\n" for line in change(path.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    return prepare


def typed(*words):
    """Return what types more words at the end."""
    return lambda box: box.add(*words)


def labelled(lines, odd=""):
    """Give pairs a third column of labels; odd: what the second line has in place of one, or a header line."""
    rows = [f"{line}\t{number % 2}" for number, line in enumerate(lines)]
    return [odd, *rows] if "\t" in odd else [rows[0], f"{lines[1]}\t{odd}", *rows[2:]]


class Runs:
    """Pickled, it makes a file where it is loaded."""

    def __reduce__(self):
        return open, ("ran", "w")


def armed(slot, file):
    """Return what puts a pickle that runs a command in place of an artefact's file."""
    def prepare(box):
        path = next(box.path(s) for s in box.command.of("dir", "both") if s.value == slot)
        next(path.rglob(file)).write_bytes(pickle.dumps({"a": Runs()}, 2))
    return prepare


def line_for_line(box, attempt):
    """As many lines out as in."""
    done, wrong = attempt()
    if wrong or done.returncode:
        return wrong
    given = len(box.path(box.command.of("text")[0]).read_text(encoding="utf-8").splitlines())
    made = len(box.path(box.command.of("out")[0]).read_text(encoding="utf-8").splitlines())
    return "" if made == given else f"{given} lines in, {made} out"


def some_lines(box, attempt):
    """A result with status 0 is not empty."""
    done, wrong = attempt()
    empty = done.returncode == 0 and not box.path(box.command.of("out")[0]).stat().st_size
    return wrong or ("an empty result and status 0" if empty else "")


def to_file(*words):
    """Return what gives the command more words with slots."""
    def prepare(box):
        box.command = replace(box.command, line=f"{box.command.line} {' '.join(words)}", prints=False)
        box.words = box.command.words
    return prepare


def spaced(lines):
    """Put a space into ids."""
    return [line.replace("D", "D ", 1).replace("q", "q ", 1) for line in lines]


LABELS = {"header": "text_a\ttext_b\tlabel", "word": "yes", "text": "卡丢了怎么办"}
CASES = [
    *((script, f"labels-{flag[2:]}-{name}", rewritten(flag, lambda lines, o=odd: labelled(lines, o)), ERROR)
      for script, flag in (("train_batch_neg", "--train_set_file"), ("keyword_recall", "--similar_text_pair"),
                           ("evaluate", "--similar_text_pair"), ("train_batch_neg", "--dev_set_file"))
      for name, odd in LABELS.items()),
    ("rank_collection", "candidates-zero_column", rewritten("--candidates_file", lambda lines: [
        "{} 0 {} 1 1.0 x".format(*line.split("\t")) for line in lines]), EITHER, {"act": some_lines}),
    ("rank_collection", "candidates-unknown", rewritten("--candidates_file", lambda lines: [f"{x}x" for x in lines]), ERROR),
    ("rank_collection", "candidates-other_queries", rewritten("--candidates_file", lambda lines: [f"x{x}" for x in lines]), ERROR),
    ("rank_collection", "ids-spaced", rewritten("--corpus_file", spaced), ERROR),
    ("rank_collection", "query_ids-spaced", rewritten("--queries_file", spaced), ERROR),
    ("rank_collection", "ids-twice", rewritten("--corpus_file", lambda lines: lines + lines[:1]), ERROR),
    *((script, f"blank_lines-{place}", rewritten("--text_pair_file", lambda lines, p=place: lines[:p] + ["", " \t "] + lines[p:]),
       SOUND, {"act": line_for_line}) for script in ("predict", "deploy") for place in (0, 2)),
    *((script, "four_columns", rewritten("--text_pair_file", lambda lines: [f"{line}\tx\ty" for line in lines]), ERROR)
      for script in ("predict", "deploy")),
    ("evaluate_trec", "metrics-superscript", typed("--metrics", "mrr@²"), ERROR),
    ("evaluate_trec", "metrics-huge", typed("--metrics", "ndcg@" + "9" * 30), ERROR),
    ("evaluate_trec", "metrics-zero", typed("--metrics", "ndcg@0"), ERROR),
    ("evaluate_trec", "grades-huge", rewritten("--qrels_file", lambda lines: [f"{line}{'0' * 30}" for line in lines]), SOUND),
    ("evaluate_trec", "grades-nan", rewritten("--qrels_file", lambda lines: [line[:-1] + "nan" for line in lines]), ERROR),
    ("evaluate_trec", "scores-nan", rewritten("--run_file", lambda lines: [" ".join([*line.split()[:4], "nan", "x"]) for line in lines]), ERROR),
    ("inference_text", "double", to_file("words:退款", "--output_file", "out:x.npy"), SOUND),
    *((script, f"long-{flag}", typed(f"--{flag}", 8192), SOUND) for script, flag in (
        ("train_ance", "max_query_length"), ("rank_collection", "max_query_length"), ("train_batch_neg", "max_seq_length"))),
    ("inference", "weights_run", armed("checkpoint", "model_state.pdparams"), ERROR),
    ("train_batch_neg", "weights_run", armed("checkpoint", "model_state.pdparams"), ERROR),
    ("resume", "weights_run", armed("training", "model_state.pdparams"), EITHER),
    ("resume", "optimizer_runs", armed("training", "optimizer.pdopt"), ERROR),
]


@kind
def contents(command):
    """What this table holds for a command."""
    yield from (case for script, *case in CASES if script == command.name)
