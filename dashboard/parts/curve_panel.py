"""Curves of runs with their controls: which metric, how smooth, which axis; and the same as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import streamlit as st

from dashboard.charts.metric import Line, Look, hidden_by_log, metric_chart
from dashboard.parts.links import pick
from dashboard.parts.table import table
from dashboard.session import Session
from heliostat.control.curves import Axis, Curve, Mark, View

AXES: tuple[Axis, ...] = ("step", "tokens", "relative", "time")
OFTEN = ("loss", "validation_loss", "learning_rate", "gradient_norm", "tokens_per_second")
"""The metrics most people look for, in this order."""
MOST_TOLD = 5
"""Of the places where a run went on, in words; the picture has more."""


@dataclass(frozen=True)
class Wanted:
    """What the controls say."""

    names: tuple[str, ...]
    view: View
    log: bool


def controls(session: Session, names: Sequence[str], key: str) -> Wanted:
    """The controls above the curves; what they say is kept in the page's address."""
    t = session.t
    ordered = [name for name in OFTEN if name in names]
    ordered += sorted(set(names) - set(ordered))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            t("curves.metrics"),
            ordered,
            default=ordered[:1],
            key=f"{key}_metrics",
            bind="query-params",
            placeholder=t("curves.choose"),
            width=360,
        )
        axis = pick(
            t("curves.axis"),
            AXES,
            f"{key}_axis",
            format_func=lambda name: t(f"curves.axis.{name}"),
            width=160,
        )
        smoothing = st.slider(
            t("curves.smoothing"), 0.0, 0.99, 0.6, key=f"{key}_smoothing", bind="query-params", width=200
        )
        log = st.toggle(t("curves.log"), key=f"{key}_log", bind="query-params")
    return Wanted(tuple(chosen), View(smoothing, cast(Axis, axis)), log)


def picture(
    session: Session, title: str, lines: Sequence[Line], marks: Sequence[Mark], wanted: Wanted
) -> None:
    """One metric's picture, what of it could not be shown, and its points as a table."""
    t = session.t
    points = sum(line.curve.num_points for line in lines)
    drawn = sum(len(line.curve.x) for line in lines)
    about = t("curves.thinned", drawn=f"{drawn:,}", points=f"{points:,}") if drawn < points else ""
    look = Look(
        log=wanted.log,
        dark=session.dark,
        axis=wanted.view.axis,
        axis_name=t(f"curves.axis.{wanted.view.axis}"),
        raw=t("curves.raw"),
    )
    st.subheader(title, anchor=False)
    st.echarts_chart(
        metric_chart(lines, marks, look),
        height=320,
        key=f"chart_{title}",
        alt=t("curves.alt", name=title, n=len(lines)),
    )
    gaps = sum(line.curve.num_gaps for line in lines)
    notes = [about, t("curves.gaps", n=gaps) if gaps else ""]
    resumed = [f"{mark.step:,}" for mark in marks if mark.kind == "resumed"]
    notes.append(t("curves.resumed", steps=", ".join(resumed[-MOST_TOLD:])) if resumed else "")
    hidden = hidden_by_log(lines) if wanted.log else 0
    notes.append(t("curves.hidden", n=hidden) if hidden else "")
    st.caption(" · ".join(note for note in notes if note) or t("curves.all", n=points))
    if st.toggle(t("curves.as_table"), key=f"table_{title}"):
        table(_rows(session, lines), key=f"points_{title}")


def _rows(session: Session, lines: Sequence[Line]) -> list[dict[str, object]]:
    t = session.t
    return [
        {
            t("curves.run"): line.label,
            t("curves.axis.step"): int(step),
            t("curves.value"): float(value),
            t("curves.smoothed"): float(smoothed),
        }
        for line in lines
        for step, value, smoothed in _points(line.curve)
    ]


def _points(curve: Curve) -> list[tuple[int, float, float]]:
    return list(zip(curve.steps.tolist(), curve.values.tolist(), curve.smoothed.tolist(), strict=True))
