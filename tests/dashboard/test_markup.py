"""Documents and held requests full of markup: shown to the letter, and never as anything but text."""

from collections.abc import Iterator
from typing import Any

import pytest
from dashboard.parts.text import plain
from pages import HOSTILE, ROOT
from streamlit.testing.v1 import AppTest
from tests.data.in_process import in_order, write_jsonl

from heliostat.data.artifacts import fill_dataset
from heliostat.data.config import DataConfig
from heliostat.data.tasks import StepModels
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.storage import Storage, publish, staging
from heliostat.workspace import key_of

pytestmark = pytest.mark.heavy
MARKUP = (
    "<script>", "<img", "<iframe", "<svg", "](javascript", "](http://evil", ":red[", "**bold**",
    ":material/delete", "$x^2$", "# Heading", "| a | b |",
)  # fmt: skip
EVIL = (
    f"{HOSTILE} <img src=x onerror=alert(1)> <svg onload=alert(1)> <iframe src=x></iframe>\n"
    "# Heading\n\n![picture](http://evil.example/x.png) :material/delete: | a | b |\n|---|---|\n"
    "[link](http://evil.example) &lt;script&gt; `code` ~~gone~~ </div></body></html>"
)
SHOWN_TO_THE_LETTER = {"text", "code", "arrow_data_frame", "dataframe", "text_area", "text_input", "json"}
"""Kinds of elements that take a text for nothing else; all others may read markdown in a label."""


def elements(block: Any) -> Iterator[Any]:
    """Everything on a page, whatever it stands in, the things it stands in too."""
    for child in getattr(block, "children", {}).values():
        yield child
        yield from elements(child)


def taken_for_markup(page: AppTest) -> list[str]:
    """The elements other than plain text in which something that we did not write is markup."""
    found = []
    for element in elements(page._tree):
        proto = getattr(element, "proto", None)
        if proto is None or element.type in SHOWN_TO_THE_LETTER:
            continue
        content = proto.SerializeToString().decode(errors="replace")
        found += [f"{element.type}: {mark} in {content}" for mark in MARKUP if mark in content]
    return found


def open_page(view: str, **query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "dashboard" / "views" / f"{view}.py"), default_timeout=60)
    page.session_state["language"] = "en"
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception, page.exception[0].message
    return page


@pytest.fixture
def hostile_dataset(workspace, tmp_path, monkeypatch) -> str:
    """Documents kept, dropped, changed, and nearly repeated: all hostile, as is the folder of their file."""
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", workspace.storage.root)
    folder = tmp_path / "<script>alert(1) **bold** :red[red]"
    folder.mkdir()
    long = " ".join(f"word{number}" for number in range(80))
    texts = [f"{EVIL} number {n}" for n in range(3)]
    texts += ["<script> **bold**", f"{EVIL} of someone@example.org", f"{long} {EVIL}", f"{long} {EVIL} other"]
    config = DataConfig.model_validate(
        {
            "name": "hostile",
            "sources": [
                {
                    "kind": "jsonl",
                    "path": str(write_jsonl(folder / "rows.jsonl", [{"text": t} for t in texts])),
                }
            ],
            "steps": [
                {"kind": "near_dedup", "min_similarity": 0.9},
                {"kind": "pii"},
                {"kind": "length", "min_words": 5},
            ],
        }
    )
    key = key_of(config.fingerprint())
    with staging(workspace.storage, workspace.path("dataset", "hostile", key)) as publication:
        scratch = Storage.at(tmp_path / "scratch")
        publication.facts |= fill_dataset(config, StepModels(), publication.folder, scratch, in_order)
        return publish(publication, "dataset", key, config.canonical()).id


@pytest.mark.parametrize("state", ["kept", "dropped", "changed"])
def test_a_document_full_of_markup_is_shown_to_the_letter(hostile_dataset, state):
    page = open_page("data", dataset=hostile_dataset, tab="documents", state=state)
    shown = [each.value for each in page.text]
    assert any("<script>" in text and "**bold**" in text for text in shown), shown
    if state == "kept":
        assert any(EVIL in text for text in shown)
    assert taken_for_markup(page) == []


def test_documents_beside_each_other_are_no_markup_either(hostile_dataset):
    page = open_page(
        "data", dataset=hostile_dataset, tab="documents", state="dropped", reason="near_duplicate"
    )
    (beside,) = page.toggle
    beside.set_value(True).run()
    assert not page.exception
    assert len([each for each in page.text if EVIL in each.value]) == 2
    assert taken_for_markup(page) == []


@pytest.mark.parametrize("tab", ["overview", "lengths", "duplicates", "tokens", "config"])
def test_no_part_of_a_datasets_page_takes_documents_for_markup(hostile_dataset, tab):
    assert taken_for_markup(open_page("data", dataset=hostile_dataset, tab=tab)) == []


def test_a_held_request_full_of_markup_is_shown_to_the_letter(workspace, monkeypatch):
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", workspace.storage.root)
    item = ReviewQueue(workspace.storage).ask(HOSTILE, HOSTILE, [EVIL, EVIL], [HOSTILE])
    assert taken_for_markup(open_page("review")) == []
    page = open_page("review", review=item.id)
    assert [each.value for each in page.code if each.value == EVIL] == [EVIL, EVIL]
    assert taken_for_markup(page) == []
    page.text_input(key=f"review_reason_{item.id}").set_value(EVIL).run()
    page.button(key="review_reject").click().run()
    assert taken_for_markup(page) == []
    ReviewQueue(workspace.storage).reject(item.id, HOSTILE, EVIL)
    page = open_page("review", review=item.id)
    assert any(each.value == EVIL for each in page.text)
    assert taken_for_markup(page) == []


def test_the_search_would_find_markup():
    def page():
        import streamlit as st

        st.caption("a **bold** name")
        with st.expander(":red[red]"):
            st.button("[x](javascript:alert(1))")

    assert len(taken_for_markup(AppTest.from_function(page).run())) == 3


def test_the_example_is_hostile():
    assert all(mark in EVIL for mark in MARKUP)


@pytest.mark.parametrize(
    "text", ["http://evil.example", "HTTPS://evil.example/x", "www.evil.example", "a@evil.example"]
)
def test_what_looks_like_an_address_is_parted_so_that_nothing_makes_a_link_of_it(text):
    shown = plain(f"see {text} there").replace("\\", "")
    assert text not in shown
    assert shown.replace("\u2060", "") == f"see {text} there"
