"""Deploying a model: which one, under which name, with how many replicas; beside it the command."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import streamlit as st

from dashboard import endpoint_reads
from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting
from dashboard.parts.text import size
from dashboard.session import Session
from heliostat.control.deploying import (
    Deployment,
    check_deployment,
    deploy,
    deploy_command,
    model_of_run,
    servable_models,
)
from heliostat.control.endpoint_actions import ROLE
from heliostat.control.readings import latest
from heliostat.errors import HeliostatError
from heliostat.records import Artifact

KEY_LENGTH = 12
CANARY_WEIGHT = 10
ENGINES = ("auto", "openvino", "transformers")


def asked_for() -> bool:
    """Whether the address asks for the dialog: ?deploy, with ?model=ID or ?run=ID for what. Once."""
    if "deploy" not in st.query_params:
        return False
    del st.query_params["deploy"]
    return True


def deploy_button(session: Session, made: Sequence[str]) -> None:
    """A button where one of these artifacts can be served; the last of them is what is deployed."""
    if not made:
        return
    try:
        there = {artifact.id: artifact for artifact in servable_models(session.site.workspace)}
    except HeliostatError:  # the page says elsewhere that the workspace is away
        return
    servable = [there[artifact_id] for artifact_id in made if artifact_id in there]
    if servable and st.button(
        session.t("endpoints.deploy_go"), icon=":material/rocket_launch:", key="deploy"
    ):
        deploy_dialog(session, served_names(session), servable[-1].uri)


def served_names(session: Session) -> tuple[str, ...]:
    """The names that are served now."""
    known = latest(endpoint_reads.endpoints(session.site))
    return tuple(each.name for each in known.value if each.live) if known else ()


def deploy_dialog(session: Session, served: tuple[str, ...], model: str = "") -> None:
    """Open it. `served` are the names that are served now; `model` is chosen at first, else the address's."""
    t = session.t
    first = model

    @st.dialog(t("endpoints.deploy_title"), width="medium")
    def ask() -> None:
        models = servable_models(session.site.workspace)
        wanted = first or _prefilled(session, models)
        if not models and not wanted:
            st.info(t("endpoints.deploy_no_models"), icon=":material/deployed_code:")
            return
        model, name = _which(session, models, wanted)
        deployment = _settings(session, model, name, served)
        _go(session, deployment)

    ask()


def _which(session: Session, models: list[Artifact], wanted: str) -> tuple[str, str]:
    """The chosen model as a recipe names it, and a name for it."""
    t = session.t
    known = {each.uri: each for each in models}

    def label(uri: str) -> str:
        artifact = known.get(uri)
        if artifact is None:
            return uri
        made = f"{artifact.created_at:%Y-%m-%d %H:%M}"
        return " · ".join((_name_of(uri), artifact.kind, size(artifact.bytes), made))

    choices = [*known, *([wanted] if wanted and wanted not in known else [])]
    chosen = st.selectbox(
        t("endpoints.deploy_model"),
        choices,
        index=choices.index(wanted) if wanted else 0,
        format_func=label,
        accept_new_options=True,
        help=t("endpoints.deploy_model_help"),
        key="deploy_model",
    )
    model = str(chosen or "")
    return model, _name_of(model)


def _prefilled(session: Session, models: list[Artifact]) -> str:
    """The model that the address names: by its artifact's id, as a version, or as what a run made."""
    run, named = st.query_params.get("run"), st.query_params.get("model")
    if run:
        with acting():
            return model_of_run(session.site.workspace, run).uri
    return next((each.uri for each in models if each.id == named), named or "")


def _name_of(model: str) -> str:
    """A name for the API: the folder's without its key, or the version's model."""
    last = PurePosixPath(model.partition("@")[0]).name
    return re.sub(rf"-[0-9a-f]{{{KEY_LENGTH}}}$", "", last)


def _settings(session: Session, model: str, name: str, served: tuple[str, ...]) -> Deployment:
    t = session.t
    chosen = st.text_input(t("endpoints.deploy_name"), name, max_chars=64, key=f"deploy_name_{model}").strip()
    weight = 100
    if chosen in served:
        weight = st.slider(
            t("endpoints.deploy_weight"),
            0,
            100,
            CANARY_WEIGHT,
            format="%d %%",
            help=t("endpoints.deploy_weight_help"),
            key="deploy_weight",
        )
    with st.grid(min_column_width=140):
        fewest = st.number_input(
            t("endpoints.fewest"), 0, 1000, 1, help=t("endpoints.rest_help"), key="deploy_fewest"
        )
        most = st.number_input(t("endpoints.most"), 1, 1000, 1, key="deploy_most")
    with st.expander(t("endpoints.deploy_advanced")), st.grid(min_column_width=140):
        engine = st.selectbox(
            t("endpoints.deploy_engine"),
            ENGINES,
            help=t("endpoints.deploy_engine_help"),
            key="deploy_engine",
        )
        num_cpus = st.number_input(
            t("endpoints.deploy_cpus"), 0.0, value=None, placeholder="1", key="deploy_cpus"
        )
        num_gpus = st.number_input(
            t("endpoints.deploy_gpus"), 0.0, value=None, placeholder="0", key="deploy_gpus"
        )
        port = st.number_input(
            t("endpoints.deploy_port"), 0, 65535, value=None, placeholder="8000", key="deploy_port"
        )
    return Deployment(
        model=model,
        name=chosen or None,
        engine=engine or "auto",
        fewest_replicas=int(fewest),
        most_replicas=max(int(fewest), int(most)),
        weight=weight,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        port=port,
    )


def _go(session: Session, deployment: Deployment) -> None:
    t, site = session.t, session.site
    sound = False
    with acting():
        check_deployment(deployment)
        sound = True
    may = session.actor.may(ROLE)
    if not site.address:
        st.info(t("endpoints.deploy_no_cluster"), icon=":material/terminal:")
        st.code(deploy_command(site, deployment), language="bash", wrap_lines=True)
        return
    command_line(deploy_command(site, deployment), key="deploy")
    if not may:
        st.caption(t("endpoints.viewer"))
    if st.button(t("endpoints.deploy_go"), type="primary", key="deploy_go", disabled=not (sound and may)):
        job = ""
        with acting(), st.spinner(t("endpoints.deploy_go")):
            job = deploy(session.actor, site, deployment).said
        if job:
            endpoint_reads.look_anew()
            st.session_state["parts_done"] = t("endpoints.deploy_done", job=job)
            st.switch_page("views/run.py", query_params={"run": job})
