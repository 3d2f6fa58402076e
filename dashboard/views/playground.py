"""The playground: talk to what serves, up to three side by side; ?endpoint=NAME,NAME keeps the choice."""

import streamlit as st
from dashboard import endpoint_reads
from dashboard.parts.conversation import Model, Said, Turn, new_turn, show_turn, shuffled
from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting, empty, shown
from dashboard.parts.table import table
from dashboard.session import Session, current

from heliostat.control.endpoint_state import curl_line
from heliostat.control.gateway_key import find_gateway_key
from heliostat.control.playground import MOST_SIDE_BY_SIDE, Sampling
from heliostat.control.preferences import count_votes, export_votes, folder_of
from heliostat.control.shown_commands import command_on

TURNS = "playground_turns"
ADAPTER_MARK = ":"


def models_of(session: Session) -> dict[str, Model]:
    """What can be asked: endpoints that serve, and their adapters, by the name that requests say."""
    found: dict[str, Model] = {}
    for state in shown(endpoint_reads.endpoints(session.site)) or ():
        if not state.live:
            continue
        artifacts = {version.label: version.artifact_id for version in state.versions}
        adapters = sorted({adapter for version in state.versions for adapter in version.adapters})
        for name in (state.model_id, *(f"{state.model_id}{ADAPTER_MARK}{each}" for each in adapters)):
            found[name] = Model(name, state.name, state.base_url, artifacts)
    return found


def chosen_models(session: Session, there: dict[str, Model]) -> list[Model]:
    """The models that are asked, kept in the address."""
    t = session.t
    asked = [name for name in st.query_params.get("endpoint", "").split(",") if name]
    for name in asked:
        if name not in there:
            st.warning(t("playground.unreachable", name=name.replace("[", "")), icon=":material/cloud_off:")
    known = [name for name in asked if name in there] or list(there)[:1]
    names = st.multiselect(
        t("playground.models"),
        list(there),
        default=known[:MOST_SIDE_BY_SIDE],
        max_selections=MOST_SIDE_BY_SIDE,
        placeholder=t("playground.choose"),
        help=f"{t('playground.models_help')} {t('playground.link')}",
        key="playground_models",
    )
    if names and names != asked:
        st.query_params["endpoint"] = ",".join(names)
    return [there[name] for name in names if name in there]


def settings(session: Session) -> tuple[str, Sampling]:
    """The system prompt and how tokens are chosen."""
    t = session.t
    usual = t("playground.usual")
    with st.popover(t("playground.settings"), icon=":material/tune:", width="stretch"):
        system = st.text_area(t("playground.system"), key="playground_system", height=100)
        temperature = st.number_input(
            t("playground.temperature"),
            0.0,
            2.0,
            value=None,
            step=0.1,
            placeholder=usual,
            help=t("playground.temperature_help"),
            key="playground_temperature",
        )
        top_p = st.number_input(
            t("playground.top_p"),
            0.01,
            1.0,
            value=None,
            step=0.05,
            placeholder=usual,
            key="playground_top_p",
        )
        max_tokens = st.number_input(
            t("playground.max_tokens"), 1, value=None, placeholder=usual, key="playground_max_tokens"
        )
        seed = st.number_input(
            t("playground.seed"),
            value=None,
            step=1,
            placeholder=usual,
            help=t("playground.seed_help"),
            key="playground_seed",
        )
        st.toggle(t("playground.blind"), key="playground_blind")
    sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    return system.strip(), sampling


def preferences(session: Session) -> None:
    """The votes that are kept: how many, who won, and what reads them."""
    t, place = session.t, session.site.workspace
    opened = st.expander(
        t("playground.votes"), icon=":material/thumbs_up_down:", on_change="rerun", key="playground_votes"
    )
    if not opened.open:
        return
    with opened, acting():
        votes = count_votes(place)
        if not votes.number:
            st.caption(t("playground.votes_none"))
            return
        st.text(t("playground.votes_number", n=votes.number))
        names = sorted({*votes.wins, *votes.losses})
        rows = [
            {
                t("playground.col.model"): name,
                t("playground.col.chosen"): votes.wins.get(name, 0),
                t("playground.col.rejected"): votes.losses.get(name, 0),
            }
            for name in names
        ]
        table(rows, key="preference_votes", ids=names, alt=t("playground.votes"))
        st.download_button(
            t("playground.votes_export"),
            lambda: export_votes(place),
            "preferences.jsonl",
            "application/jsonl",
            icon=":material/download:",
            key="preference_export",
            on_click="ignore",
        )
        st.caption(t("playground.votes_how"))
        st.code(f"data:\n  sources: [{{kind: jsonl, path: {folder_of(place)}}}]", language="yaml")
        command_line(command_on(session.site, "heliostat", "data", "inspect", folder_of(place)))


def conversation(session: Session, models: list[Model], asked: tuple[str, Sampling]) -> None:
    """The turns so far, and the next one."""
    t = session.t
    turns: list[Turn] = st.session_state.setdefault(TURNS, [])
    prompt = st.chat_input(
        t("playground.say"), key="playground_prompt", disabled=not models, submit_mode="disable"
    )
    for place in range(len(turns)):
        show_turn(session, turns, place, asked[0])
    if prompt and models:
        blind = len(models) > 1 and bool(st.session_state.get("playground_blind"))
        turn = Turn(prompt, [Said(model) for model in shuffled(models, blind)], blind)
        key = None
        with acting():
            key = find_gateway_key(session.site.workspace)
        new_turn(session, turns, turn, asked, key)
        st.rerun()


session = current()
t = session.t
with st.container(horizontal=True, vertical_alignment="center"):
    st.title(t("playground.title"), width="stretch")
    if st.button(t("playground.new"), icon=":material/add_comment:", key="playground_new"):
        st.session_state.pop(TURNS, None)
there = models_of(session)
if there:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        chosen = chosen_models(session, there)
    with right:
        asked = settings(session)
    conversation(session, chosen, asked)
    preferences(session)
    if chosen:
        lines = [curl_line(each.base_url, each.name, False) for each in chosen]
        command_line("\n".join(lines), label=t("playground.as_command"), key="chosen")
else:
    empty(
        t("playground.none"),
        t("playground.deploy"),
        lambda: st.switch_page("views/endpoints.py", query_params={"deploy": "1"}),
    )
    preferences(session)
