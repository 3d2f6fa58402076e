"""What waits on a cluster and why, what it may grow to, and what the autoscaler told."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard.parts.pieces import Colour
from dashboard.parts.table import table
from dashboard.parts.text import moment, plain
from dashboard.session import current_translator, time_zone
from heliostat.control.cluster_words import scaling_lines, waiter_line, waiting_line
from heliostat.control.demand import ClusterEvent, Demand, Reason, Waiting
from heliostat.control.holders import Holder
from heliostat.control.node_types import NodeType, in_words

SHOWN = 12
_REASONS: Mapping[Reason, tuple[Colour, str]] = {
    "impossible": ("red", "block"),
    "launch failed": ("red", "error"),
    "full": ("orange", "do_not_disturb_on"),
    "busy": ("gray", "hourglass_top"),
    "starting": ("blue", "rocket_launch"),
    "deciding": ("blue", "pending"),
}


def waiting_list(demand: Demand, holders: Sequence[Holder]) -> None:
    """Each demand with the kind of its reason, the reason and what would help; then who waits."""
    t = current_translator()
    for line in scaling_lines(demand):
        st.info(plain(line), icon=":material/dns:")
    if not demand.waiting:
        st.caption(t("cluster.nothing_waits"))
    elif st.toggle(t("cluster.as_table"), key="cluster_waiting_as_table"):
        _waiting_table(demand.waiting)
        return
    for each in demand.waiting[:SHOWN]:
        _waiting(each)
    if len(demand.waiting) > SHOWN:
        st.caption(t("cluster.more_waiting", shown=SHOWN, of=len(demand.waiting)))
    for holder in holders[:SHOWN]:
        st.text(waiter_line(holder, demand))


def _waiting(each: Waiting) -> None:
    t = current_translator()
    colour, icon = _REASONS[each.reason]
    with st.container(border=True, gap="xsmall"):
        st.badge(
            t(f"cluster.reason.{each.reason.replace(' ', '_')}"), color=colour, icon=f":material/{icon}:"
        )
        st.text(waiting_line(each))
        st.caption(t("cluster.help", what=t(f"cluster.remedy.{each.reason.replace(' ', '_')}")))


def _waiting_table(waiting: Sequence[Waiting]) -> None:
    t = current_translator()
    rows: list[dict[str, Any]] = [
        {
            t("cluster.col.kind"): each.kind,
            t("cluster.col.count"): each.count,
            t("cluster.col.asked"): each.asked,
            t("cluster.col.reason"): t(f"cluster.reason.{each.reason.replace(' ', '_')}"),
            t("cluster.col.why"): each.why,
        }
        for each in waiting
    ]
    table(rows, key="cluster_waiting", alt=t("cluster.waiting"))


def node_types(types: Sequence[NodeType], autoscaler: bool) -> None:
    """What of each there is, and what there may be."""
    t = current_translator()
    st.caption(t("cluster.grows") if autoscaler else t("cluster.grows_not"))
    if not types:
        return
    rows: list[dict[str, Any]] = [
        {
            t("cluster.col.type"): each.name,
            t("cluster.col.resources"): in_words(each.resources) if each.resources else t("cluster.not_told"),
            t("cluster.col.fewest"): each.fewest,
            t("cluster.col.running"): each.running,
            t("cluster.col.starting"): each.starting,
            t("cluster.col.most"): each.most,
            t("cluster.col.filled"): min(1.0, each.running / each.most) if each.most else None,
        }
        for each in types
    ]
    filled = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    columns = {t("cluster.col.filled"): filled}
    table(rows, key="cluster_types", columns=columns, alt=t("cluster.types"))
    if autoscaler and all(each.most is None for each in types):
        st.caption(t("cluster.limits_not_told"))


def event_table(events: Sequence[ClusterEvent]) -> None:
    """What the autoscaler and other parts of Ray told, the latest first."""
    t = current_translator()
    if not events:
        st.caption(t("cluster.no_events"))
        return
    zone = time_zone()
    rows: list[dict[str, Any]] = [
        {
            t("cluster.col.when"): moment(each.at, zone),
            t("cluster.col.source"): each.source,
            t("cluster.col.severity"): each.severity,
            t("cluster.col.message"): each.message,
        }
        for each in events
    ]
    columns = {t("cluster.col.message"): st.column_config.TextColumn(width="large")}
    table(rows, key="cluster_events", columns=columns, alt=t("cluster.events"))
