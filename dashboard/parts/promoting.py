"""Dialogs that move a model on: what the evaluation says comes first, the button last."""

import streamlit as st

from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting, unavailable
from dashboard.parts.table import table
from dashboard.parts.text import plain
from dashboard.session import current
from dashboard.studies import models_of, promotion_of
from heliostat.control.models import PromotionPreview, promote_version, register_model, role_for
from heliostat.control.readings import Unavailable
from heliostat.control.shown_commands import command_on
from heliostat.promotion import Gate
from heliostat.versions.names import ALIASES


def ask_to_promote(reference: str) -> None:
    """A dialog: to which alias, how the version compares with production, what will change."""
    session = current()
    t = session.t
    workspace = session.site.workspace

    @st.dialog(t("models.promote_title"), width="large")
    def ask() -> None:
        st.code(reference, language=None)
        to = st.segmented_control(
            t("models.to"),
            ALIASES,
            default="staging",
            required=True,
            format_func=lambda alias: t(f"models.alias.{alias}"),
            key="promote_to",
        )
        alias = to or "staging"
        reading = promotion_of(workspace.storage.root, reference, alias)
        if isinstance(reading, Unavailable):
            unavailable(reading)
            return
        _preview(reading.value)
        refused = reading.value.refusal
        skip = False
        gated = refused is not None and alias != "candidate" and alias not in reading.value.version.aliases
        if gated and session.actor.may("admin"):
            skip = st.checkbox(t("models.skip_gate"), key="promote_skip", help=t("models.skip_help"))
        words = ["heliostat", "models", "promote", reference, "--to", alias]
        command_line(command_on(session.site, *words, *(["--no-gate"] if skip else [])), key="promote")
        role = role_for(alias, skip)
        if not session.actor.may(role):
            st.caption(t("models.needs_role", role=t(f"app.role.{role}")))
        off = not session.actor.may(role) or (refused is not None and not skip)
        if st.button(t("models.promote"), key="promote_yes", type="primary", disabled=off):
            through = False
            with acting():
                promote_version(session.actor, workspace, reference, alias, Gate({}, skip=skip))
                through = True
            if through:
                for cached in (models_of, promotion_of):
                    cached.clear()
                st.session_state["parts_done"] = t("models.promoted", alias=t(f"models.alias.{alias}"))
                st.rerun()

    ask()


def _preview(preview: PromotionPreview) -> None:
    t = current().t
    if preview.comparisons and preview.production:
        worse = {(each.suite, each.metric) for each in preview.worse}
        rows = [
            {
                t("models.metric"): f"{each.suite}/{each.metric} {'↑' if each.higher_is_better else '↓'}",
                t("models.now", version=preview.production.version): each.value_a,
                t("models.then", version=preview.version.version): each.value_b,
                t("models.worse_by"): f"{each.worse_by:+.1%}",
                "p": each.p_value,
                t("models.verdict"): "✗" if (each.suite, each.metric) in worse else "✓",
            }
            for each in preview.comparisons
        ]
        table(rows, key="promotion", alt=t("models.promote_title"))
    elif preview.production is None and preview.to != "candidate":
        st.caption(t("models.first"))
    if preview.refusal:
        st.error(plain(preview.refusal), icon=":material/block:")
    elif preview.to != "candidate":
        st.success(t("models.gate_open"), icon=":material/check:")
    if preview.replaces:
        text = t("models.will_replace", version=plain(preview.replaces.reference))
        st.markdown(text)
    if preview.endpoints:
        st.warning(t("models.serving", names=plain(", ".join(preview.endpoints))), icon=":material/lan:")


def ask_to_register(artifact_id: str, name: str) -> None:
    """A dialog: under which name a model gets its next version."""
    session = current()
    t = session.t

    @st.dialog(t("models.register"))
    def ask() -> None:
        st.code(artifact_id, language=None)
        chosen = st.text_input(t("models.name"), value=name, key="register_name")
        st.caption(t("models.register_note"))
        words = ["heliostat", "models", "register", artifact_id, chosen, "--alias", "candidate"]
        command_line(command_on(session.site, *words), key="register")
        if st.button(t("models.register"), key="register_yes", type="primary", disabled=not chosen):
            made = None
            with acting():
                made = register_model(session.actor, session.site.workspace, artifact_id, chosen)
            if made is not None:
                models_of.clear()
                st.session_state["parts_done"] = t("models.registered_as", reference=made.reference)
                st.query_params["model"] = made.reference
                st.rerun()

    ask()
