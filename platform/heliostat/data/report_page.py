"""The report as one HTML file: no script, nothing from elsewhere, readable on a phone and in the dark."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from heliostat.data.report import Histogram, Report

MOST_BARS = 20

_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf7; --card: #fff; --ink: #1d2330;
  --quiet: #667085; --line: #e4e2dc; --bar: #d9822b; --learned: #fde7c4; --learned-ink: #5b3606; }
@media (prefers-color-scheme: dark) { :root { --page: #14171d; --card: #1c2129; --ink: #e8eaee;
  --quiet: #98a2b3; --line: #2d343f; --bar: #f0a04b; --learned: #573c14; --learned-ink: #ffe9c7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 48px; max-width: 1080px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 12px; }
p { color: var(--quiet); margin: 0 0 12px; font-size: .875rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin-bottom: 12px; }
.figures div, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.figures span { color: var(--quiet); font-size: .8125rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 12px; }
.wide { grid-column: 1 / -1; }
.bars { display: grid; grid-template-columns: minmax(80px, auto) minmax(60px, 1fr) auto; gap: 6px 12px;
  align-items: center; font-size: .875rem; }
.bars span { overflow-wrap: anywhere; }
.bars b, td, th { font-variant-numeric: tabular-nums; text-align: right; font-weight: 500; }
.bars svg { width: 100%; height: 14px; display: block; }
rect { fill: var(--bar); }
rect.rail { fill: var(--line); opacity: .55; }
.histogram { width: 100%; height: 140px; display: block; border-bottom: 1px solid var(--line); }
.axis { display: flex; justify-content: space-between; color: var(--quiet); font-size: .8125rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { padding: 6px 8px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; }
thead th { color: var(--quiet); }
.words td:last-child, .words th:last-child { text-align: left; white-space: normal; min-width: 200px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 10px; padding: 12px; border-radius: 8px;
  border: 1px solid var(--line); font: 13px/1.55 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 0 12px; }
mark { background: var(--learned); color: var(--learned-ink); border-radius: 3px; }
"""


def write_report(folder: Path, report: Report) -> None:
    """Write report.json and report.html."""
    text = json.dumps(asdict(report), indent=2, ensure_ascii=False)
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """The whole file."""
    cards = [
        _card("From rows to documents", _bars(report.funnel)),
        _card("Dropped, by reason", _bars(_largest(report.dropped)) or "<p>Nothing was dropped.</p>"),
        _card("The steps", _steps_table(report.steps), wide=True),
        _card(f"Length in {report.histogram.unit}", _draw_histogram(report.histogram)),
        _card("Domains, in documents", _bars(_largest(report.domains))),
        _card("Splits", _table("split", report.split_columns, report.splits)),
        _card("Personal data found", _bars(_largest(report.pii)) or "<p>None found, or not looked for.</p>"),
        *([_card("Languages", _bars(_largest(report.languages)))] if report.languages else []),
        *([_card("Scores of what was kept", _scores_table(report.scores))] if report.scores else []),
        *([_card("Quality, before and after", _quality_table(report.quality))] if report.quality else []),
        *(
            [_card("Near-duplicates, kept and dropped", _repeats(report.repeats), wide=True)]
            if report.repeats
            else []
        ),
        _card("Documents, as the model sees them", _samples(report.samples), wide=True),
    ]
    figures = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for label, value in report.figures
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(report.title)}</h1>"
        f'<div class="figures">{figures}</div><div class="cards">{"".join(cards)}</div></body></html>\n'
    )


def _card(title: str, body: str, wide: bool = False) -> str:
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{body}</section>"


def _largest(values: dict[str, int]) -> list[tuple[str, int]]:
    """The largest first; the tail in one bar."""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    tail = sum(value for _, value in ordered[MOST_BARS:])
    return ordered[:MOST_BARS] + ([(f"{len(ordered) - MOST_BARS} more", tail)] if tail else [])


