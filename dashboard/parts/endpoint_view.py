"""How an endpoint is doing: a card among others, and the live parts of its own page."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard.charts.endpoint_course import course_rows, load_option, replicas_option
from dashboard.parts.pieces import Colour, Tile, tiles
from dashboard.parts.table import table
from dashboard.parts.text import moment, number, plain
from dashboard.session import current_translator, time_zone
from dashboard.words import Translator
from heliostat.control.endpoint_figures import Figures
from heliostat.control.endpoint_state import Decision, EndpointState, VersionState
from heliostat.control.endpoints import Moment

LOOKS: dict[str, tuple[Colour, str]] = {
    "serving": ("green", "check_circle"),
    "starting": ("blue", "sync"),
    "resting": ("gray", "bedtime"),
    "degraded": ("orange", "warning"),
    "missing": ("red", "help"),
    "locked": ("orange", "key"),
    "away": ("red", "cloud_off"),
    "stopped": ("gray", "stop_circle"),
    "gone": ("gray", "help"),
}
DECISIONS_SHOWN = 6


def endpoint_badge(state: EndpointState) -> None:
    """Its status with a colour and an icon."""
    colour, icon = LOOKS[state.status]
    t = current_translator()
    st.badge(t(f"endpoints.status.{state.status}"), color=colour, icon=f":material/{icon}:")


def card(state: EndpointState) -> None:
    """One endpoint among others."""
    t = current_translator()
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(state.name)}**")
            endpoint_badge(state)
        say_what_is_wrong(state)
        if state.live:
            facts = (
                (t("endpoints.replicas"), replicas_text(state)),
                (t("endpoints.qps"), number(state.figures.requests_per_second, 3)),
                (t("endpoints.p50"), seconds(state.figures.p50_seconds)),
                (t("endpoints.p95"), seconds(state.figures.p95_seconds)),
                (t("endpoints.errors"), share(state.figures.error_share)),
            )
            with st.container(horizontal=True, gap="medium"):
                for label, value in facts:
                    with st.container(width="content", gap=None):
                        st.caption(label)
                        st.text(value)
        with st.container(horizontal=True, vertical_alignment="center"):
            opened = st.button(
                t("endpoints.open"), icon=":material/open_in_full:", key=f"endpoint_open_{state.name}"
            )
            if opened:
                st.query_params["endpoint"] = state.name
                st.rerun()
            if state.live:
                st.page_link(
                    "views/playground.py",
                    label=t("endpoints.chat"),
                    icon=":material/forum:",
                    query_params={"endpoint": state.name},
                )
        st.code(state.curl if state.live else state.url, language="bash", wrap_lines=False)


def say_what_is_wrong(state: EndpointState) -> None:
    """Why it is not well, and what happened to it of itself."""
    t = current_translator()
    if state.reason:
        st.caption(plain(state.reason))
    if state.note:
        st.warning(plain(t("endpoints.canary_note", note=state.note)), icon=":material/notifications:")


def figures_row(state: EndpointState) -> None:
    """The tiles of one endpoint."""
    t, figures = current_translator(), state.figures
    over = number(figures.over_seconds, 2) if figures.over_seconds else "60"
    bounds = bounds_text(t, state.versions)
    latency, first = t("endpoints.latency_help"), t("endpoints.first_help", seconds=over)
    tiles(
        [
            _tile("replicas", replicas_text(state), f"{t('endpoints.replicas_help')} {bounds}"),
            _tile("qps", number(figures.requests_per_second, 3), t("endpoints.qps_help")),
            _tile("p50", seconds(figures.p50_seconds), latency),
            _tile("p95", seconds(figures.p95_seconds), latency),
            _tile("queue", number(state.num_waiting), t("endpoints.queue_help")),
            _tile("errors", share(figures.error_share), t("endpoints.errors_help", seconds=over)),
            _tile("first_p95", seconds(figures.first_token_p95_seconds), first),
            _tile("tokens", number(figures.tokens_per_second, 3), t("endpoints.tokens_help", seconds=over)),
        ]
    )
    if figures.over_seconds is None:
        st.caption(t("endpoints.two_looks"))
    if state.num_gateways > 1:
        st.caption(t("endpoints.one_gateway", n=state.num_gateways))


def _tile(name: str, value: str, told: str) -> Tile:
    return Tile(current_translator()(f"endpoints.{name}"), value, help=told)


def versions_table(state: EndpointState) -> None:
    """Each version with its share."""
    t = current_translator()
    st.subheader(t("endpoints.versions"))
    rows = [_version_row(t, each) for each in state.versions]
    share_column = st.column_config.ProgressColumn(
        t("endpoints.col.share"), format="%.0f %%", min_value=0, max_value=100
    )
    table(
        rows,
        key="endpoint_versions",
        ids=[each.label for each in state.versions],
        columns={t("endpoints.col.share"): share_column},
        alt=t("endpoints.versions"),
    )


def _version_row(t: Translator, version: VersionState) -> dict[str, Any]:
    figures: Figures = version.figures
    return {
        t("endpoints.col.version"): version.label,
        t("endpoints.col.share"): version.weight,
        t("endpoints.col.replicas"): _of(version.replicas_now, version.replicas_target),
        t("endpoints.col.bounds"): bounds_text(t, [version]),
        t("endpoints.col.requests"): version.num_requests,
        t("endpoints.col.waiting"): version.num_waiting,
        t("endpoints.col.tokens"): None
        if version.tokens_per_second is None
        else round(version.tokens_per_second),
        t("endpoints.col.cache"): share(version.kv_cache_usage),
        t("endpoints.col.p50"): seconds(figures.p50_seconds),
        t("endpoints.col.p95"): seconds(figures.p95_seconds),
        t("endpoints.col.first_p50"): seconds(figures.first_token_p50_seconds),
        t("endpoints.col.first_p95"): seconds(figures.first_token_p95_seconds),
        t("endpoints.col.errors"): share(figures.error_share),
        t("endpoints.col.engine"): version.engine,
        t("endpoints.col.artifact"): version.artifact_id,
        t("endpoints.col.adapters"): ", ".join(version.adapters),
    }


def course_charts(state: EndpointState, course: Sequence[Moment]) -> None:
    """Load, latencies and replicas since somebody began to look."""
    t = current_translator()
    st.subheader(t("endpoints.course"))
    if len(course) < 2:
        st.caption(t("endpoints.course_wait"))
        return
    since = moment(course[0].at, time_zone())
    st.caption(t("endpoints.course_since", since=since))
    names = {"requests": t("endpoints.qps"), "p50": t("endpoints.p50"), "p95": t("endpoints.p95")}
    st.echarts_chart(
        load_option(course, names),
        height=220,
        key="endpoint_load",
        alt=t("endpoints.course_alt", name=state.name, since=since),
    )
    names = {"now": t("endpoints.now"), "target": t("endpoints.target")}
    st.echarts_chart(
        replicas_option(course, state.decisions, names),
        height=160,
        key="endpoint_replicas",
        alt=t("endpoints.replicas_alt", name=state.name, since=since),
    )
    if st.toggle(t("endpoints.as_table"), key="endpoint_course_table"):
        table(course_rows(course), key="endpoint_course", alt=t("endpoints.course"))


def decisions_part(decisions: Sequence[Decision]) -> None:
    """Why it got more replicas or fewer, the latest first, in words."""
    t = current_translator()
    st.subheader(t("endpoints.decisions"))
    if not decisions:
        st.caption(t("endpoints.no_decisions"))
        return
    zone = time_zone()
    for each in decisions[:DECISIONS_SHOWN]:
        up = each.after > each.before
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(
                t("endpoints.from_to", before=each.before, after=each.after),
                color="blue" if up else "gray",
                icon=":material/arrow_upward:" if up else ":material/arrow_downward:",
            )
            with st.container(width="stretch", gap=None):
                st.text(why(t, each))
                st.caption(f"{moment(each.at, zone)} · {plain(each.version)}")
    rows = [
        {
            t("endpoints.col.when"): each.at,
            t("endpoints.col.version"): each.version,
            t("endpoints.col.change"): t("endpoints.from_to", before=each.before, after=each.after),
            t("endpoints.col.why"): why(t, each),
        }
        for each in decisions
    ]
    if st.toggle(t("endpoints.as_table"), key="endpoint_decisions_table"):
        table(rows, key="endpoint_decisions", alt=t("endpoints.decisions"))


def why(t: Translator, decision: Decision) -> str:
    """A decision's reason in the reader's language; one that a newer gateway knows in its own words."""
    try:
        said = t(f"endpoints.cause.{decision.cause}", **decision.figures)
    except KeyError:
        return decision.reason
    return decision.reason if said.startswith("endpoints.cause.") else said


def replicas_text(state: EndpointState) -> str:
    """Up now, of those that there are to be."""
    return _of(state.replicas_now, state.replicas_target)


def bounds_text(t: Translator, versions: Sequence[VersionState]) -> str:
    """Between how many replicas there may be, over all versions."""
    if not versions or any(each.most_replicas is None for each in versions):
        return "–"
    fewest = sum(each.fewest_replicas or 0 for each in versions)
    most = sum(each.most_replicas or 0 for each in versions)
    return t("endpoints.fixed", n=most) if fewest == most else t("endpoints.bounds", fewest=fewest, most=most)


def seconds(value: float | None) -> str:
    """A time as people say it; a dash where it is not known."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def share(value: float | None) -> str:
    """A share in percent; a dash where it is not known."""
    return "–" if value is None else f"{value:.1%}"


def _of(now: int | None, target: int | None) -> str:
    return "–" if now is None else f"{now} / {now if target is None else target}"
