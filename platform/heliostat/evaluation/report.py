"""An evaluation's report as files: JSON for programs, Markdown for people, a line for each example.

The folder holds report.json, report.md, report.html and `examples/<model>/<suite>.jsonl`. The certificate's
facts say the same in short: `models` (name: artifact), `suites` (name: fingerprint of what was asked) and
`scores[model][suite][metric]` with `value`, `low`, `high` (95 %), `higher_is_better` and `num_examples`.
"""

import json
from pathlib import Path
from typing import Any

from heliostat.evaluation.examples import Example, examples_file, sums_of, write_examples
from heliostat.evaluation.intervals import bootstrap_interval
from heliostat.evaluation.metrics import higher_is_better, value_of
from heliostat.evaluation.report_page import page

JSON_NAME = "report.json"
MARKDOWN_NAME = "report.md"
PAGE_NAME = "report.html"

Scores = dict[str, dict[str, dict[str, Any]]]
"""{suite: {metric: {"value", "low", "high", "higher_is_better", "num_examples"}}}"""


def scores_of(examples: list[Example]) -> dict[str, dict[str, Any]]:
    """Every metric that the examples have, with its interval."""
    metrics = list(dict.fromkeys(metric for example in examples for metric in example.scores))
    scores = {}
    for metric in metrics:
        sums = sums_of(examples, metric)
        interval = bootstrap_interval(sums, value_of(metric))
        scores[metric] = {
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "higher_is_better": higher_is_better(metric),
            "num_examples": len(sums),
        }
    return scores


def write_report(
    folder: Path, title: str, facts: dict[str, Any], examples: dict[str, dict[str, list[Example]]]
) -> None:
    """Write the files; `facts` is what the certificate holds, `examples` goes by model and suite."""
    for model, suites in examples.items():
        for suite, each in suites.items():
            write_examples(examples_file(folder, model, suite), each)
    (folder / JSON_NAME).write_text(json.dumps({"title": title, **facts}, indent=2) + "\n")
    (folder / MARKDOWN_NAME).write_text(_markdown(title, facts["scores"]))
    (folder / PAGE_NAME).write_text(page(title, facts["scores"], examples), encoding="utf-8")


def _markdown(title: str, scores: dict[str, Scores]) -> str:
    lines = [
        f"# {title}",
        "",
        "Behind each score the ends of its 95 % interval.",
        "",
        "| suite | metric | model | score | low | high | examples |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    rows = [
        (suite, metric, model, found)
        for model, suites in scores.items()
        for suite, metrics in suites.items()
        for metric, found in metrics.items()
    ]
    for suite, metric, model, found in sorted(rows, key=lambda row: row[:2]):
        figures = " | ".join(f"{found[end]:.4f}" for end in ("value", "low", "high"))
        lines.append(f"| {suite} | {metric} | {model} | {figures} | {found['num_examples']} |")
    return "\n".join([*lines, ""])
