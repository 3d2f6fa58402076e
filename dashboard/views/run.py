"""One run: where it is, its curves, output, config, checkpoints, and what can be done about it."""

import streamlit as st
from dashboard.charts.metric import Line
from dashboard.parts import curve_panel, run_resources, run_samples
from dashboard.parts.alert_view import alert_lines
from dashboard.parts.deployment_form import deploy_button
from dashboard.parts.links import go, section
from dashboard.parts.pieces import Tile, command_line, confirm, status_badge, status_text, tiles
from dashboard.parts.states import acting, empty, health_banner
from dashboard.parts.table import table
from dashboard.parts.text import ago, moment, number, plain
from dashboard.session import current, time_zone

from heliostat.control.alerts import subject_of
from heliostat.control.collector import read_cluster
from heliostat.control.curves import metric_names, run_curves, run_marks
from heliostat.control.job_log import read_tail
from heliostat.control.jobs import retry_job, stop_job
from heliostat.control.shown_commands import command_on
from heliostat.control.work_list import course_of
from heliostat.control.work_page import (
    WorkPage,
    checkpoints_of,
    command_of,
    failure_of,
    open_work,
    recipe_difference,
    recipe_text,
    served_name,
)
from heliostat.errors import ConfigError, HeliostatError

LOG_LINES = 500

session = current()
t = session.t
site = session.site
zone = time_zone()


def page_of(work_id: str) -> WorkPage | None:
    """The run, or None after saying why there is nothing to see."""
    if not work_id:
        empty(t("run.none"), t("run.to_list"), _to_list)
        return None
    try:
        return open_work(site, work_id)
    except ConfigError:
        empty(t("run.unknown"), t("run.to_list"), _to_list)
        st.code(work_id, language=None)
    except HeliostatError as error:
        st.warning(t("run.away"), icon=":material/cloud_off:")
        st.code(str(error), language=None, wrap_lines=True)
    return None


def _to_list() -> None:
    st.switch_page("views/runs.py")


def head(work_id: str) -> None:
    """Name, state, and what it waits for."""
    line = open_work(site, work_id).line
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(line.name)
        status_badge(line.state)
        st.caption(t("run.by", user=line.user, at=moment(line.started_at, zone)))
    st.text(line.id)
    if line.reason and line.state in ("queued", "pending", "stopping"):
        st.info(t("run.waits"), icon=":material/hourglass_top:")
        st.text(line.reason)


def actions(page: WorkPage) -> None:
    """Stop, retry, clone, deploy: each with its command."""
    job = page.job
    with st.container(horizontal=True):
        if job is not None and not page.line.ended:
            if st.button(t("run.stop"), icon=":material/stop_circle:", key="run_stop"):
                confirm(
                    f"{job.name}  {job.id}",
                    t("run.stop_what"),
                    t("run.stop"),
                    lambda: stop_job(site, session.actor, job.id),
                    done=t("run.stopping"),
                    command=command_on(site, "heliostat", "jobs", "stop", job.id, cluster=True),
                )
        elif (
            job is not None
            and job.request is not None
            and st.button(t("run.retry"), icon=":material/replay:", key="run_retry", type=_urgent(page))
        ):
            with acting():
                st.query_params["run"] = retry_job(site, session.actor, job.id).id
                st.rerun()
        if (
            job is not None
            and job.recipe is not None
            and st.button(t("run.clone"), icon=":material/content_copy:", key="run_clone")
        ):
            st.switch_page("views/new_run.py", query_params={"clone": job.id})
        if page.line.state in ("succeeded", "finished"):  # else the newest model may be the one it began with
            deploy_button(session, page.made)
        name = served_name(page)
        if name and st.button(t("run.talk"), icon=":material/forum:", key="run_talk", type="primary"):
            st.switch_page("views/playground.py", query_params={"endpoint": name})


def _urgent(page: WorkPage) -> str:
    return "primary" if page.line.state in ("failed", "lost") else "secondary"


