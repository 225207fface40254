"""Pictures: curves of a training from its VisualDL log, points on a plane as PNG and as a page. No paddle here."""

import glob
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semindex.environment import prepare_home
from semindex.errors import UserError
from semindex.files import atomic_file

# Okabe and Ito's colours, which colour-blind readers tell apart too.
COLOURS = {"query": "#000000", "positive": "#009E73", "ANCE negative": "#D55E00", "BM25 negative": "#0072B2",
           "random": "#999999"}
MARKS = {"query": "*", "positive": "P", "ANCE negative": "o", "BM25 negative": "s", "random": "."}


def curves(directory: str, tags: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """Return {tag: [(step, value), ...]} of a training's directory; of a resumed run the newest value of each step.

    Raises UserError where there is no log.
    """
    prepare_home()
    from visualdl import LogReader

    inner = os.path.join(directory, "visualdl")
    files = sorted(glob.glob(os.path.join(glob.escape(inner if os.path.isdir(inner) else directory), "vdlrecords*")))
    if not files:
        raise UserError(f"{directory}: holds no VisualDL log; give a training's --save_dir")
    found: dict[str, dict[int, float]] = {}
    for file in files:
        reader = LogReader(file_path=file)
        there = reader.get_tags().get("scalar", [])
        for tag in tags:
            if tag in there:
                found.setdefault(tag, {}).update((row.id, row.value) for row in reader.get_data("scalar", tag))
    return {tag: sorted(row.items()) for tag, row in found.items()}


def _pyplot() -> Any:
    import logging

    prepare_home()
    import matplotlib

    matplotlib.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.pyplot as plt

    plt.rcParams["font.family"] = [*_chinese_fonts(), "DejaVu Sans"]
    return plt


def _chinese_fonts() -> list[str]:
    """Return the fonts of this machine that are known to have Chinese characters."""
    from matplotlib.font_manager import fontManager

    known = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
             "Microsoft YaHei", "PingFang SC", "SimHei")
    there = set(fontManager.get_font_names())
    return [name for name in known if name in there]


def _shown(directory: str) -> str:
    """Return a directory's name as a picture can write it: a name may hold bytes that are no UTF-8."""
    return os.path.basename(os.path.normpath(directory)).encode("utf-8", "replace").decode()


def training(directories: Sequence[str], tags: Sequence[str], path: str) -> None:
    """Draw one panel a tag, one line a training. Raises UserError where no log holds any tag."""
    logs = {_shown(directory): curves(directory, tags) for directory in directories}
    shown = [tag for tag in tags if any(tag in log for log in logs.values())]
    if not shown:
        raise UserError(f"the logs hold none of {', '.join(tags)}")
    plt = _pyplot()
    figure, panels = plt.subplots(len(shown), 1, figsize=(8, 2.4 * len(shown)), sharex=True, squeeze=False,
                                  layout="constrained")
    for tag, axes in zip(shown, panels[:, 0]):
        for number, (name, log) in enumerate(logs.items()):
            if tag in log:
                axes.plot(*zip(*log[tag]), f"C{number}", marker="." if len(log[tag]) < 40 else None, label=name)
        axes.set_ylabel(tag)
        axes.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=8)
    panels[-1, 0].set_xlabel("step")
    save(figure, path)


def check_name(path: str) -> str:
    """Return the kind of picture that a name asks for; UserError for another."""
    kind = os.path.splitext(path)[1].lstrip(".").lower()
    if kind not in ("png", "svg", "pdf"):
        raise UserError(f"{path}: a picture's name ends in .png, .svg or .pdf")
    return kind


