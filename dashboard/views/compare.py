"""Compare: runs over each other, what differs in their configs, what they score. The first is the base."""

from typing import Any

import streamlit as st
from dashboard.charts.colours import colours_of
from dashboard.charts.metric import Line
from dashboard.parts import curve_panel
from dashboard.parts.states import acting, empty, unavailable
from dashboard.parts.table import table
from dashboard.session import current

from heliostat.control.curves import MOST_RUNS, ComparedRuns, compare_runs, metric_names
from heliostat.control.readings import Unavailable, latest
from heliostat.control.run_index import read_runs
from heliostat.control.run_scores import difference_from, known_runs, scores_of
from heliostat.records import Run

LISTED = 500
"""So many of the latest runs are offered; the address takes any."""

session = current()
t = session.t
site = session.site


def chosen() -> list[str]:
    """The runs that the page's address names, and the list to change them with."""
    asked = list(dict.fromkeys(part for part in st.query_params.get("runs", "").split(",") if part))
    known, unknown = known_runs(site, asked[:MOST_RUNS])
    if unknown:
        st.warning(t("compare.unknown", n=len(unknown)), icon=":material/help:")
        st.code("\n".join(unknown), language=None)
    if len(asked) > MOST_RUNS:
        st.info(t("compare.too_many", n=MOST_RUNS, of=len(asked)), icon=":material/info:")
    reading = read_runs(site.store, limit=LISTED)
    if isinstance(reading, Unavailable):
        unavailable(reading)
    listed = latest(reading)
    offered = [run.id for run in listed.value] if listed else []
    options = list(dict.fromkeys([*known, *offered]))
    if not options:
        empty(t("compare.none"), t("compare.first"), _first_run)
        return []
    picked = st.multiselect(
        t("compare.runs"),
        options,
        default=known,
        key=f"compare_runs_{','.join(known)}",
        max_selections=MOST_RUNS,
        placeholder=t("compare.pick"),
        help=t("compare.baseline_is"),
    )
    if picked != known:
        st.query_params["runs"] = ",".join(picked)
        st.rerun()
    return known


def _first_run() -> None:
    st.switch_page("views/new_run.py", query_params={"preset": "one_minute"})


def metrics_of(ids: list[str]) -> list[str]:
    """All metrics that one of the runs has reported."""
    return list(dict.fromkeys(name for run in ids for name in metric_names(site.workspace, run)))


def curves(ids: list[str], names: list[str]) -> ComparedRuns:
    """The metrics, a picture and a table of figures each."""
    wanted = curve_panel.controls(session, names, "compare")
    compared = compare_runs(site.workspace, ids, wanted.names, wanted.view)
    colours = colours_of(ids)
    for name in wanted.names:
        lines = [Line(run, curve, colours[run]) for run, curve in compared.curves[name].items()]
        curve_panel.picture(session, name, lines, (), wanted)
        without = [run for run in ids if run not in compared.curves[name]]
        if without:
            st.caption(t("compare.without", n=len(without)))
        figures(compared, name)
    if not wanted.names:
        st.caption(t("curves.choose"))
    return compared


def figures(compared: ComparedRuns, name: str) -> None:
    """The last and the best value of each run, and by how much its last differs from the baseline's."""
    rows = [
        {
            t("curves.run"): run,
            t("compare.last"): figure.last,
            t("compare.best"): figure.best,
            t("compare.difference"): figure.difference,
        }
        for run, figure in compared.figures[name].items()
    ]
    columns = {t("compare.difference"): _percent()}
    table(rows, key=f"figures_{name}", columns=columns, alt=t("compare.figures_alt", name=name))


def scores(runs: tuple[Run, ...]) -> None:
    """What the runs' models score, side by side."""
    st.subheader(t("compare.scores"), anchor=False)
    found = scores_of(site.store, runs)
    if not found:
        st.caption(t("compare.no_scores"))
        return
    baseline = runs[0].id
    rows = []
    for metric, values in found.items():
        row: dict[str, Any] = {t("compare.metric"): metric}
        for run in runs:
            row[run.id] = values.get(run.id)
            if run.id != baseline:
                row[f"{run.id} Δ"] = difference_from(values.get(baseline), values.get(run.id))
        rows.append(row)
    columns = {f"{run.id} Δ": _percent() for run in runs[1:]}
    table(rows, key="compare_scores", columns=columns, alt=t("compare.scores"))


def config(compared: ComparedRuns) -> None:
    """Only the keys that are not the same everywhere."""
    st.subheader(t("compare.config"), anchor=False)
    rows = [
        {t("compare.key"): each.key}
        | {run.id: _told(each.values[run.id]) if run.id in each.values else "" for run in compared.runs}
        for each in compared.differences
    ]
    if rows:
        columns = {t("compare.key"): st.column_config.TextColumn(pinned=True)}
        table(rows, key="compare_config", columns=columns, alt=t("compare.config"))
    st.caption(t("compare.same", n=compared.same_keys))


def _told(value: object) -> str:
    return "–" if value is None else str(value)


def _percent() -> Any:
    return st.column_config.NumberColumn(format="percent", help=t("compare.baseline_is"))


st.title(t("app.page.compare"))
with acting():
    ids = chosen()
    if not ids:
        st.caption(t("compare.pick"))
    else:
        names = metrics_of(ids)
        if not names:
            st.info(t("compare.no_metrics"), icon=":material/hourglass_top:")
        compared = curves(ids, names) if names else compare_runs(site.workspace, ids, ())
        if len(ids) > 1:
            config(compared)
        scores(compared.runs)
