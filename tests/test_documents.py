"""The documents keep pace with the scripts: commands parse, links lead somewhere, both languages show the same."""

import importlib
import re
import shlex

import pytest
from conftest import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*/README.md")])


def commands(path):
    """Every indented shell command of a document, continuation lines joined."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [" ".join(line.split()) for line in re.findall(r"^ {4,}(\S.*)$", text, re.M)]


def scripts(path):
    for command in commands(path):
        match = re.match(r"(?:python -u -m paddle\.distributed\.launch .*?|python )(\w+\.py) (.*)", command)
        if match and "..." not in command:
            yield match[1], shlex.split(match[2], comments=True)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse_and_links_lead_somewhere(path):
    for script, flags in scripts(path):
        importlib.import_module(script[:-3]).parser().parse_args(flags)
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path}: {target}"
    for target in re.findall(r"(?:bash|python) ((?:scripts|benchmarks)/\w+\.\w+)", path.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), f"{path}: {target}"


def test_the_readme_shows_commands():
    assert {script for script, _ in scripts(ROOT / "README.md")} == {
        "split_data.py", "generate_recall.py", "train_batch_neg.py", "recall.py", "keyword_recall.py", "evaluate.py",
        "inference.py", "export_model.py", "train_ance.py", "import_weights.py"}


def test_both_languages_show_the_same_commands_and_flags():
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"

    def shown(path):
        return [re.sub(r"\s+#.*", "", command) for command in commands(path)]

    assert shown(english) == shown(chinese)
    flags = [set(re.findall(r"--\w+", path.read_text(encoding="utf-8"))) for path in (english, chinese)]
    assert flags[0] == flags[1]


def test_the_readmes_figures_are_those_of_the_results():
    """The table, and every number of seconds, minutes or GiB, stands in docs/results.md too."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[1]
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    table = re.findall(r"^ {4}.*\d+\.\d\d(?:  +\d+\.\d\d)+$", section, re.M)
    assert len(table) == 3
    for row in table:
        assert row.strip() in results, row
    figures = re.findall(r"\d[\d.]* (?:s|minutes|GiB)\b", section)
    assert figures
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}\b", results), figure


def test_both_languages_give_the_same_figures():
    """The seconds of the first section differed."""
    def figures(name):
        section = (ROOT / name).read_text(encoding="utf-8").split("\n## ")[1]
        return sorted(re.findall(r"\d+(?:[.,]\d+)*", section))

    assert figures("README.md") == figures("README.zh-CN.md")
