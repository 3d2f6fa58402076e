"""New run: choose a recipe, change a few things, see what it needs, start it."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting, health_banner
from dashboard.parts.table import table
from dashboard.parts.text import number, plain, size
from dashboard.session import current

from heliostat.control.checks import Check
from heliostat.control.collector import read_cluster
from heliostat.control.drafts import (
    about_of,
    difference,
    edited,
    estimates,
    hinted,
    problems,
    settings_of,
    split_changes,
)
from heliostat.control.jobs import Origin, submit_text
from heliostat.control.preflight import preflight
from heliostat.control.presets import (
    FIRST,
    Preset,
    changed,
    overrides_of,
    preset_of,
    preset_of_job,
    preset_of_text,
    presets,
    whole_text,
)
from heliostat.control.shown_commands import command_on
from heliostat.control.submissions import Submission
from heliostat.errors import HeliostatError

MARKS = {
    "ok": ":green[:material/check_circle:]",
    "warning": ":orange[:material/warning:]",
    "refused": ":red[:material/error:]",
    "skipped": ":gray[:material/remove:]",
}
GOALS = (*FIRST, "distill_student", "prune_and_heal")
"""Presets that have a title in both languages."""
FOLDED = ("ok", "skipped")
"""Checks that nobody has to read, in this order."""
CHECKED_SECONDS = 30.0
"""So long the answer to the same question holds."""

session = current()
t = session.t
site = session.site


@dataclass
class Draft:
    """What the form began with, and what of it has been written into the page's address since."""

    of: str
    asked: tuple[str, ...]
    version: int
    written: list[tuple[str, ...]] = field(default_factory=list)


def chosen() -> tuple[Preset, str | None] | None:
    """The recipe to begin with and the job that it is a clone of, by the page's address; None: not yet."""
    clone = str(st.query_params.get("clone", ""))
    if clone:
        st.caption(t("new_run.clone_of"))
        st.code(clone, language=None)
        return preset_of_job(site, clone), clone
    if "recipe" in st.query_params:  # another page's word for it
        st.query_params["preset"] = st.query_params.pop("recipe")
    asked, uploaded = str(st.query_params.get("preset", "")), st.session_state.get("new_run_uploaded")
    if "upload" in st.query_params and uploaded:
        return uploaded, None
    if asked:
        with acting():
            return preset_of(asked), None
    cards()
    bring()
    return None


def cards() -> None:
    """What one can begin with."""
    with st.grid(min_column_width=280):
        for preset in presets():
            title = t(f"new_run.goal.{preset.key}") if preset.key in GOALS else preset.key
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{plain(title)}**")
                st.caption(plain(preset.about))
                kind = "primary" if preset.key == GOALS[0] else "secondary"
                if st.button(t("new_run.choose"), key=f"choose_{preset.key}", type=kind):
                    st.query_params["preset"] = preset.key
                    st.rerun()


def bring() -> None:
    """A recipe of one's own."""
    with st.expander(t("new_run.bring"), icon=":material/upload_file:"):
        file = st.file_uploader(
            t("new_run.file"), type=["yaml", "yml"], key="new_run_file", max_upload_size=1
        )
        if file is not None and st.button(t("new_run.take"), key="new_run_take"):
            with acting():
                mine = preset_of_text(Path(file.name).stem, file.getvalue().decode(errors="replace"))
                st.session_state["new_run_uploaded"] = mine
                st.query_params["upload"] = mine.key
                st.rerun()


def drafted(preset: Preset, of: str) -> Draft:
    """The form's beginning: the changes in the address, unless this page wrote them there itself."""
    here = tuple(st.query_params.get_all("set"))
    hints = hinted(preset, str(st.query_params.get("model", "")), str(st.query_params.get("dataset", "")))
    kept: Draft | None = st.session_state.get("new_run_draft")
    if kept is None or kept.of != of or hints or here not in kept.written:
        kept = Draft(of, (*hints, *here), (kept.version if kept else 0) + 1)
        st.session_state["new_run_draft"] = kept
    return kept


def keep(draft: Draft, overrides: tuple[str, ...]) -> None:
    """Write the changes into the address, so that a reload finds them. A browser that was quick may still
    send an older state: the last ones are known."""
    for hint in ("model", "dataset"):
        st.query_params.pop(hint, None)
    if overrides:
        st.query_params["set"] = list(overrides)
    else:
        st.query_params.pop("set", None)
    draft.written = [*draft.written[-20:], overrides]


