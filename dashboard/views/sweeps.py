"""Sweeps: all of them, and one in detail with its trials, live while it runs."""

import math

import streamlit as st
from dashboard.charts.bars import bar_chart
from dashboard.charts.bars import height_of as bars_height
from dashboard.charts.parallel import ParallelAxis, parallel_chart
from dashboard.charts.trials import history_chart, trial_curves
from dashboard.parts.chart import chart
from dashboard.parts.links import back, go, has_page, open_here, section
from dashboard.parts.pieces import Tile, command_line, folded_code, status_badge, status_text, tiles
from dashboard.parts.states import empty, unavailable
from dashboard.parts.table import table
from dashboard.parts.text import moment, number, plain
from dashboard.session import current, time_zone
from dashboard.studies import sweep_of, sweeps_of

from heliostat.control.job_records import job_of
from heliostat.control.readings import Unavailable
from heliostat.control.shown_commands import command_on
from heliostat.control.sweeps import Sweep, SweepDetail, parallel_rows
from heliostat.errors import HeliostatError
from heliostat.tuning.trials import Trial

SECTIONS = ("overview", "parallel", "curves", "trials")
STATUSES = ("finished", "running", "stopped", "failed", "refused")
LIVE_SECONDS = 3
session = current()
t = session.t
root = session.site.workspace.storage.root


def show_list() -> None:
    """All sweeps, or why there is none."""
    st.title(t("sweeps.title"))
    st.fragment(listing, run_every=LIVE_SECONDS)()


def listing() -> None:
    """The table, which changes while something is searched."""
    reading = sweeps_of(root)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    if not reading.value:
        action = t("sweeps.start") if has_page("new_run") else ""
        empty(t("sweeps.empty"), action, lambda: go("new_run", preset="sweep"))
        command_line(command_on(session.site, "heliostat", "run", "jobs/recipes/sweep.yaml"))
        return
    rows = [_row(sweep) for sweep in reading.value]
    done = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    ids = [sweep.id for sweep in reading.value]
    columns = {t("sweeps.progress"): done}
    chosen = table(rows, key="sweeps", ids=ids, columns=columns, choose="one", alt=t("sweeps.title"))
    st.caption(t("sweeps.choose"))
    if chosen:
        open_here(sweep=chosen[0])


def _row(sweep: Sweep) -> dict[str, object]:
    ended = sum(count for status, count in sweep.trials.items() if status != "running")
    return {
        t("sweeps.name"): sweep.name,
        t("sweeps.status"): status_text(_status(sweep)),
        t("sweeps.progress"): min(1.0, ended / sweep.planned) if sweep.planned else None,
        t("sweeps.trials"): f"{ended}/{sweep.planned}",
        t("sweeps.metric"): sweep.metric,
        t("sweeps.best"): number(sweep.best),
        t("sweeps.searcher"): f"{sweep.searcher} · {sweep.scheduler}",
        t("sweeps.user"): sweep.user,
        t("sweeps.started"): moment(sweep.started_at, time_zone()),
        t("sweeps.id"): sweep.id,
    }


def _status(sweep: Sweep) -> str:
    return "lost" if sweep.lost else sweep.status


def show_detail(sweep_id: str) -> None:
    """One sweep: its state, and one part of what is known."""
    back()
    reading = sweep_of(root, sweep_id)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    sweep = reading.value.sweep
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(plain(sweep.name))
        status_badge(_status(sweep))
    st.caption(plain(f"{sweep.id} · {sweep.searcher} · {sweep.scheduler} · {sweep.user}"))
    if sweep.error:
        st.error(plain(sweep.error), icon=":material/error:")
    if sweep.lost:
        st.warning(t("sweeps.lost"), icon=":material/help:")
    part = section(SECTIONS, "sweeps.section")
    st.fragment(run_every=LIVE_SECONDS if sweep.running else None)(live)(sweep_id, part, sweep.running)


def live(sweep_id: str, part: str, running: bool) -> None:
    """What changes while the sweep runs; the whole page is drawn once more when it has ended."""
    reading = sweep_of(root, sweep_id)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    detail = reading.value
    if running and not detail.sweep.running:
        st.rerun()
    if not detail.trials:
        st.info(t("sweeps.no_trials"), icon=":material/hourglass_empty:")
        return
    parts = {"overview": overview, "parallel": parallel, "curves": curves, "trials": trials}
    parts[part](detail)


def overview(detail: SweepDetail) -> None:
    """The best trial, the history, and what mattered."""
    sweep = detail.sweep
    count = sweep.trials.get
    ended = sum(n for status, n in sweep.trials.items() if status != "running")
    tiles(
        [
            Tile(t("sweeps.best_of", metric=sweep.metric), number(sweep.best)),
            Tile(t("sweeps.trials"), f"{ended}/{sweep.planned}"),
            Tile(t("sweeps.running"), number(count("running", 0))),
            Tile(t("sweeps.stopped"), number(count("stopped", 0)), help=t("sweeps.stopped_help")),
            Tile(t("sweeps.failed"), number(count("failed", 0) + count("refused", 0))),
            Tile(t("sweeps.tokens"), number(detail.tokens)),
        ]
    )
    _best(detail)
    st.subheader(t("sweeps.history"))
    attempts = [(each.number, each.value, each.best, each.status) for each in detail.history]
    words = {status: status_text(status) for status in STATUSES}
    rows = [
        {
            t("sweeps.trial"): each.number,
            sweep.metric: each.value,
            t("sweeps.best_so_far"): each.best,
            t("sweeps.status"): status_text(each.status),
        }
        for each in detail.history
    ]
    alt = t("sweeps.history_alt", metric=sweep.metric, value=number(sweep.best))
    option = history_chart(attempts, t("sweeps.best_so_far"), words, session.dark)
    chart(option, key="history", alt=alt, rows=rows, height=320)
    _importance(detail)