def subjects_of(page: WorkPage) -> list[str]:
    """What alerts may be about that concern this page."""
    own = [subject_of(page.line.kind, page.line.id)]
    return own + [subject_of("run", run.id) for run in page.line.runs]


def stepper(page: WorkPage) -> None:
    """The stages in a row: what is done, what is at work, how many are to come."""
    if not page.stages:
        return
    marks = {"made": ":green[:material/check_circle:]", "found": ":gray[:material/check_circle:]"}
    marks |= {"running": ":blue[:material/play_circle:]", "failed": ":red[:material/error:]"}
    ended = page.line.ended
    with st.container(horizontal=True, gap="small"):
        for note in page.stages:
            state = "failed" if note.state == "running" and ended else note.state
            st.markdown(f"{marks[state]} {plain(note.title)}", width="content")
        left = page.num_stages - len(page.stages)
        if left > 0 and not ended:
            st.markdown(f":gray[{t('run.to_come', n=left)}]", width="content")


def sweep_link(page: WorkPage) -> None:
    """The way to the trials, where it searches hyperparameters."""
    sweep = next((run.id for run in page.line.runs if run.stage == "tune"), None)
    if sweep and st.button(t("run.sweep"), icon=":material/tune:", key="run_sweep"):
        go("sweeps", sweep=sweep)


def figures(page: WorkPage) -> None:
    """Where it is, in four figures."""
    line = page.line
    course = course_of(site, line.training) if line.training else None
    shown = [Tile(t("run.took"), ago(t, line.seconds))]
    if course is not None:
        of = f" / {course.num_steps:,}" if course.num_steps else ""
        shown.append(Tile(t("run.step"), f"{course.step:,}{of}"))
        shown.append(Tile(t("run.loss"), number(course.loss)))
        shown.append(Tile(t("run.speed"), number(course.tokens_per_second)))
        if course.seconds_left and not line.ended:
            shown.append(Tile(t("run.left"), ago(t, course.seconds_left)))
    tiles(shown)
    if course is not None and course.share is not None and not line.ended:
        st.progress(course.share)


def failure(page: WorkPage) -> None:
    """Why it failed, and what may help."""
    if page.line.state not in ("failed", "lost"):
        return
    why, mend = failure_of(site, page)
    st.error(t("run.failed"), icon=":material/error:")
    st.code(why or t("run.no_reason"), language=None, wrap_lines=True)
    if mend:
        st.markdown(t(f"run.mend.{mend}"))


def curves(page: WorkPage) -> None:
    """The metrics of its training."""
    run = page.line.training
    if run is None:
        key = "run.no_training" if page.line.ended or page.line.kind == "run" else "run.not_yet"
        st.info(t(key), icon=":material/info:")
        return
    names = metric_names(site.workspace, run.id)
    if not names:
        st.info(t("run.no_points"), icon=":material/hourglass_top:")
        return
    wanted = curve_panel.controls(session, names, "run")
    marks = run_marks(site.workspace, run.id, wanted.view.axis)
    for name, curve in run_curves(site.workspace, run.id, wanted.names, wanted.view).items():
        curve_panel.picture(session, name, [Line(name, curve)], marks, wanted)
    if not wanted.names:
        st.caption(t("curves.choose"))


def logs(page: WorkPage) -> None:
    """The end of its output."""
    if page.job is None:
        st.info(t("run.no_log"), icon=":material/info:")
        return
    text = read_tail(site, page.job)
    lines = text.splitlines()[-LOG_LINES:]
    if not lines:
        st.info(t("run.log_empty"), icon=":material/hourglass_top:")
        return
    with st.container(height=480, autoscroll=not page.line.ended):
        st.code("\n".join(lines), language=None, wrap_lines=True)
    st.download_button(
        t("run.log_file"), lambda: text.encode(), f"{page.line.id}.log", "text/plain", type="tertiary"
    )
    command_line(command_on(site, "heliostat", "jobs", "logs", page.line.id, "--follow", cluster=True))


