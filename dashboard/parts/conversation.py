"""A conversation in the playground: turns, answers as they come, a vote. Model output is only ever text."""

import contextlib
import random
import time
from dataclasses import dataclass, field

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.parts.endpoint_view import seconds
from dashboard.parts.states import acting
from dashboard.parts.text import number, plain
from dashboard.session import Session
from heliostat.control.gateway_key import GatewayKey
from heliostat.control.playground import Answer, Asked, Sampling, SideBySide, Speed
from heliostat.control.preferences import ROLE, Candidate, vote

DRAWN_SECONDS = 0.08
"""Text is drawn so often at most: a browser does not keep up with every token."""
LETTERS = "ABC"


@dataclass(frozen=True)
class Model:
    """One that can be asked: `name` as requests say it."""

    name: str
    endpoint: str
    base_url: str
    artifacts: dict[str, str] = field(default_factory=dict)
    """Of the endpoint's versions, by label."""


@dataclass
class Said:
    """One model's answer, whole or not."""

    model: Model
    text: str = ""
    speed: Speed = field(default_factory=Speed)
    error: str = ""
    stopped: bool = False


@dataclass
class Turn:
    """What was asked, and the answers; `chosen` is the place of the one that was voted for."""

    prompt: str
    answers: list[Said]
    blind: bool = False
    chosen: int | None = None

    @property
    def goes_on_with(self) -> str:
        """The answer that the next turn follows."""
        whole = [self.answers[self.chosen]] if self.chosen is not None else self.answers
        return next((each.text for each in whole if each.text), "")


def messages_before(turns: list[Turn], system: str) -> list[dict[str, str]]:
    """The conversation so far as OpenAI's messages; a turn that nobody answered is left out."""
    messages = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        if turn.goes_on_with:
            messages += [
                {"role": "user", "content": turn.prompt},
                {"role": "assistant", "content": turn.goes_on_with},
            ]
    return messages


def show_turn(session: Session, turns: list[Turn], place: int, system: str) -> None:
    """A turn that is over. Of several answers one can be voted for."""
    turn = turns[place]
    with st.chat_message("user"):
        st.text(turn.prompt)
    for number_, (spot, said) in enumerate(zip(_spots(turn), turn.answers, strict=True)):
        with spot:
            _name_above(session, turn, said)
            _body(session, said)
            if len(turn.answers) > 1:
                _vote(session, turns, (place, number_), system)
    if len(turn.answers) > 1 and place == len(turns) - 1:
        may = session.actor.may(ROLE)
        st.caption(session.t("playground.goes_on" if may else "playground.vote_viewer"))


def new_turn(
    session: Session,
    turns: list[Turn],
    turn: Turn,
    asked: tuple[str, Sampling],
    key: GatewayKey | None,
) -> None:
    """Ask, draw the answers as they come, and keep what came, however it ends. `asked` is the system prompt
    and the sampling; a button ends the answers early."""
    system, sampling = asked
    messages = [*messages_before(turns, system), {"role": "user", "content": turn.prompt}]
    answers = [
        Answer(
            Asked(base_url=said.model.base_url, model=said.model.name, messages=messages, sampling=sampling),
            key,
        )
        for said in turn.answers
    ]
    turns.append(turn)
    with st.chat_message("user"):
        st.text(turn.prompt)
    spots = _spots(turn)
    bodies: list[DeltaGenerator] = []
    for spot, said in zip(spots, turn.answers, strict=True):
        with spot:
            _name_above(session, turn, said)
            bodies.append(st.empty())
    stop = st.empty()
    stop.button(session.t("playground.stop"), icon=":material/stop_circle:", key="playground_stop")
    with contextlib.ExitStack() as finally_:
        for said, answer in zip(turn.answers, answers, strict=True):
            finally_.callback(_keep, said, answer)
        _stream(session, answers, turn.answers, bodies)


