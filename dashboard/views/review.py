"""The review queue: what the guard holds, shown as plain text, and the decision about it; ?review=ID."""

from datetime import UTC, datetime
from functools import partial

import streamlit as st
from dashboard.parts.links import kept
from dashboard.parts.pieces import command_line, confirm
from dashboard.parts.states import acting, empty, shown
from dashboard.parts.table import table
from dashboard.parts.text import moment
from dashboard.session import Session, current, time_zone

from heliostat.control import review
from heliostat.control.review import ReviewItem
from heliostat.control.shown_commands import command_on

STATUSES = ("pending", "approved", "rejected", "every")
SHOWN_CHARACTERS = 120
SHORT = 12
WANTED = "review_wanted"
"""What a button asks to show: a widget's own value can be set in front of it only."""


def queue(session: Session) -> None:
    """The table, and the way to one request."""
    t, place = session.t, session.site.workspace
    st.caption(t("review.intro"))
    if WANTED in st.session_state:
        st.session_state["review_status"] = st.session_state.pop(WANTED)
    address = kept("review_status", STATUSES)
    status = st.segmented_control(
        t("review.status"),
        STATUSES,
        default=None if "review_status" in st.session_state else "pending",
        format_func=lambda each: t(f"review.{each}"),
        **address,
    )
    wanted = None if status in (None, "every") else status
    items = shown(review.read_reviews(place, wanted))
    if items is None:
        return
    if items:
        st.caption(t("review.choose"))
        (chosen, *_) = [
            *table(
                [_row(session, item) for item in items],
                key="reviews",
                ids=[item.id for item in items],
                choose="one",
                alt=t("review.title"),
            ),
            "",
        ]
        if chosen:
            st.query_params["review"] = chosen
            st.rerun()
    elif wanted == "pending":
        empty(t("review.none_pending"), t("review.show_all"), lambda: _show("every"))
    else:
        empty(t("review.none"), t("review.show_pending"), lambda: _show("pending"))
    command_line(command_on(session.site, "heliostat", "review", "list"))


def _show(status: str) -> None:
    st.session_state[WANTED] = status
    st.rerun()


def _row(session: Session, item: ReviewItem) -> dict[str, object]:
    t = session.t
    text = " ".join(" ".join(item.texts).split())
    return {
        t("review.col.text"): text[:SHOWN_CHARACTERS] + ("…" if len(text) > SHOWN_CHARACTERS else ""),
        t("review.col.status"): t(f"review.{item.status}"),
        t("review.col.asked"): _when(item.created),
        t("review.col.tenant"): item.tenant,
        t("review.col.model"): item.model,
        t("review.col.rules"): ", ".join(item.rules),
        t("review.col.by"): item.by or "",
        t("review.col.id"): item.id[:SHORT],
    }


def one(session: Session, item_id: str) -> None:
    """One request in full, and the decision."""
    t, place = session.t, session.site.workspace
    if st.button(t("review.all"), icon=":material/arrow_back:", type="tertiary", key="review_back"):
        del st.query_params["review"]
        st.rerun()
    item = None
    with acting():
        item = review.show_review(place, item_id)
    if item is None:
        return
    colour = {"pending": "orange", "approved": "green", "rejected": "red"}[item.status]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(t(f"review.{item.status}"), color=colour)
        st.text(item.id[:SHORT])
    st.text(t("review.asked_by", tenant=item.tenant, model=item.model, when=_when(item.created)))
    st.text(t("review.held_by", rules=", ".join(item.rules)))
    for number, text in enumerate(item.texts, 1):
        if len(item.texts) > 1:
            st.caption(t("review.text", n=number, total=len(item.texts)))
        st.code(text, language=None, wrap_lines=True)
    if item.status != "pending":
        when = _when(item.decided) if item.decided else ""
        st.text(t("review.decided", status=t(f"review.{item.status}"), by=item.by or "", when=when))
        if item.reason:
            st.text(item.reason)
        return
    decide(session, item)


def decide(session: Session, item: ReviewItem) -> None:
    """The two buttons, each behind a question."""
    t, place = session.t, session.site.workspace
    may = session.actor.may(review.ROLE)
    if not may:
        st.caption(t("review.viewer"))
    reason = st.text_input(
        t("review.reason"), help=t("review.reason_help"), key=f"review_reason_{item.id}", disabled=not may
    )
    with st.container(horizontal=True):
        approve = st.button(
            t("review.approve"),
            icon=":material/check:",
            type="primary",
            key="review_approve",
            disabled=not may,
        )
        reject = st.button(t("review.reject"), icon=":material/block:", key="review_reject", disabled=not may)
    for pressed, decision, act in ((approve, "approve", review.approve), (reject, "reject", review.reject)):
        if pressed:
            confirm(
                item.id[:SHORT],
                t(f"review.{decision}_question"),
                t(f"review.{decision}"),
                partial(act, session.actor, place, item.id, reason),
                done=t("review.done", id=item.id[:SHORT]),
                command=review.decision_command(place, decision, item.id, reason),
            )


def _when(seconds: float) -> str:
    return moment(datetime.fromtimestamp(seconds, UTC), time_zone())


session = current()
st.title(session.t("review.title"))
asked = st.query_params.get("review")
if asked:
    one(session, asked)
else:
    queue(session)
