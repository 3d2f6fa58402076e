"""A sweep's result as files: JSON for programs, Markdown and HTML for people, and the best recipe to run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from heliostat.page import card, page, table_of_lines
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.drawing import STYLE, draw_curves, draw_parallel
from heliostat.tuning.importance import common_step, importances
from heliostat.tuning.settings import Settings, said
from heliostat.tuning.trials import Trial, Trials

BEST_RECIPE = "best.yaml"


def best_trial(config: TuneConfig, trials: Sequence[Trial]) -> Trial | None:
    """The finished trial with the best last value; of two that are equal the first."""
    sign = 1 if config.mode == "min" else -1
    whole = [trial for trial in trials if trial.status == "finished" and trial.artifact]
    finished = [(trial.value(config.metric), trial) for trial in whole]
    ranked = [(sign * value, trial.number, trial) for value, trial in finished if value is not None]
    return min(ranked)[2] if ranked else None


def ranked(config: TuneConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The table's order: those that came furthest first, the best of them on top."""
    sign = 1 if config.mode == "min" else -1

    def order(trial: Trial) -> tuple[int, float, int]:
        value = trial.value(config.metric)
        return -trial.steps, sign * value if value is not None else float("inf"), trial.number

    return sorted(trials, key=order)


def lines_of(config: TuneConfig, trials: Sequence[Trial]) -> list[tuple[str, ...]]:
    """The table: a header, then a line a trial. It says what was reached, not how long it took: that a sweep
    was interrupted does not change it."""
    computed = list(dict.fromkeys(key for trial in trials for key in trial.computed))
    keys = [*config.search_space, *computed]
    names = (key.rpartition(".")[2] for key in keys)
    header = ("trial", config.metric, *names, "status", "steps", "tokens")
    pieces = any(trial.piece for trial in trials)
    if pieces:
        header = (*header, "goes on from")
    lines = [header]
    for trial in ranked(config, trials):
        value = trial.value(config.metric)
        values = (trial.point | trial.computed).get
        shown = (_show(values(key)) for key in keys)
        told = f"{value:.5f}" if value is not None else "-"
        line = (str(trial.number), told, *shown, trial.status, str(trial.steps), f"{trial.tokens:,}")
        after = trial.piece.after if trial.piece else None
        lines.append((*line, "-" if after is None else str(after)) if pieces else line)
    return lines


def write_report(
    folder: Path, config: TuneConfig, known: Trials, settings: Settings | None
) -> dict[str, Any]:
    """Write the files; returns the facts for the certificate. `settings` are the best trial's."""
    trials = list(known)
    best = best_trial(config, trials)
    shares = importances(config, trials)
    facts = {
        "metric": config.metric,
        "mode": config.mode,
        "trials": {status: sum(trial.status == status for trial in trials) for status in _statuses(trials)},
        "tokens": known.tokens,
        "importances": shares,
        "best": _facts_of(config, best, settings) if best and settings else None,
    }
    lines = lines_of(config, trials)
    records = [trial.model_dump(mode="json") for trial in ranked(config, trials)]
    (folder / "report.json").write_text(json.dumps({**facts, "results": records}, indent=2) + "\n")
    (folder / "report.md").write_text(_markdown(config, lines, facts))
    (folder / "report.html").write_text(_page(config, trials, facts), encoding="utf-8")
    if best and settings:
        (folder / BEST_RECIPE).write_text(best_recipe(settings))
    return facts


def best_recipe(settings: Settings) -> str:
    """The best trial's sections, for a recipe that says `base: best.yaml`."""
    values: dict[str, Any] = {"train": said(settings.train)}
    if not isinstance(settings.model, str):
        values["model"] = said(settings.model)
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _facts_of(config: TuneConfig, best: Trial, settings: Settings) -> dict[str, Any]:
    return {
        "number": best.number,
        "point": best.point,
        "value": best.value(config.metric),
        "changes": [said(change) for change in settings.train.changes],
        "artifact": best.artifact,
        "artifact_uri": best.artifact_uri,
        "run": best.run,
        "settings": settings.model_dump(mode="json"),
    }


def _statuses(trials: Sequence[Trial]) -> list[str]:
    return sorted({trial.status for trial in trials})


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _markdown(config: TuneConfig, lines: list[tuple[str, ...]], facts: dict[str, Any]) -> str:
    rows = [f"| {' | '.join(line)} |" for line in lines]
    rows.insert(1, f"|{'---|' * len(lines[0])}")
    mattered = ", ".join(f"{key} {share:.0%}" for key, share in facts["importances"].items()) or "not known"
    changes = facts["best"]["changes"] if facts["best"] else []
    told = [f"The best run's changes: {'; '.join(map(_change, changes))}.", ""] if changes else []
    return "\n".join([f"# {config.name}", "", *rows, "", *told, f"What mattered: {mattered}.", ""])


def _change(change: dict[str, Any]) -> str:
    values = ", ".join(f"{key} {_show(value)}" for key, value in change.items() if key != "after_step")
    return f"after step {change['after_step']} {values}"


def _page(config: TuneConfig, trials: Sequence[Trial], facts: dict[str, Any]) -> str:
    best = facts["best"]
    number = best["number"] if best else None
    figures = [
        (f"best {config.metric}", f"{best['value']:.4f}" if best else "-"),
        ("trials", str(len(trials))),
        ("finished", str(facts["trials"].get("finished", 0))),
        ("stopped early", str(facts["trials"].get("stopped", 0))),
        ("tokens trained on", f"{facts['tokens']:,}"),
    ]
    header, *lines = lines_of(config, trials)
    errors = [(str(trial.number), trial.error) for trial in trials if trial.error]
    cards = [
        card(f"{config.metric} over steps", draw_curves(config, trials, number)),
        card("Searched values and the result", draw_parallel(config, trials, number)),
        card("What mattered", _bars(facts["importances"], common_step(trials)), wide=True),
        card("Trials", table_of_lines(header, lines), wide=True),
        *(
            [card("What went wrong", table_of_lines(("trial", "why"), errors, "words"), wide=True)]
            if errors
            else []
        ),
    ]
    return page(config.name, figures, cards, STYLE)


def _bars(shares: dict[str, float], step: int | None) -> str:
    if not shares:
        return "<p>Too few trials, or too much alike, to tell.</p>"
    rows = "".join(
        f'<span>{key}</span><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rail" width="100" height="10"/><rect width="{100 * share:.2f}" height="10"/></svg>'
        f"<b>{share:.0%}</b>"
        for key, share in shares.items()
    )
    return (
        f'<div class="bars">{rows}</div><p>Share of the variance explained, behind step {step}, '
        "by functional ANOVA.</p>"
    )