def _best(detail: SweepDetail) -> None:
    best = detail.best
    if best is None:
        st.info(t("sweeps.no_best"), icon=":material/hourglass_empty:")
        return
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{t('sweeps.best_trial', n=best.number)}**")
            if has_page("new_run") and st.button(t("sweeps.use"), type="primary", icon=":material/star:"):
                _use_best(detail)
        with st.grid(min_column_width=150):
            for key, value in (best.point | best.computed).items():
                told = number(value) if isinstance(value, float) else str(value)
                st.metric(key.rpartition(".")[2], told, help=plain(key))
        command = command_on(session.site, "heliostat", "run", "RECIPE.yaml", *detail.overrides)
        command_line(command, label=t("sweeps.use_command"))
        if detail.recipe:
            folded_code(detail.recipe, "yaml", t("sweeps.recipe"), ":material/description:", "recipe")
            st.download_button(
                t("sweeps.download"), detail.recipe, "best.yaml", "application/yaml", on_click="ignore"
            )


def _use_best(detail: SweepDetail) -> None:
    """To a new run with the best values: of the sweep's own recipe where that is on record."""
    job = detail.sweep.job or ""
    try:
        known = job_of(session.site.store, job).recipe is not None
    except HeliostatError:
        known = False
    if known:
        go("new_run", clone=job, set=["tune=null", *detail.overrides])
    go("new_run", set=list(detail.overrides))


def _importance(detail: SweepDetail) -> None:
    st.subheader(t("sweeps.importance"))
    if not detail.importances:
        st.caption(t("sweeps.no_importance"))
        return
    names = [key.rpartition(".")[2] for key in detail.importances]
    shares = [round(100 * share, 1) for share in detail.importances.values()]
    rows = [{t("sweeps.key"): key, t("sweeps.share"): share} for key, share in detail.importances.items()]
    option = bar_chart(names, {t("sweeps.share"): shares}, dark=session.dark, unit=" %")
    alt = t("sweeps.importance_alt", name=names[0], share=f"{shares[0]:.0f}")
    chart(option, key="importance", alt=alt, rows=rows, height=bars_height(len(names)))
    st.caption(t("sweeps.importance_note", step=detail.compared_at))


def parallel(detail: SweepDetail) -> None:
    """Searched values and where they led."""
    st.subheader(t("sweeps.parallel"))
    rows = parallel_rows(detail)
    metric = detail.sweep.metric
    axes = [ParallelAxis(each.name, each.log, each.words) for each in detail.searched]
    option = parallel_chart(
        [*axes, ParallelAxis(metric)],
        rows,
        smaller_is_better=detail.sweep.mode == "min",
        dark=session.dark,
    )
    titles = [each.key for each in detail.searched] + [metric]
    told = [dict(zip(titles, row, strict=True)) for row in rows]
    chart(option, key="parallel", alt=t("sweeps.parallel_alt", metric=metric), rows=told, height=420)
    st.caption(t("sweeps.parallel_note"))


def curves(detail: SweepDetail) -> None:
    """What each trial did over its steps."""
    st.subheader(t("sweeps.curves", metric=detail.sweep.metric))
    log = st.toggle(t("sweeps.log"), key="log")
    metric = detail.sweep.metric
    found = {
        t("sweeps.trial_n", n=trial.number): [(r["step"], r[metric]) for r in trial.reports if metric in r]
        for trial in sorted(detail.trials, key=lambda trial: trial.number)
    }
    best = t("sweeps.trial_n", n=detail.best.number) if detail.best else None
    rows = [
        {t("sweeps.trial"): name, t("sweeps.step"): step, metric: value if math.isfinite(value) else None}
        for name, points in found.items()
        for step, value in points
    ]
    option = trial_curves(found, best, log, session.dark)
    chart(option, key="curves", alt=t("sweeps.curves_alt", metric=metric), rows=rows, height=420)


def trials(detail: SweepDetail) -> None:
    """All trials as a table, and what went wrong."""
    rows = [_trial(trial, detail) for trial in detail.trials]
    columns = {t("sweeps.tokens"): st.column_config.NumberColumn(format="localized")}
    ids = [str(trial.number) for trial in detail.trials]
    choose = "one" if has_page("run") else ""
    chosen = table(rows, key="trials", ids=ids, columns=columns, choose=choose, alt=t("sweeps.trials"))
    known = {str(trial.number): trial for trial in detail.trials}
    if chosen and (run := known[chosen[0]].run):
        go("run", run=run)
    failed = [trial for trial in detail.trials if trial.error]
    if failed:
        st.subheader(t("sweeps.wrong"))
        for trial in failed:
            st.caption(t("sweeps.trial_n", n=trial.number))
            st.code(str(trial.error), language=None, wrap_lines=True)


def _trial(trial: Trial, detail: SweepDetail) -> dict[str, object]:
    value = trial.value(detail.sweep.metric)
    values = trial.point | trial.computed
    shown = {key.rpartition(".")[2]: _cell(each) for key, each in values.items()}
    return {
        t("sweeps.trial"): trial.number,
        detail.sweep.metric: value if value is not None and math.isfinite(value) else None,
        **shown,
        t("sweeps.status"): status_text(trial.status),
        t("sweeps.steps"): trial.steps,
        t("sweeps.tokens"): trial.tokens,
        t("sweeps.run"): trial.run or "–",
    }


def _cell(value: object) -> object:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


asked = st.query_params.get("sweep")
if asked:
    show_detail(asked)
else:
    show_list()