def _bars(values: Iterable[tuple[str, int]]) -> str:
    values = list(values)
    highest = max((value for _, value in values), default=0) or 1
    rows = "".join(
        f"<span>{escape(label)}</span>"
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" width="100" height="10"/>'
        f'<rect width="{100 * value / highest:.2f}" height="10"/></svg><b>{value:,}</b>'
        for label, value in values
    )
    return f'<div class="bars">{rows}</div>' if rows else ""


def _draw_histogram(histogram: Histogram) -> str:
    highest = max(histogram.counts) or 1
    columns = []
    for at, count in enumerate(histogram.counts):
        height = 100 * count / highest
        last = at == len(histogram.counts) - 1
        label = f"{histogram.edges[at]}{'+' if last else f' to {histogram.edges[at + 1] - 1}'}: {count:,}"
        columns.append(
            f'<rect x="{10 * at + 0.5}" y="{100 - height:.2f}" width="9" height="{height:.2f}">'
            f"<title>{label}</title></rect>"
        )
    width = 10 * len(histogram.counts)
    edges = [histogram.edges[at * (len(histogram.edges) - 1) // 4] for at in range(4)]
    axis = "".join(f"<span>{edge:,}</span>" for edge in edges)
    return (
        f'<svg class="histogram" viewBox="0 0 {width} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="documents by length in {histogram.unit}">{"".join(columns)}</svg>'
        f'<div class="axis">{axis}<span>{histogram.edges[-2]:,}+</span></div>'
        f"<p>documents by {histogram.unit}; the highest column has {highest:,}</p>"
    )


def _steps_table(steps: tuple[dict[str, Any], ...]) -> str:
    rows: dict[str, tuple[str, ...]] = {
        str(row["step"]): (
            f"{row['read']:,}",
            f"{row['kept']:,}",
            f"{row['read'] - row['kept']:,}",
            ", ".join(f"{reason} {count:,}" for reason, count in row["dropped"].items()) or "-",
        )
        for row in steps
    }
    return _table("step", ("in", "out", "dropped", "reasons"), rows, "words")


def _scores_table(scores: dict[str, dict[str, float]]) -> str:
    columns = tuple(next(iter(scores.values())))
    rows = {name: tuple(f"{values[column]:.3g}" for column in columns) for name, values in scores.items()}
    return _table("score", columns, rows)


def _quality_table(quality: tuple[dict[str, Any], ...]) -> str:
    rows: dict[str, tuple[str, ...]] = {
        str(row["figure"]).replace("_", " "): (
            _figure(row["before"]),
            _figure(row["after"]),
            f"{row['bound']} {row['target']:g}" if row["bound"] else "-",
            {True: "met", False: "missed", None: "-"}[row["met"]],
        )
        for row in quality
    }
    return _table("figure", ("before", "after", "target", ""), rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _repeats(repeats: tuple[dict[str, Any], ...]) -> str:
    blocks = "".join(
        f"<p>{escape(each['uid'])} repeats {escape(each['kept_uid'])}, "
        f"similarity {each['similarity']:.2f}</p>"
        f'<div class="pair"><pre>{escape(each["kept_text"])}</pre><pre>{escape(each["text"])}</pre></div>'
        for each in repeats
    )
    return f"<p>On the left what stays, on the right what went.</p>{blocks}"


def _table(first: str, columns: tuple[str, ...], rows: dict[str, tuple[str, ...]], style: str = "") -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, values in rows.items()
    )
    return (
        f'<div class="scroll {style}"><table><thead><tr><th>{escape(first)}</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _samples(samples: tuple[tuple[tuple[str, bool], ...], ...]) -> str:
    blocks = "".join(
        "<pre>"
        + "".join(f"<mark>{escape(text)}</mark>" if learned else escape(text) for text, learned in sample)
        + "</pre>"
        for sample in samples
    )
    return f"<p>The model learns what is <mark>marked</mark> and only reads the rest.</p>{blocks}"
