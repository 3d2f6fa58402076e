"""Deploying what a run made: one button, one dialog, and then the job that does it."""

from collections.abc import Sequence

import streamlit as st

from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting
from dashboard.session import Session
from heliostat.control.deploying import Deployment, deploy, deploy_command, servable_models
from heliostat.errors import HeliostatError
from heliostat.records import Artifact


def deploy_button(session: Session, made: Sequence[str]) -> None:
    """A button where one of these artifacts can be served; the last of them is what is deployed."""
    t = session.t
    if not made:
        return
    try:
        there = {artifact.id: artifact for artifact in servable_models(session.site.workspace)}
    except HeliostatError:  # the page says elsewhere that the workspace is away
        return
    servable = [there[artifact_id] for artifact_id in made if artifact_id in there]
    if servable and st.button(t("deploy.button"), icon=":material/rocket_launch:", key="deploy"):
        _ask(session, servable[-1])


def _ask(session: Session, model: Artifact) -> None:
    t = session.t

    @st.dialog(t("deploy.title"))
    def ask() -> None:
        st.code(model.id, language=None)
        name = st.text_input(t("deploy.name"), value=_name_of(model), key="deploy_name", max_chars=60)
        replicas = st.number_input(t("deploy.replicas"), 1, 64, 1, key="deploy_replicas")
        with acting():
            wanted = Deployment(
                model=model.uri, name=name, fewest_replicas=int(replicas), most_replicas=int(replicas)
            )
            command_line(deploy_command(session.site, wanted))
            if st.button(t("deploy.do"), type="primary", key="deploy_do"):
                done = deploy(session.actor, session.site, wanted)
                st.switch_page("views/run.py", query_params={"run": done.said})

    ask()


def _name_of(model: Artifact) -> str:
    """A name for the endpoint: the artifact's folder without its key."""
    return model.uri.rstrip("/").rpartition("/")[2].rpartition("-")[0] or "model"
