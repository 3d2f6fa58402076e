"""A dataset's documents a page at a time, with what became of each and what it repeats."""

import streamlit as st

from dashboard.parts.links import choice, kept
from dashboard.parts.states import unavailable
from dashboard.parts.text import number, plain
from dashboard.session import current
from dashboard.studies import document_of, documents_of
from heliostat.control.datasets import DatasetDetail
from heliostat.control.documents import DocumentFilter, ShownDocument, Turn
from heliostat.control.readings import Unavailable

STATES = ("dropped", "kept", "changed")
PAGE = 10
TEXT_HEIGHT = 260
LONG = 900


def documents(root: str, detail: DatasetDetail) -> None:
    """The browser: filters above, then a page of documents."""
    t = current().t
    wanted = _filter(detail)
    place = st.session_state.get("page", 1)
    reading = documents_of(root, detail.dataset.id, wanted, int(place), PAGE)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    page = reading.value
    if not page.total:
        st.info(t("data.none_found"), icon=":material/search_off:")
        return
    first = (page.number - 1) * PAGE + 1
    last = first + len(page.documents) - 1
    st.caption(t("data.shown", first=f"{first:,}", last=f"{last:,}", total=f"{page.total:,}"))
    for document in page.documents:
        _document(root, detail.dataset.id, document)
    if page.pages > 1:
        st.pagination(page.pages, key="page")


def _filter(detail: DatasetDetail) -> DocumentFilter:
    t = current().t
    state = st.segmented_control(
        t("data.state"),
        STATES,
        default=None if "state" in st.session_state or "state" in st.query_params else STATES[0],
        required=True,
        format_func=lambda name: t(f"data.state.{name}"),
        **kept("state", STATES, _to_first_page),
    )
    dropping = [step for step in detail.steps if step.dropped]
    step = reason = split = None
    score: tuple[float | None, float | None] = (None, None)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if state == "dropped":
            step = choice(t("data.step"), [each.name for each in dropping], "step", _to_first_page)
            reasons = {r: None for each in dropping if step in (None, each.name) for r in each.dropped}
            reason = choice(t("data.reason"), reasons, "reason", _to_first_page)
        else:
            split = choice(t("data.split"), detail.dataset.splits, "split", _to_first_page)
        uid = st.text_input(t("data.uid_part"), **kept("uid", (), _to_first_page))
    if state == "dropped":
        with st.expander(t("data.by_score"), icon=":material/filter_alt:"):
            st.caption(t("data.score_note"))
            with st.container(horizontal=True):
                low = st.number_input(t("data.score_from"), value=None, key="low", on_change=_to_first_page)
                high = st.number_input(t("data.score_to"), value=None, key="high", on_change=_to_first_page)
            score = (low, high)
    if state == "changed":
        st.caption(t("data.changed_note"))
    return DocumentFilter(state or "dropped", split, step, reason, score, uid or "")


def _to_first_page() -> None:
    st.session_state.pop("page", None)


def _document(root: str, dataset_id: str, document: ShownDocument) -> None:
    t = current().t
    with st.container(border=True, key=f"document_{_key(document.uid)}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            if document.reason:
                st.badge(plain(document.reason), color="red", icon=":material/close:")
                st.badge(plain(document.step or ""), color="gray")
            else:
                st.badge(plain(document.split or ""), color="green", icon=":material/check:")
            if document.score is not None:
                st.badge(f"{t('data.score')} {number(document.score)}", color="gray")
            language = document.metadata.get("language")
            if isinstance(language, dict) and "language" in language:
                st.badge(plain(language["language"]), color="blue")
        st.caption(plain(f"{document.uid} · {document.source}:{document.row}"))
        if document.detail:
            st.text(document.detail)
        for change in document.changes:
            st.text(f"✎ {change}")
        if document.kept_uid and st.toggle(t("data.beside"), key=f"beside_{_key(document.uid)}"):
            with st.grid(min_column_width=320):
                with st.container():
                    _twin(root, dataset_id, document.kept_uid)
                with st.container():
                    st.markdown(f"**{t('data.dropped')}**")
                    _turns(document.turns)
            return
        _turns(document.turns)
        if document.rejected:
            st.markdown(f"**{t('data.rejected')}**")
            _turns(document.rejected)


def _twin(root: str, dataset_id: str, uid: str) -> None:
    t = current().t
    reading = document_of(root, dataset_id, uid)
    st.markdown(f"**{t('data.kept')}**")
    if isinstance(reading, Unavailable) or reading.value is None:
        st.caption(t("data.no_twin", uid=plain(uid)))
        return
    st.caption(plain(uid))
    _turns(reading.value.turns)


def _turns(turns: tuple[Turn, ...]) -> None:
    t = current().t
    long = sum(len(turn.text) for turn in turns) > LONG
    with st.container(height=TEXT_HEIGHT if long else "content", border=False):
        for turn in turns:
            if turn.role:
                st.caption(plain(turn.role))
            st.text(turn.text)
            if turn.cut:
                st.caption(t("data.cut"))


def _key(uid: str) -> str:
    return "".join(each if each.isalnum() else "_" for each in uid)
