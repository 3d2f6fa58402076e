"""What a run holds on the cluster now, and how well it used what it had."""

import streamlit as st

from dashboard.charts.metric import Line
from dashboard.parts.curve_panel import Wanted, picture
from dashboard.parts.states import shown
from dashboard.parts.table import table
from dashboard.parts.text import number
from dashboard.session import Session
from heliostat.control.collector import read_noted_holders, read_noted_nodes
from heliostat.control.curves import View, metric_names, run_curves
from heliostat.control.readings import latest

MEASURED = ("gpu_utilization", "gpu_memory_share", "cpu_cores_used", "memory_share")
"""What workers measure of themselves, as training calls it."""


def resources(session: Session, job_id: str, run_id: str | None, ended: bool) -> None:
    """Who holds what for this job, and the curves of its workers' machines."""
    t, workspace = session.t, session.site.workspace
    if not ended:
        _held(session, job_id)
    there = metric_names(workspace, run_id) if run_id else []
    names = tuple(name for name in MEASURED if name in there)
    if run_id is None or not names:
        st.info(t("resources.not_measured"), icon=":material/info:")
        return
    wanted = Wanted(names, View(0.6, "relative"), log=False)
    for name, curve in run_curves(workspace, run_id, names, wanted.view).items():
        picture(session, t(f"resources.{name}"), [Line(name, curve)], (), wanted)


def _held(session: Session, job_id: str) -> None:
    t = session.t
    holders = shown(read_noted_holders(session.site.store))
    if holders is None:
        return
    nodes = latest(read_noted_nodes(session.site.store))
    names = {node.id: node.name for node in nodes.value} if nodes else {}
    mine = [each for each in holders if each.job_id == job_id]
    if not mine:
        st.caption(t("resources.nothing_held"))
        return
    table(
        [
            {
                t("resources.what"): each.name or each.kind,
                t("resources.kind"): each.kind,
                t("resources.node"): names.get(each.node_id, each.node_id[:8]) or t("resources.waits"),
                "CPU": number(each.cpus),
                "GPU": number(each.gpus),
                t("resources.state"): each.state,
            }
            for each in mine
        ],
        key="run_holders",
    )
