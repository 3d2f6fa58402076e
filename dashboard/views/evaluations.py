"""Evaluations: all models against all tasks, single examples, and two models side by side."""

import streamlit as st
from dashboard.charts.bars import height_of as bars_height
from dashboard.charts.bars import interval_chart
from dashboard.charts.colours import BAD, GOOD, MUTED, colours_of
from dashboard.parts.chart import chart
from dashboard.parts.links import go, has_page, kept, pick, section
from dashboard.parts.pieces import command_line
from dashboard.parts.states import empty, unavailable
from dashboard.parts.table import table
from dashboard.parts.text import moment, number, plain
from dashboard.session import current, time_zone
from dashboard.studies import compared_of, examples_of, leaderboard_of, reports_of

from heliostat.control.evaluations import (
    ComparedModels,
    EvaluationReport,
    Leaderboard,
    Order,
    ScoredExample,
    best_in,
)
from heliostat.control.readings import Unavailable
from heliostat.control.shown_commands import command_on
from heliostat.evaluation.comparison import MetricComparison
from heliostat.evaluation.gate import SIGNIFICANT

SECTIONS = ("leaderboard", "examples", "compare", "reports")
ORDERS: tuple[Order, ...] = ("file", "worst", "best")
PAGE = 10
session = current()
t = session.t
root = session.site.workspace.storage.root


def show() -> None:
    """The page: one of its parts, or why there is nothing to show."""
    st.title(t("evaluations.title"))
    reading = reports_of(root)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    reports = reading.value
    if not reports:
        action = t("evaluations.start") if has_page("new_run") else ""
        empty(t("evaluations.empty"), action, lambda: go("new_run", preset="evaluate_tasks"))
        command_line(command_on(session.site, "heliostat", "run", "jobs/recipes/evaluate_tasks.yaml"))
        return
    part = section(SECTIONS, "evaluations.section")
    if part == "leaderboard":
        show_leaderboard()
    elif part == "examples":
        show_examples(reports)
    elif part == "compare":
        show_comparison(reports)
    else:
        show_reports(reports)


def show_leaderboard() -> None:
    """All models against all tasks, and one task with its intervals."""
    reading = leaderboard_of(root)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    board = reading.value
    rows = [
        {t("evaluations.model"): f"{row.name} · {row.called}"}
        | {
            task.label: row.scores[task.label].value if task.label in row.scores else None
            for task in board.tasks
        }
        | {t("evaluations.id"): row.id}
        for row in board.contenders
    ]
    columns = {
        task.label: st.column_config.NumberColumn(
            f"{task.label} {'↑' if task.higher_is_better else '↓'}", format="%.4g"
        )
        for task in board.tasks
    }
    table(rows, key="leaderboard", columns=columns, alt=t("evaluations.title"))
    st.caption(t("evaluations.board_note"))
    _task(board)


def _task(board: Leaderboard) -> None:
    label = pick(t("evaluations.task"), [task.label for task in board.tasks], "task")
    task = next(task for task in board.tasks if task.label == label)
    shown = [row for row in board.contenders if label in row.scores]
    sign = -1 if task.higher_is_better else 1
    shown.sort(key=lambda row: sign * row.scores[label].value)
    names = [f"{row.name} · {row.called}" for row in shown]
    unique = [
        name if names.count(name) == 1 else f"{name} {row.id[-6:]}"
        for name, row in zip(names, shown, strict=True)
    ]
    colours = colours_of(row.id for row in shown)
    scores = [row.scores[label] for row in shown]
    option = interval_chart(
        unique,
        [score.value for score in scores],
        [(score.low, score.high) for score in scores],
        dark=session.dark,
        colours=[colours[row.id] for row in shown],
    )
    rows = [
        {
            t("evaluations.model"): name,
            t("evaluations.score"): score.value,
            t("evaluations.low"): score.low,
            t("evaluations.high"): score.high,
            t("evaluations.examples"): score.num_examples,
            t("evaluations.report"): score.report,
        }
        for name, score in zip(unique, scores, strict=True)
    ]
    alt = t("evaluations.task_alt", task=label, model=unique[0], value=number(scores[0].value))
    chart(option, key="task_chart", alt=alt, rows=rows, height=bars_height(len(shown)) + 20 * len(shown))
    tied = best_in(board, task)
    words = "evaluations.more_is_better" if task.higher_is_better else "evaluations.less_is_better"
    st.caption(f"{t(words)} {t('evaluations.tied', n=len(tied))}")


def show_examples(reports: list[EvaluationReport]) -> None:
    """The examples of a report, the worst first."""
    by_id = {report.id: report for report in reports}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = pick(t("evaluations.report"), list(by_id), "report", format_func=_called(by_id))
        report = by_id[chosen]
        model = pick(t("evaluations.model"), list(report.models), "name")
        suite = pick(t("evaluations.suite"), list(report.suites), "suite")
        metric = pick(t("evaluations.metric"), list(report.suites[suite]), "metric")
    order = st.segmented_control(
        t("evaluations.order"),
        ORDERS,
        default=None if "order" in st.session_state or "order" in st.query_params else "worst",
        required=True,
        format_func=lambda name: t(f"evaluations.order.{name}"),
        **kept("order", ORDERS),
    )
    number_of = int(st.session_state.get("page", 1))
    reading = examples_of(root, (report.id, model, suite), metric, order or "worst", (number_of, PAGE))
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    page = reading.value
    st.caption(t("evaluations.shown", total=f"{page.total:,}"))
    for example in page.examples:
        _example(example, metric)
    if page.pages > 1:
        st.pagination(page.pages, key="page")