def _stream(session: Session, answers: list[Answer], kept: list[Said], bodies: list[DeltaGenerator]) -> None:
    """Draw what comes until all have ended. Streamlit ends this script at one of the calls that draw, when
    somebody presses a button: the block then ends the requests."""
    drawn = time.monotonic()
    with SideBySide(answers) as side:
        for body in bodies:
            body.text(session.t("playground.waiting"))
        for piece in side.pieces():
            if piece and piece.ended:
                kept[piece.place].error = piece.error
                with bodies[piece.place].container():
                    kept[piece.place].text = answers[piece.place].text
                    kept[piece.place].speed = answers[piece.place].speed
                    _body(session, kept[piece.place])
            elif piece is None or time.monotonic() - drawn >= DRAWN_SECONDS:
                for body, answer in zip(bodies, answers, strict=True):
                    if not answer.over:
                        body.text(answer.text or session.t("playground.waiting"))
                drawn = time.monotonic()


def _keep(said: Said, answer: Answer) -> None:
    said.text, said.speed, said.stopped = answer.text, answer.speed, not answer.over


def _spots(turn: Turn) -> list[DeltaGenerator]:
    """Where the answers go: beside each other, below each other on a phone."""
    if len(turn.answers) == 1:
        return [st.chat_message("assistant")]
    return [column.container(border=True) for column in st.columns(len(turn.answers))]


def _name_above(session: Session, turn: Turn, said: Said) -> None:
    if len(turn.answers) == 1:
        return
    hidden = turn.blind and turn.chosen is None
    name = LETTERS[turn.answers.index(said)] if hidden else said.model.name
    st.markdown(f"**{plain(name)}**")


def _body(session: Session, said: Said) -> None:
    t = session.t
    if said.text:
        st.text(said.text)
    if said.error:
        st.error(plain(said.error), icon=":material/error:")
    facts = []
    speed = said.speed
    if speed.first_token_seconds is not None:
        first = seconds(speed.first_token_seconds)
        facts.append(
            t(
                "playground.speed",
                first=first,
                tokens=number(speed.completion_tokens),
                rate=number(speed.tokens_per_second, 3),
            )
            if speed.tokens_per_second
            else t("playground.speed_first", first=first)
        )
    if said.stopped:
        facts.append(t("playground.stopped"))
    elif speed.finish_reason == "length":
        facts.append(t("playground.length"))
    if speed.version:
        facts.append(t("playground.version", version=speed.version))
    if facts:
        st.caption(plain(" · ".join(facts)))


def _vote(session: Session, turns: list[Turn], where: tuple[int, int], system: str) -> None:
    """The button below an answer, until one was chosen. `where` are the turn's place and the answer's."""
    t, (place, number_) = session.t, where
    turn = turns[place]
    if turn.chosen == number_:
        st.badge(t("playground.voted"), icon=":material/check:", color="green")
    elif turn.chosen is None and sum(map(_is_whole, turn.answers)) > 1 and _is_whole(turn.answers[number_]):
        st.button(
            t("playground.best"),
            icon=":material/thumb_up:",
            key=f"playground_vote_{place}_{number_}",
            disabled=not session.actor.may(ROLE),
            on_click=_choose,
            args=(session, turns, where, system),
        )


def _choose(session: Session, turns: list[Turn], where: tuple[int, int], system: str) -> None:
    place, chosen = where
    turn = turns[place]
    messages = [*messages_before(turns[:place], system), {"role": "user", "content": turn.prompt}]
    others = [each for number_, each in enumerate(turn.answers) if number_ != chosen and _is_whole(each)]
    with acting(session.t("playground.vote_kept")):
        vote(
            session.actor,
            session.site.workspace,
            messages,
            _candidate(turn.answers[chosen]),
            [_candidate(each) for each in others],
        )
        turn.chosen = chosen


def _is_whole(said: Said) -> bool:
    return bool(said.text) and not said.stopped and not said.error


def _candidate(said: Said) -> Candidate:
    version = said.speed.version
    artifact = said.model.artifacts.get(version, "")
    return Candidate(text=said.text, endpoint=said.model.name, version=version, artifact_id=artifact)


def shuffled(models: list[Model], blind: bool) -> list[Model]:
    """The order in which answers are shown: where names are hidden, places must not tell them."""
    return random.sample(models, len(models)) if blind else models
