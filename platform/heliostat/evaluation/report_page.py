"""The report as one HTML file: no script, nothing from elsewhere, readable on a phone and in the dark."""

import json
import math
from collections.abc import Iterable
from html import escape
from typing import Any

from heliostat import page as html
from heliostat.evaluation.comparison import MetricComparison
from heliostat.evaluation.examples import Example, sums_of
from heliostat.evaluation.gate import SIGNIFICANT
from heliostat.evaluation.metrics import higher_is_better, value_of
from heliostat.evaluation.paired import example_differences

MOST_EXAMPLES = 6
MOST_CHARACTERS = 400
Examples = dict[str, dict[str, list[Example]]]
Scores = dict[str, dict[str, dict[str, dict[str, Any]]]]

STYLE = """
:root { --good: #1a7f4b; --bad: #c0392b; --soft: #f4efe6; }
@media (prefers-color-scheme: dark) { :root { --good: #56c98a; --bad: #ff8a7a; --soft: #262c36; } }
h2 { overflow-wrap: anywhere; }
.metric { margin-bottom: 16px; }
.metric > b { font-size: .875rem; } .metric > b span { color: var(--quiet); font-weight: 400; }
.rows { display: grid; grid-template-columns: minmax(70px, max-content) minmax(90px, 1fr) max-content;
  gap: 4px 12px; align-items: center; font-size: .875rem; margin-top: 4px; }
.row { display: contents; }
.row span { overflow-wrap: anywhere; }
.row em { font-style: normal; font-variant-numeric: tabular-nums; text-align: right; }
.row small { color: var(--quiet); display: inline-block; min-width: 10.5em; font-size: .8125rem; }
.row svg { width: 100%; height: 16px; display: block; overflow: visible; }
.rail { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.span { stroke: var(--bar); stroke-width: 5; opacity: .45; vector-effect: non-scaling-stroke; }
.dot { stroke: var(--bar); stroke-width: 10; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.good { color: var(--good); } .bad { color: var(--bad); }
.example { border-top: 1px solid var(--line); padding: 10px 0; display: grid; gap: 6px; }
.example dl { margin: 0; display: grid; grid-template-columns: minmax(5.5em, 10em) 1fr;
  gap: 4px 10px; font-size: .875rem; }
.example dt { color: var(--quiet); overflow-wrap: anywhere; }
.example dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft);
  border-radius: 6px; padding: 2px 8px; }
summary { cursor: pointer; font-size: .875rem; color: var(--quiet); padding: 4px 0; }
@media (max-width: 560px) {
  .rows { display: block; }
  .row { display: grid; grid-template-columns: 1fr max-content; gap: 2px 12px; margin-top: 6px; }
  .row svg { grid-column: 1 / -1; order: 1; } .row small { min-width: 0; }
  .example dl { grid-template-columns: 1fr; }
}
"""


def page(title: str, scores: Scores, examples: Examples) -> str:
    """A report's file: every score with its interval, and of each suite the examples to look at."""
    suites = list(dict.fromkeys(suite for each in scores.values() for suite in each))
    cards = [_card(suite, _scores(suite, scores) + _examples(suite, examples)) for suite in suites]
    note = "Each score with the interval that holds it in 95 of 100 cases (bootstrap over the examples)."
    return html.page(title, (), cards, STYLE, note)


def comparison_page(
    title: str, names: tuple[str, str], found: list[MetricComparison], examples: Examples
) -> str:
    """A comparison's file; `examples` goes by the two names and the suites."""
    suites = dict.fromkeys(each.suite for each in found)
    cards = [_card(suite, _examples(suite, examples)) for suite in suites]
    return html.page(title, (), [_card("Differences", _comparison_table(names, found)), *cards], STYLE)


def _card(title: str, body: str) -> str:
    return html.card(title, body, wide=True)


def _scores(suite: str, scores: Scores) -> str:
    """A block for each metric: a row for each model, all on one scale."""
    metrics = dict.fromkeys(metric for each in scores.values() for metric in each.get(suite, {}))
    blocks = []
    for metric in metrics:
        rows = {name: each[suite][metric] for name, each in scores.items() if metric in each.get(suite, {})}
        ends = [row[end] for row in rows.values() for end in ("low", "high", "value")]
        known = [end for end in ends if math.isfinite(end)]
        scale = (min(known, default=0.0), max(known, default=1.0))
        first = next(iter(rows.values()))
        better = "higher is better" if first["higher_is_better"] else "lower is better"
        lines = "".join(_row(name, row, scale) for name, row in rows.items())
        count = f"{first['num_examples']:,} examples"
        blocks.append(
            f'<div class="metric"><b>{escape(metric)} <span>{better}, {count}</span></b>'
            f'<div class="rows">{lines}</div></div>'
        )
    return "".join(blocks)


def _row(name: str, row: dict[str, Any], scale: tuple[float, float]) -> str:
    low, high, value = (_place(row[end], scale) for end in ("low", "high", "value"))
    picture = (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="rail" x1="0" y1="5" x2="100" y2="5"/>'
        f'<line class="span" x1="{low:.2f}" y1="5" x2="{high:.2f}" y2="5"/>'
        f'<line class="dot" x1="{value:.2f}" y1="5" x2="{value:.2f}" y2="5"/></svg>'
    )
    interval = f"{_figure(row['low'])} to {_figure(row['high'])}"
    figures = f"<em>{_figure(row['value'])} <small>{interval}</small></em>"
    return f'<div class="row"><span>{escape(name)}</span>{picture}{figures}</div>'