def _example(example: ScoredExample, metric: str) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(f"{plain(metric)} {number(example.value)}", color="blue")
            if example.group:
                st.badge(plain(example.group), color="gray")
            st.caption(plain(example.id))
        if not example.prompt and not example.output:
            st.caption(t("evaluations.no_texts"))
            return
        st.text(example.prompt)
        with st.grid(min_column_width=260):
            for label, text in (("output", example.output), ("target", example.target)):
                with st.container():
                    st.caption(t(f"evaluations.{label}"))
                    st.code(text or "–", language=None, wrap_lines=True)


def show_comparison(reports: list[EvaluationReport]) -> None:
    """Two models side by side."""
    by_id = {report.id: report for report in reports}
    options = [f"{report.id}:{name}" for report in reports for name in report.models]
    if len(options) < 2:
        st.info(t("evaluations.one_only"), icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        a = pick("A", options, "a", format_func=_model_called(by_id))
        b = pick("B", options[1:] + options[:1], "b", format_func=_model_called(by_id))
    (report_a, _, model_a), (report_b, _, model_b) = a.partition(":"), b.partition(":")
    reading = compared_of(root, (report_a, model_a), (report_b, model_b))
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    _comparison(reading.value)
    models = ["--model-a", model_a, "--model-b", model_b]
    command_line(command_on(session.site, "heliostat", "evaluate", "compare", report_a, report_b, *models))


def _comparison(found: ComparedModels) -> None:
    labels = [f"{each.suite}/{each.metric}" for each in found.metrics]
    better = [_better_by(each) for each in found.metrics]
    option = interval_chart(
        labels,
        [value for value, _, _ in better],
        [(low, high) for _, low, high in better],
        dark=session.dark,
        colours=[_colour(each) for each in found.metrics],
    )
    rows = [
        {
            t("evaluations.suite"): each.suite,
            t("evaluations.metric"): f"{each.metric} {'↑' if each.higher_is_better else '↓'}",
            "A": each.value_a,
            "B": each.value_b,
            "B − A": each.difference,
            "95 %": f"[{each.low:+.4g}, {each.high:+.4g}]",
            "p": each.p_value,
            t("evaluations.wins"): f"{each.wins}/{each.losses}/{each.ties}",
            t("evaluations.verdict"): t(f"evaluations.verdict.{_verdict(each)}"),
        }
        for each in found.metrics
    ]
    st.subheader(t("evaluations.better_by"))
    counts = [_verdict(each) for each in found.metrics]
    alt = t("evaluations.better_alt", better=counts.count("better"), worse=counts.count("worse"))
    chart(option, key="better", alt=alt, rows=[], height=bars_height(len(labels)) + 20 * len(labels))
    st.caption(t("evaluations.better_note"))
    table(rows, key="comparison", alt=alt)
    told = [each for each in found.differences if each.a.prompt or each.a.output]
    if told:
        st.subheader(t("evaluations.disagree"))
    for each in told:
        with st.container(border=True):
            st.badge(f"{plain(each.suite)} · {plain(each.metric)} {each.difference:+.4g}", color="gray")
            st.text(each.a.prompt)
            with st.grid(min_column_width=220):
                sides = (("A", each.a.output), ("B", each.b.output), (t("evaluations.target"), each.a.target))
                for label, text in sides:
                    with st.container():
                        st.caption(label)
                        st.code(text or "–", language=None, wrap_lines=True)


def _better_by(each: MetricComparison) -> tuple[float, float, float]:
    """By how many per cent of a's value b is better, with the ends of the interval."""
    sign = 1 if each.higher_is_better else -1
    scale = 100 / abs(each.value_a) if each.value_a else 100
    ends = sorted((sign * each.low * scale, sign * each.high * scale))
    return round(sign * each.difference * scale, 2), ends[0], ends[1]


def _verdict(each: MetricComparison) -> str:
    if each.p_value >= SIGNIFICANT:
        return "alike"
    return "worse" if each.worse_by > 0 else "better"


def _colour(each: MetricComparison) -> str:
    return {"better": GOOD, "worse": BAD, "alike": MUTED}[_verdict(each)]


def show_reports(reports: list[EvaluationReport]) -> None:
    """All reports."""
    rows = [
        {
            t("evaluations.name"): report.name,
            t("evaluations.models"): ", ".join(report.models),
            t("evaluations.suites"): ", ".join(report.suites),
            t("evaluations.made"): moment(report.created_at, time_zone()),
            t("evaluations.id"): report.id,
            t("evaluations.page"): report.page,
        }
        for report in reports
    ]
    table(rows, key="reports", alt=t("evaluations.section.reports"))


def _called(by_id: dict[str, EvaluationReport]) -> "object":
    return lambda each: f"{by_id[each].name} · {moment(by_id[each].created_at, time_zone())}"


def _model_called(by_id: dict[str, EvaluationReport]) -> "object":
    def called(each: str) -> str:
        report, _, name = each.partition(":")
        return f"{name} · {by_id[report].name} · {moment(by_id[report].created_at, time_zone())}"

    return called


show()
