"""New run: choose a recipe, change a few things, see what it needs, start it."""

from pathlib import Path
from typing import Any

import streamlit as st
from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting, health_banner
from dashboard.parts.text import plain
from dashboard.session import current

from heliostat.control.checks import Check
from heliostat.control.collector import read_cluster
from heliostat.control.jobs import Origin, submit_text
from heliostat.control.preflight import preflight
from heliostat.control.presets import (
    Preset,
    changed,
    overrides_of,
    preset_of,
    preset_of_job,
    preset_of_text,
    presets,
)
from heliostat.control.submissions import Submission
from heliostat.errors import ConfigError, HeliostatError

MARKS = {
    "ok": ":green[:material/check_circle:]",
    "warning": ":orange[:material/warning:]",
    "refused": ":red[:material/error:]",
    "skipped": ":gray[:material/remove:]",
}
CHECKED_SECONDS = 30.0
"""So long the answer to the same question holds."""

session = current()
t = session.t
site = session.site


def chosen() -> tuple[Preset, str | None]:
    """The recipe to begin with, and the job that it is a clone of, by the page's address."""
    clone = str(st.query_params.get("clone", ""))
    if clone:
        st.caption(t("new_run.clone_of"))
        st.code(clone, language=None)
        return preset_of_job(site, clone), clone
    known = {preset.key: preset for preset in presets()}
    uploaded = st.session_state.get("new_run_uploaded")
    options = [*known, *([uploaded.key] if uploaded else [])]
    asked = str(st.query_params.get("preset", ""))
    if asked and asked not in options:
        preset_of(asked)  # says which there are
    key = st.selectbox(
        t("new_run.preset"),
        options,
        index=options.index(asked) if asked in options else 0,
        key="preset",
        bind="query-params",
    )
    with st.popover(t("new_run.bring"), icon=":material/upload_file:"):
        file = st.file_uploader(
            t("new_run.file"), type=["yaml", "yml"], key="new_run_file", max_upload_size=1
        )
        if file is not None and st.button(t("new_run.take"), key="new_run_take"):
            with acting():
                mine = preset_of_text(Path(file.name).stem, file.getvalue().decode(errors="replace"))
                st.session_state["new_run_uploaded"] = mine
                st.rerun()
    return (uploaded if uploaded and key == uploaded.key else known[str(key)]), None


def fields(preset: Preset) -> dict[str, Any]:
    """The keys most people change, each as what it is."""
    given: dict[str, Any] = {}
    with st.grid(min_column_width=220):
        for key, value in preset.fields.items():
            name = f"new_run_{preset.key}_{key}"
            help_text = key
            label = t(f"new_run.field.{key.replace('.', '_')}")
            if isinstance(value, bool):
                given[key] = st.toggle(label, value, key=name, help=help_text)
            elif isinstance(value, int):
                given[key] = int(st.number_input(label, value=value, step=1, key=name, help=help_text))
            elif isinstance(value, float):
                given[key] = float(
                    st.number_input(label, value=value, key=name, help=help_text, format="%g", step=value / 2)
                )
            else:
                given[key] = st.text_input(label, value, key=name, help=help_text)
    return given


@st.cache_data(ttl=CHECKED_SECONDS, show_spinner=False, max_entries=64)
def checked(text: str, overrides: tuple[str, ...], workspace: str, address: str | None) -> list[Check]:
    """The checks of a recipe, here and against the cluster."""
    recipe = changed(preset_of_text("recipe", text), overrides)
    return list(preflight(recipe, workspace=workspace, address=address).checks)


@st.fragment(parallel=True)
def checks(preset: Preset, overrides: tuple[str, ...]) -> None:
    """What was checked, the refusals first. Drawn beside the page, which does not wait for it."""
    with st.spinner(t("new_run.checking")):
        try:
            found = checked(preset.text, overrides, str(site.workspace.storage.root), site.address)
        except HeliostatError as error:
            st.error(plain(error), icon=":material/block:")
            return
    order = ("refused", "warning", "ok", "skipped")
    for check in sorted(found, key=lambda each: order.index(each.status)):
        st.markdown(f"{MARKS[check.status]} **{plain(check.name)}** {plain(check.says)}")
        if check.mend:
            st.caption(f"→ {plain(check.mend)}")


def problem(preset: Preset, overrides: tuple[str, ...]) -> str:
    """What is wrong with the recipe itself; this takes no time."""
    try:
        changed(preset, overrides)
    except ConfigError as error:
        return str(error)
    return ""


def words(preset: Preset, overrides: tuple[str, ...], clone: str | None) -> list[str]:
    """The command that does the same."""
    if clone:
        return ["heliostat", "jobs", "clone", clone, *overrides]
    address = ["--address", site.address] if site.address else []
    return ["heliostat", "submit", f"jobs/recipes/{preset.key}.yaml", *overrides, *address]


def start(preset: Preset, overrides: tuple[str, ...], clone: str | None) -> None:
    """Hand it in, and go to its page."""
    origin = Origin(clone, "clone") if clone else None
    with acting():
        job = submit_text(site, session.actor, preset.key, preset.text, Submission(Path(), overrides), origin)
        st.switch_page("views/run.py", query_params={"run": job.id})


st.title(t("app.page.new_run"))
health_banner(read_cluster(site.store))
with acting():
    begun, of = chosen()
    if begun.about and not of:
        st.text(begun.about)
    left, right = st.columns([3, 2], gap="large")
    with left:
        values = fields(begun)
        extra = st.text_area(
            t("new_run.more"), key="new_run_more", placeholder="train.warmup_ratio=0.1", height=90
        )
        changes = overrides_of(begun, values, extra)
        wrong = problem(begun, changes)
        may = session.actor.may("operator")
        if wrong:
            st.error(t("new_run.wrong"), icon=":material/block:")
            st.code(wrong, language=None, wrap_lines=True)
        if not may:
            st.info(t("new_run.viewer"), icon=":material/lock:")
        pressed = st.button(
            t("new_run.start"),
            type="primary",
            icon=":material/play_arrow:",
            key="new_run_start",
            disabled=bool(wrong) or not may,
        )
        command_line(*words(begun, changes, of))
        if st.toggle(t("new_run.show_yaml"), key="new_run_yaml"):
            shown = (
                begun.text if wrong else Preset("", "", changed(begun, changes).model_dump(mode="json")).text
            )
            st.code(shown, language="yaml")
            st.download_button(t("new_run.save"), shown.encode(), f"{begun.key}.yaml", "application/yaml")
    with right:
        st.subheader(t("new_run.checks"), anchor=False)
        if not wrong:
            checks(begun, changes)
    if pressed:
        start(begun, changes, of)
