"""Pictures of a sweep as SVG: what each trial did over its steps, and which values led where."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from heliostat.tuning.config import LogUniform, TuneConfig
from heliostat.tuning.trials import Trial

WIDTH, HEIGHT, MARGIN = 440, 240, 36  # not wider than a card, so that its letters are of its size
MOST_MARKS = 6
MARKS_APART = 0.07  # of an axis: the height of a letter, and a little
STYLE = """
.picture { width: 100%; display: block; overflow: visible; }
.picture path { fill: none; stroke: var(--quiet); stroke-width: 1.2; opacity: .55; }
.picture path.good { stroke: var(--bar); opacity: .8; }
.picture path.best { stroke: var(--bar); stroke-width: 3.2; opacity: 1; }
.picture line { stroke: var(--line); }
.picture text { fill: var(--quiet); font-size: 11px; }
.picture text.key { fill: var(--ink); }
"""


def draw_curves(config: TuneConfig, trials: Sequence[Trial], best: int | None) -> str:
    """The metric over steps, a line a trial; the best one is thick, with those it goes on from."""
    points = [(report["step"], report[config.metric]) for trial in trials for report in trial.reports]
    if not points:
        return "<p>No trial has reported.</p>"
    steps, values = [step for step, _ in points], [value for _, value in points if math.isfinite(value)]
    across, up = _scale(0, max(steps), MARGIN, WIDTH - 8), _scale(min(values), max(values), HEIGHT - 24, 8)
    lines = []
    known = {trial.number: trial for trial in trials}
    path = _path_to(best, known)
    for trial in _best_last(trials, path):
        former = known.get(trial.piece.after) if trial.piece and trial.piece.after is not None else None
        places = [
            (across(report["step"]), up(report[config.metric]))
            for report in (*(former.reports[-1:] if former else ()), *trial.reports)
            if math.isfinite(report[config.metric])
        ]
        if len(places) == 1:  # a dot would be lost
            places = [(places[0][0] - 3, places[0][1]), (places[0][0] + 3, places[0][1])]
        lines.append(_line(places, _class(trial, path), f"trial {trial.number}"))
    axis = (
        f'<line x1="{MARGIN}" y1="{HEIGHT - 24}" x2="{WIDTH - 8}" y2="{HEIGHT - 24}"/>'
        f'<text x="0" y="14">{max(values):.3g}</text><text x="0" y="{HEIGHT - 26}">{min(values):.3g}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 8}">0 steps</text>'
        f'<text x="{WIDTH - 8}" y="{HEIGHT - 8}" text-anchor="end">{max(steps):.0f}</text>'
    )
    return _picture(f"{config.metric} over steps", axis + "".join(lines))


def draw_parallel(config: TuneConfig, trials: Sequence[Trial], best: int | None) -> str:
    """Parallel coordinates: an axis for each searched value and one for the metric, a line a trial; of runs
    in pieces the last ones."""
    known = [trial for trial in trials if trial.value(config.metric) is not None]
    if not known:
        return "<p>No trial has reported.</p>"
    end = max(trial.piece.until if trial.piece else 0 for trial in known)
    shown = [trial for trial in known if trial.piece is None or trial.piece.until == end]
    keys = [*config.search_space, config.metric]
    gap = (WIDTH - 2 * MARGIN) / (len(keys) - 1)
    columns = [MARGIN + gap * number for number in range(len(keys))]
    places = [_places([_value(trial, key, config.metric) for trial in shown], config, key) for key in keys]
    top, bottom = 26, HEIGHT - 26
    lines = []
    path = frozenset() if best is None else frozenset({best})
    for trial in _best_last(shown, path):
        row = shown.index(trial)
        heights = [bottom - (bottom - top) * column[0][row] for column in places]
        lines.append(
            _line(list(zip(columns, heights, strict=True)), _class(trial, path), _say(trial, config))
        )
    axes = ""
    for at, (key, (_, marks)) in enumerate(zip(keys, places, strict=True)):
        x, anchor = columns[at], ("start" if at == 0 else "end" if at == len(keys) - 1 else "middle")
        axes += f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'
        axes += f'<text class="key" x="{x:.1f}" y="12" text-anchor="{anchor}">{escape(_short(key))}</text>'
        side = -4 if at == len(keys) - 1 else 4
        axes += "".join(
            f'<text x="{x + side:.1f}" y="{bottom - (bottom - top) * height + 4:.1f}" '
            f'text-anchor="{"end" if side < 0 else "start"}">{escape(label)}</text>'
            for label, height in marks
        )
    return _picture("searched values and the result", "".join(lines) + axes)


def _places(values: list[Any], config: TuneConfig, key: str) -> tuple[list[float], list[tuple[str, float]]]:
    """Each value's height on its axis, 0 to 1, and what is written beside the axis."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    dimension = config.search_space.get(key)
    if len(numbers) < len(values):
        kinds = list(dict.fromkeys(str(value) for value in values))
        heights = {kind: (at + 0.5) / len(kinds) for at, kind in enumerate(kinds)}
        return [heights[str(value)] for value in values], list(heights.items())
    low, high = min(numbers), max(numbers)
    log = low > 0 and (isinstance(dimension, LogUniform) or (dimension is not None and high / low >= 10))
    scale = _scale(*((math.log(low), math.log(high)) if log else (low, high)), 0.0, 1.0)
    heights_of = [scale(math.log(value) if log else value) for value in numbers]
    marks = dict(zip(numbers, heights_of, strict=True))
    if dimension is None or len(marks) > MOST_MARKS:
        marks = {value: marks[value] for value in (low, high)}
    return heights_of, _apart([(f"{value:.4g}", height) for value, height in sorted(marks.items())])


def _apart(marks: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The lowest and the highest mark, and of those between them what does not cover another."""
    kept, last = marks[:1], marks[1:][-1:]
    for mark in marks[1:-1]:
        if mark[1] - kept[-1][1] >= MARKS_APART and last[0][1] - mark[1] >= MARKS_APART:
            kept.append(mark)
    return [*kept, *last]


def _value(trial: Trial, key: str, metric: str) -> Any:
    return trial.value(metric) if key == metric else trial.point[key]


def _scale(low: float, high: float, first: float, last: float) -> Any:
    """A straight map of a range onto another; a range of one value goes to the middle."""
    if high == low:
        return lambda value: (first + last) / 2
    return lambda value: first + (last - first) * (value - low) / (high - low)


def _path_to(best: int | None, known: Mapping[int, Trial]) -> frozenset[int]:
    """The best trial's number, and those of the trials it goes on from."""
    path = []
    while best is not None:
        path.append(best)
        piece = known[best].piece
        best = piece.after if piece else None
    return frozenset(path)


def _best_last(trials: Sequence[Trial], best: frozenset[int]) -> list[Trial]:
    """What is drawn last lies on top."""
    return sorted(trials, key=lambda trial: (trial.number in best, trial.status == "finished"))


def _class(trial: Trial, best: frozenset[int]) -> str:
    return "best" if trial.number in best else "good" if trial.status == "finished" else "ended"


def _say(trial: Trial, config: TuneConfig) -> str:
    point = ", ".join(f"{_short(key)} {value}" for key, value in trial.point.items())
    return f"trial {trial.number}, {trial.status}: {point}; {config.metric} {trial.value(config.metric):.4g}"


def _line(places: list[tuple[float, float]], kind: str, title: str) -> str:
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="{kind}" d="M{steps}"><title>{escape(title)}</title></path>' if places else ""


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _picture(label: str, body: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"'
    return f'<svg class="picture" {box}>{body}</svg>'