def stages(page: WorkPage) -> None:
    """What each stage made, and what happened when."""
    if page.stages:
        table(
            [
                {
                    t("run.stage"): note.title,
                    t("run.state"): t(f"run.stage.{note.state}"),
                    t("run.says"): note.says,
                    t("run.artifact"): note.artifact or "",
                    t("run.took"): ago(t, note.seconds),
                }
                for note in page.stages
            ],
            key="run_stages",
        )
    runs = [
        {
            t("run.run"): run.id,
            t("run.stage"): run.stage,
            t("run.state"): status_text(run.status),
            t("run.attempts"): run.attempts,
            t("run.why"): run.error or "",
        }
        for run in page.line.runs
    ]
    if runs:
        table(runs, key="run_runs")
    if page.events:
        st.subheader(t("run.events"), anchor=False)
        table(
            [{t("run.when"): moment(event.at, zone), t("run.what"): event.text} for event in page.events],
            key="run_events",
        )
    if not (page.stages or runs or page.events):
        st.info(t("run.not_yet"), icon=":material/hourglass_top:")


def config(page: WorkPage) -> None:
    """Its recipe, and what changed since its parent."""
    job = page.job
    if job is not None and job.recipe is not None:
        if job.parent:
            st.caption(t(f"run.{job.relation}_of"))
            if st.button(job.parent, key="run_parent", type="tertiary"):
                st.query_params["run"] = job.parent
                st.rerun()
            changes = recipe_difference(site, job)
            if changes:
                st.code(changes, language="diff")
            else:
                st.caption(t("run.same_recipe"))
        st.code(recipe_text(job), language="yaml")
        command_line(command_of(job))
    elif page.line.runs:
        st.json(page.line.runs[0].config, expanded=1)
    else:
        st.info(t("run.no_recipe"), icon=":material/info:")


def checkpoints(page: WorkPage) -> None:
    """The states it can go on from."""
    run = page.line.training
    found = checkpoints_of(site, run.id) if run is not None else ()
    if not found:
        st.info(t("run.no_checkpoints"), icon=":material/info:")
        return
    table(
        [
            {
                t("run.step"): each.step,
                t("run.when"): moment(each.at, zone) if each.at else "",
                t("run.name"): each.name,
            }
            for each in found
        ],
        key="run_checkpoints",
    )
    st.caption(t("run.goes_on"))


def samples(page: WorkPage) -> None:
    """What the model wrote while it was trained."""
    run_samples.samples(session, page.line.training.id if page.line.training else None)


def resources(page: WorkPage) -> None:
    """What it holds, and how well it uses it."""
    training = page.line.training.id if page.line.training else None
    run_resources.resources(session, page.line.id, training, page.line.ended)


def body(work_id: str) -> None:
    """All that changes while it runs."""
    page = open_work(site, work_id)
    alert_lines(session, subjects_of(page))
    stepper(page)
    sweep_link(page)
    figures(page)
    failure(page)
    parts = {"curves": curves, "logs": logs, "samples": samples, "stages": stages, "config": config}
    parts |= {"checkpoints": checkpoints, "resources": resources}
    part = section(parts, "run.part")
    with acting():
        parts[part](page)
    if page.line.ended and not ended_at_first:
        st.rerun()  # so that the buttons are those of a run that has ended


st.title(t("run.title"), anchor=False)
asked = str(st.query_params.get("run", ""))
health_banner(read_cluster(site.store))
opened = page_of(asked)
ended_at_first = opened is None or opened.line.ended
if opened is not None:
    every = None if ended_at_first else "2s"
    st.fragment(head, run_every=every)(asked)
    actions(opened)  # not drawn anew by itself: no button moves under a finger
    st.fragment(body, run_every=every)(asked)