def _place(value: float, scale: tuple[float, float]) -> float:
    """Where a value stands, 3 to 97."""
    low, high = scale
    return 3 + 94 * (value - low) / (high - low) if high > low and math.isfinite(value) else 50.0


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    size = abs(value)
    return (
        f"{value:,.0f}" if size >= 10_000 else f"{value:.4g}" if size >= 0.001 or not size else f"{value:.2e}"
    )


def _comparison_table(names: tuple[str, str], found: list[MetricComparison]) -> str:
    head = ("metric", *names, "difference", "95 % interval", "p", "wins", "losses", "ties")
    rows = ""
    for each in found:
        sure = each.p_value < SIGNIFICANT
        style = ("bad" if each.worse_by > 0 else "good") if sure else ""
        cells = (
            _figure(each.value_a),
            _figure(each.value_b),
            f"{each.difference:+.4g}",
            f"{each.low:+.4g} to {each.high:+.4g}",
            f"{each.p_value:.4f}",
            *(f"{count:,}" for count in (each.wins, each.losses, each.ties)),
        )
        body = "".join(
            f'<td class="{style if at in (2, 4) else ""}">{cell}</td>' for at, cell in enumerate(cells)
        )
        rows += f"<tr><th>{escape(f'{each.suite} {each.metric}')}</th>{body}</tr>"
    header = "".join(f"<th>{escape(each)}</th>" for each in head)
    return (
        f"<p>{escape(names[1])} against {escape(names[0])}, over the same examples. Wins are those that "
        f"{escape(names[1])} does better on. Coloured: more than chance, p &lt; {SIGNIFICANT}.</p>"
        f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _examples(suite: str, examples: Examples) -> str:
    """The examples of a suite that say most: the best, the worst, and where the models disagree."""
    by_model = {name: each[suite] for name, each in examples.items() if each.get(suite)}
    if not by_model:
        return ""
    names = list(by_model)
    first = by_model[names[0]]
    metric = next(iter(first[0].scores), None)
    if metric is None:
        return ""
    order = _ranked(first, metric)
    shown = [("Worst", order[:MOST_EXAMPLES]), ("Best", order[::-1][:MOST_EXAMPLES])]
    blocks = []
    if len(names) > 1:
        apart = _apart(first, by_model[names[-1]], metric)
        title = f"Where {names[0]} and {names[-1]} disagree most"
        blocks.append(_list(title, apart, by_model, metric, opened=True))
    blocks += [
        _list(f"{title} of {names[0]} by {metric}", each, by_model, metric, opened=len(names) == 1)
        for title, each in shown
    ]
    return "".join(blocks)


def _ranked(examples: list[Example], metric: str) -> list[str]:
    """Ids, the worst first."""
    having = [example for example in examples if metric in example.scores]
    values = value_of(metric)(sums_of(having, metric))
    signed = values if higher_is_better(metric) else -values
    order = sorted(range(len(having)), key=lambda at: float(signed[at]))
    return [having[at].id for at in order]


def _apart(a: list[Example], b: list[Example], metric: str) -> list[str]:
    """Ids, the largest difference first."""
    there = {example.id: example for example in b if metric in example.scores}
    both = [example for example in a if example.id in there and metric in example.scores]
    if not both:
        return []
    sums_a, sums_b = sums_of(both, metric), sums_of([there[example.id] for example in both], metric)
    if sums_a.shape != sums_b.shape:
        return []
    found = abs(example_differences(sums_a, sums_b, value_of(metric)))
    order = sorted(range(len(both)), key=lambda at: -float(found[at]))
    return [both[at].id for at in order if found[at]][:MOST_EXAMPLES]


def _list(
    title: str, ids: Iterable[str], by_model: dict[str, list[Example]], metric: str, opened: bool
) -> str:
    found = {name: {example.id: example for example in each} for name, each in by_model.items()}
    blocks = "".join(_one(name, found, metric) for name in ids)
    if not blocks:
        return ""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{blocks}</details>"


def _one(name: str, found: dict[str, dict[str, Example]], metric: str) -> str:
    one = next(each[name] for each in found.values() if name in each)
    lines = [("example", name if one.group is None else f"{name} ({one.group})")]
    lines += [
        (label, _text(value)) for label, value in (("asked", one.prompt), ("right", one.target)) if value
    ]
    for model, examples in found.items():
        if name in examples and metric in examples[name].scores:
            example = examples[name]
            value = float(value_of(metric)(sums_of([example], metric))[0])
            said = "" if example.output is None else f"\n{_text(example.output)}"
            lines.append((model, f"{metric} {_figure(value)}{said}"))
    body = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in lines)
    return f'<div class="example"><dl>{body}</dl></div>'


def _text(value: Any) -> str:
    """A prompt or an answer, its end if it is long: there the question is."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        value = "\n".join(f"{each.get('role')}: {each.get('content')}" for each in value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_CHARACTERS else "…" + text[-MOST_CHARACTERS:]