def fields(preset: Preset, begin: dict[str, Any], version: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys most people change, each as what it is; and below each a place for what is wrong with it."""
    given: dict[str, Any] = {}
    places: dict[str, Any] = {}
    with st.grid(min_column_width=220):
        for key, usual in preset.fields.items():
            with st.container(gap="xxsmall"):
                given[key] = one_field(preset, key, usual, begin[key], f"new_run_{version}_{key}")
                places[key] = st.empty()
    return given, places


def one_field(preset: Preset, key: str, usual: Any, value: Any, name: str) -> Any:
    """One of them: `usual` is the recipe's value, `value` what the form begins with."""
    label = t(f"new_run.field.{key.replace('.', '_')}")
    about = about_of(key, preset.values)
    told = f"{plain(about)} ({plain(key)})" if about else plain(key)
    if isinstance(usual, bool):
        return st.toggle(label, value, key=name, help=told)
    if isinstance(usual, int):
        return int(st.number_input(label, value=value, step=1, key=name, help=told))
    if isinstance(usual, float):
        step = usual / 2 or 0.1
        return float(st.number_input(label, value=value, key=name, help=told, format="%g", step=step))
    return st.text_input(label, value, key=name, help=told)


def all_settings(preset: Preset, overrides: tuple[str, ...], more: str) -> None:
    """Every key with its value, to be changed in place; drawn only when asked for."""
    if not st.toggle(t("new_run.all"), key="new_run_all"):
        return
    known = settings_of(preset, overrides)
    rows = {
        t("new_run.key"): [each.key for each in known],
        t("new_run.value"): [each.value for each in known],
        t("new_run.about"): [each.about for each in known],
    }
    fixed = [t("new_run.key"), t("new_run.about")]
    name = f"new_run_settings_{zlib.crc32(repr(known).encode())}"
    after = st.data_editor(rows, disabled=fixed, hide_index=True, height=360, key=name)
    changes = edited(
        known,
        {key: str(value) for key, value in zip(after[fixed[0]], after[t("new_run.value")], strict=True)},
    )
    st.button(
        t("new_run.take_over", n=len(changes)),
        key="new_run_take_over",
        disabled=not changes,
        on_click=_add_lines,
        args=(more, changes),
    )


def _add_lines(more: str, changes: tuple[str, ...]) -> None:
    st.session_state[more] = "\n".join(filter(None, (st.session_state.get(more, ""), *changes)))


@st.cache_data(ttl=CHECKED_SECONDS, show_spinner=False, max_entries=64)
def checked(text: str, overrides: tuple[str, ...], workspace: str, address: str | None) -> list[Check]:
    """The checks of a recipe, here and against the cluster."""
    recipe = changed(preset_of_text("recipe", text), overrides)
    return list(preflight(recipe, workspace=workspace, address=address).checks)


@st.fragment(parallel=True)
def checks(preset: Preset, overrides: tuple[str, ...]) -> None:
    """What was checked, the refusals first. Drawn beside the page, which does not wait for it."""
    waiting = st.empty()  # no st.spinner: its timer raises where the page is left meanwhile
    waiting.caption(t("new_run.checking"))
    try:
        found = checked(preset.text, overrides, str(site.workspace.storage.root), site.address)
    except HeliostatError as error:
        waiting.error(plain(error), icon=":material/block:")
        return
    waiting.empty()
    for status in ("refused", "warning"):
        say_checks(check for check in found if check.status == status)
    others = sorted(
        (check for check in found if check.status in FOLDED), key=lambda each: FOLDED.index(each.status)
    )
    with st.expander(t("new_run.in_order", number=len(others)), icon=":material/check_circle:"):
        say_checks(others)
    with acting():
        what_it_takes(preset, overrides)


def say_checks(found: Iterable[Check]) -> None:
    """A line each, and how to mend it."""
    for check in found:
        st.markdown(f"{MARKS[check.status]} **{plain(check.name)}** {plain(check.says)}")
        if check.mend:
            st.caption(f"→ {plain(check.mend)}")


def what_it_takes(preset: Preset, overrides: tuple[str, ...]) -> None:
    """Steps, tokens, parameters and memory of each training run."""
    rows = [
        {
            t("new_run.run"): each.name,
            t("new_run.steps"): number(each.steps),
            t("new_run.tokens"): number(each.tokens),
            t("new_run.parameters"): number(each.parameters),
            t("new_run.workers"): each.num_workers,
            t("new_run.peak"): size(each.peak_bytes),
        }
        for each in estimates(changed(preset, overrides), site.workspace)
    ]
    if rows:
        st.subheader(t("new_run.takes"), anchor=False)
        table(rows, key="new_run_takes")


def say_problems(wrong: dict[str, str], places: dict[str, Any]) -> None:
    """What is wrong, below the field that it is about; the rest in one box."""
    if not wrong:
        return
    st.error(t("new_run.wrong"), icon=":material/block:")
    rest = []
    for key, line in wrong.items():
        if key in places:
            places[key].caption(f":red[{plain(line)}]")
        else:
            rest.append(f"{key}: {line}" if key else line)
    if rest:
        st.code("\n".join(rest), language=None, wrap_lines=True)


def command_of(preset: Preset, overrides: tuple[str, ...], clone: str | None) -> str:
    """The command that does the same."""
    if clone:
        return command_on(site, "heliostat", "jobs", "clone", clone, *overrides, cluster=True)
    folder = "" if "upload" in st.query_params else "jobs/recipes/"
    return command_on(site, "heliostat", "submit", f"{folder}{preset.key}.yaml", *overrides, cluster=True)


def start(preset: Preset, overrides: tuple[str, ...], clone: str | None) -> None:
    """Hand it in, and go to its page."""
    origin = Origin(clone, "clone") if clone else None
    with acting():
        job = submit_text(site, session.actor, preset.key, preset.text, Submission(Path(), overrides), origin)
        st.switch_page("views/run.py", query_params={"run": job.id})


def head(preset: Preset, clone: str | None) -> None:
    """What was chosen, and the way back."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(preset.about if preset.about and not clone else preset.key, width="stretch")
        if st.button(t("new_run.other"), key="new_run_other", type="tertiary", icon=":material/undo:"):
            st.query_params.clear()
            st.rerun()


def recipe(preset: Preset, overrides: tuple[str, ...]) -> None:
    """What was changed, and the whole recipe when asked for."""
    told = difference(preset, overrides)
    if told:
        st.code(told, language="diff")
    if st.toggle(t("new_run.show_yaml"), key="new_run_yaml"):
        shown = whole_text(preset, overrides)
        st.code(shown, language="yaml", height=420)
        st.download_button(t("new_run.save"), shown.encode(), f"{preset.key}.yaml", "application/yaml")


def form(preset: Preset, clone: str | None) -> None:
    """The fields on the left, what comes of them on the right, and the button."""
    head(preset, clone)
    draft = drafted(preset, clone or preset.key)
    begin, more = split_changes(preset, draft.asked)
    left, right = st.columns([3, 2], gap="large")
    with left:
        given, places = fields(preset, begin, draft.version)
        name = f"new_run_{draft.version}_more"
        extra = st.text_area(
            t("new_run.more"), more, key=name, placeholder="train.warmup_ratio=0.1", height=90
        )
        overrides = overrides_of(preset, given, extra)
        keep(draft, overrides)
        wrong = problems(preset, overrides)
        say_problems(wrong, places)
        may = session.actor.may("operator")
        if not may:
            st.info(t("new_run.viewer"), icon=":material/lock:")
        pressed = st.button(
            t("new_run.start"),
            type="primary",
            icon=":material/play_arrow:",
            key="new_run_start",
            disabled=bool(wrong) or not may,
        )
        command_line(command_of(preset, overrides, clone), key="new_run")
        if not wrong:
            all_settings(preset, overrides, name)
            recipe(preset, overrides)
    with right:
        st.subheader(t("new_run.checks"), anchor=False)
        if not wrong:
            checks(preset, overrides)
    if pressed:
        start(preset, overrides, clone)


st.title(t("app.page.new_run"))
health_banner(read_cluster(site.store))
with acting():
    opened = chosen()
    if opened is not None:
        form(*opened)
