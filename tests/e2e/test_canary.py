"""The share of a canary, moved with the slider: the endpoint's table says it, and requests go there."""

import re
from collections import Counter

import httpx
import pytest
from clicking import CELL, cells, confirm, keep_picture, open_at, press, table
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]
REQUESTS = 30


@pytest.fixture
def share(width) -> int:
    """Another one at each width, in percent."""
    return 60 if width > 1000 else 30


def test_moving_the_slider_moves_the_share_and_requests_go_to_both_versions(page: Page, answered, share):
    name = next(iter(answered.values())).endpoint
    open_at(page, "/endpoints")
    press(page, "Open")
    expect(page).to_have_url(re.compile(f"endpoint={name}"))
    move(page.get_by_role("slider").first, share)
    press(page, "Set share")
    confirm(page, "Set share", name)
    versions = table(page, "endpoint_versions")
    told = versions.locator(CELL).filter(has_text=re.compile(rf"^{share}(\.0)?( %)?$"))
    expect(told.first).to_be_attached()
    assert str(100 - share) in re.findall(r"\d+", " ".join(cells(versions)))
    url = page.get_by_test_id("stCode").filter(has_text=re.compile(r"^\s*http\S+/v1\s*$")).first
    asked = Counter(
        _version_that_answers(url.inner_text().strip(), name, number) for number in range(REQUESTS)
    )
    print(f"  {share} % for the canary: {dict(asked)}")
    assert len(asked) == 2
    keep_picture(page, "endpoint")


def move(slider: Locator, value: int) -> None:
    """With the arrow keys."""
    now = int(slider.input_value())
    for _ in range(abs(value - now)):
        slider.press("ArrowRight" if value > now else "ArrowLeft")
    expect(slider).to_have_value(str(value))


def _version_that_answers(url: str, name: str, number: int) -> str:
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": f"Say {number}"}]}
    answer = httpx.post(f"{url}/chat/completions", json=body, timeout=60)
    answer.raise_for_status()
    return answer.headers["x-heliostat-version"]
