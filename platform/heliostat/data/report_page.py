"""The report as one HTML file: no script, nothing from elsewhere, readable on a phone and in the dark."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from heliostat import page as html
from heliostat.data.report import Histogram, Report

MOST_BARS = 20


def write_report(folder: Path, report: Report) -> None:
    """Write report.json and report.html."""
    text = json.dumps(asdict(report), indent=2, ensure_ascii=False)
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """The whole file."""
    cards = [
        html.card("From rows to documents", _bars(report.funnel)),
        html.card("Dropped, by reason", _bars(_largest(report.dropped)) or "<p>Nothing was dropped.</p>"),
        html.card("The steps", _steps_table(report.steps), wide=True),
        html.card(f"Length in {report.histogram.unit}", _draw_histogram(report.histogram)),
        html.card("Domains, in documents", _bars(_largest(report.domains))),
        html.card("Splits", html.table("split", report.split_columns, report.splits)),
        html.card(
            "Personal data found", _bars(_largest(report.pii)) or "<p>None found, or not looked for.</p>"
        ),
        *([html.card("Languages", _bars(_largest(report.languages)))] if report.languages else []),
        *([html.card("Scores of what was kept", _scores_table(report.scores))] if report.scores else []),
        *([html.card("Quality, before and after", _quality_table(report.quality))] if report.quality else []),
        *(
            [html.card("Near-duplicates, kept and dropped", _repeats(report.repeats), wide=True)]
            if report.repeats
            else []
        ),
        html.card("Documents, as the model sees them", _samples(report.samples), wide=True),
    ]
    return html.page(report.title, report.figures, cards)


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
    return html.table("step", ("in", "out", "dropped", "reasons"), rows, "words")


def _scores_table(scores: dict[str, dict[str, float]]) -> str:
    columns = tuple(next(iter(scores.values())))
    rows = {name: tuple(f"{values[column]:.3g}" for column in columns) for name, values in scores.items()}
    return html.table("score", columns, rows)


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
    return html.table("figure", ("before", "after", "target", ""), rows)


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


def _samples(samples: tuple[tuple[tuple[str, bool], ...], ...]) -> str:
    blocks = "".join(
        "<pre>"
        + "".join(f"<mark>{escape(text)}</mark>" if learned else escape(text) for text, learned in sample)
        + "</pre>"
        for sample in samples
    )
    return f"<p>The model learns what is <mark>marked</mark> and only reads the rest.</p>{blocks}"
