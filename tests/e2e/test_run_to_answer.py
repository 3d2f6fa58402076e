"""A run that is stopped, tried again and deployed, and the answer of what was deployed; by clicks alone."""

import re

import pytest
from conftest import keep_picture, open_at, wait_for_cluster
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e
WAIT = 120_000


@pytest.fixture
def finished(desktop: Page) -> Page:
    """The page of a one-minute run that has ended well."""
    wait_for_cluster(desktop)
    start(desktop)
    expect(desktop.get_by_text("succeeded").first).to_be_visible(timeout=WAIT)
    return desktop


def start(page: Page, *more: str) -> None:
    open_at(page, "/new_run?preset=one_minute")
    if more:
        box = page.get_by_label("Further changes", exact=False)
        box.fill("\n".join(more))
        box.blur()
    button = page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_enabled()
    button.click()
    expect(page).to_have_url(re.compile(r"/run\?.*run=heliostat-one-minute"))


def test_from_a_run_to_an_answer_in_three_clicks(finished: Page):
    finished.get_by_role("button", name="Deploy", exact=True).click()
    dialog = finished.get_by_role("dialog")
    expect(dialog).to_be_visible()
    keep_picture(finished, "deploy")
    dialog.get_by_role("button", name="Deploy", exact=True).click()
    talk = finished.get_by_role("button", name="Open in playground")
    expect(talk).to_be_visible(timeout=WAIT)
    talk.click()
    expect(finished).to_have_url(re.compile("/playground"))
    box = finished.get_by_test_id("stChatInputTextArea").or_(finished.get_by_role("textbox")).last
    box.fill("What does str.lower do?")
    box.press("Enter")
    expect(finished.get_by_text(re.compile(r"tokens/s", re.IGNORECASE)).first).to_be_visible(timeout=WAIT)
    keep_picture(finished, "playground")


def test_a_run_is_stopped_and_goes_on_from_its_checkpoint(desktop: Page):
    wait_for_cluster(desktop)
    start(desktop, "train.max_steps=4000", "train.seed=5")
    expect(desktop.get_by_test_id("stMetric").filter(has_text="Loss")).to_be_visible(timeout=WAIT)
    desktop.get_by_role("button", name="Stop", exact=True).click()
    dialog = desktop.get_by_role("dialog")
    expect(dialog.get_by_text("one_minute", exact=False).first).to_be_visible()
    dialog.get_by_role("button", name="Stop", exact=True).click()
    expect(desktop.get_by_text("stopped").first).to_be_visible(timeout=WAIT)
    desktop.get_by_test_id("stApp").get_by_text("Checkpoints", exact=True).click()
    expect(desktop.get_by_text("Retry goes on from the latest.")).to_be_visible()
    keep_picture(desktop, "checkpoints")
    before = desktop.url
    desktop.get_by_role("button", name="Retry", exact=True).click()
    expect(desktop).not_to_have_url(before)
    expect(desktop.get_by_test_id("stMetric").filter(has_text="Loss")).to_be_visible(timeout=WAIT)
    desktop.get_by_role("button", name="Stop", exact=True).click()
    desktop.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
    expect(desktop.get_by_text("stopped").first).to_be_visible(timeout=WAIT)