def save(figure: Any, path: str) -> None:
    """Write a figure, whole or not at all."""
    kind = check_name(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with atomic_file(path, "wb") as out:
        figure.savefig(out, format=kind, dpi=120)


def precision_and_coverage(coverage: Sequence[float], precision: Sequence[float], wanted: float, reached: float,
                           path: str) -> None:
    """Draw precision against coverage, the wanted precision and the coverage that reaches it. All from 0 to 1."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot([100 * x for x in coverage], [100 * y for y in precision], COLOURS["BM25 negative"])
    axes.axhline(100 * wanted, color=COLOURS["random"], linestyle="--", label=f"wanted: {wanted:.0%}")
    axes.axvline(100 * reached, color=COLOURS["ANCE negative"], linestyle=":", label=f"answered: {reached:.1%}")
    axes.set(xlabel="questions answered, %", ylabel="answers that are right, %", xlim=(0, 100), ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)
    plt.close(figure)


def load(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Draw requests a second and milliseconds (p50, p99) against users, a colour a state of the cache.

    rows: of users, cache, requests/s, "p50, ms", "p99, ms", as deploy/load_test/run.py measures them.
    """
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for colour, cache in zip(("#0072B2", "#D55E00"), dict.fromkeys(row["cache"] for row in rows)):
        own = [row for row in rows if row["cache"] == cache]
        users = [row["users"] for row in own]
        left.plot(users, [row["requests/s"] for row in own], "o-", color=colour, label=f"cache {cache}")
        for name, line in (("p50, ms", "o-"), ("p99, ms", "s:")):
            right.plot(users, [row[name] for row in own], line, color=colour, label=f"{name[:3]}, cache {cache}")
    left.set(ylabel="requests a second", ylim=(0, None))
    right.set(ylabel="milliseconds", yscale="log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({row["users"] for row in rows}), sorted({row["users"] for row in rows}))
        axes.set_xlabel("users")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save(figure, path)
    plt.close(figure)


@dataclass
class Point:
    """A text on the plane. kind: one of COLOURS; score: its similarity to the query."""

    x: float
    y: float
    kind: str
    text: str
    score: float


def plane(points: Sequence[Point], name: str, path: str) -> None:
    """Draw the points of one query; its text is the title where this machine can write it, else its name."""
    plt = _pyplot()
    text = next(point.text for point in points if point.kind == "query")
    title = text if text.isascii() or _chinese_fonts() else name
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    for kind in reversed(COLOURS):  # the query last, on top
        some = [point for point in points if point.kind == kind]
        axes.scatter([p.x for p in some], [p.y for p in some], c=COLOURS[kind], marker=MARKS[kind],
                     s=180 if kind == "query" else 45, label=f"{kind} ({len(some)})", alpha=0.8, linewidths=0)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title if len(title) <= 40 else f"{title[:40]}...", parse_math=False)
    marks, names = axes.get_legend_handles_labels()
    axes.legend(marks[::-1], names[::-1], fontsize=8)
    save(figure, path)
    plt.close(figure)


PAGE = """<!doctype html>
<html lang="zh"><meta charset="utf-8"><title>Negatives</title>
<style>
body {{ font: 14px sans-serif; margin: 1em; }} svg {{ border: 1px solid #ccc; background: #fff; }}
figure {{ display: inline-block; margin: 0 1em 1em 0; vertical-align: top; }} figcaption {{ max-width: 520px; }}
#tip {{ position: fixed; max-width: 26em; background: #fffbe6; border: 1px solid #999; padding: .4em; display: none;
        pointer-events: none; }} .key {{ margin-right: 1em; }}
</style>
<p>{key}</p><p>Point at a mark to read its text; the number is its similarity to the query. Distances on the
plane (t-SNE) are not to scale.</p>
{figures}
<div id="tip"></div>
<script>
const tip = document.getElementById("tip");
document.addEventListener("mousemove", event => {{
  const text = event.target.dataset ? event.target.dataset.text : null;
  tip.style.display = text ? "block" : "none";
  if (!text) return;
  tip.textContent = text;
  tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
}});
</script></html>
"""


def page(queries: Sequence[Sequence[Point]], path: str) -> None:
    """Write a self-contained page with a plane for each query; every point shows its text."""
    figures = []
    for points in queries:
        marks = []
        low = [min(getattr(p, axis) for p in points) for axis in "xy"]
        span = [max(max(getattr(p, axis) for p in points) - least, 1e-9) for axis, least in zip("xy", low)]
        for point in sorted(points, key=lambda point: point.kind == "query"):
            x, y = (20 + 480 * (getattr(point, axis) - least) / width for axis, least, width in zip("xy", low, span))
            text = html.escape(f"{point.kind} {point.score:.3f}: {point.text}", quote=True)
            size = 9 if point.kind == "query" else 5
            marks.append(f'<circle cx="{x:.1f}" cy="{500 - y + 20:.1f}" r="{size}" fill="{COLOURS[point.kind]}" '
                         f'fill-opacity=".8" data-text="{text}"><title>{text}</title></circle>')
        caption = html.escape(next(point.text for point in points if point.kind == "query"))
        figures.append(f'<figure><svg width="520" height="520">{"".join(marks)}</svg>'
                       f"<figcaption>{caption}</figcaption></figure>")
    key = "".join(f'<span class="key"><span style="color:{colour}">&#9679;</span> {kind}</span>'
                  for kind, colour in COLOURS.items())
    with atomic_file(path) as file:
        file.write(PAGE.format(key=key, figures="\n".join(figures)))
