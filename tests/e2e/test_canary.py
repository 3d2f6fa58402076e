"""The share of a canary, moved with the slider: the endpoint's table says it, and requests go there."""

import re
from collections import Counter

import httpx
import pytest
from clicking import cells, confirm, keep_picture, open_at, press, table
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]
REQUESTS = 30


def test_moving_the_slider_moves_the_share_and_requests_go_to_both_versions(page: Page, answered, width):
    name = answered[width].endpoint
    share = 50 if width > 1000 else 40
    open_at(page, "/endpoints")
    press(page, "Open")
    expect(page).to_have_url(re.compile(f"endpoint={name}"))
    thumb = page.get_by_role("slider").first
    now = int(thumb.get_attribute("aria-valuenow") or 0)
    thumb.focus()
    for _ in range(abs(share - now)):
        page.keyboard.press("ArrowRight" if share > now else "ArrowLeft")
    expect(thumb).to_have_attribute("aria-valuenow", str(share))
    press(page, "Set share")
    confirm(page, "Set share", name)
    expect(table(page, "endpoint_versions").get_by_role("gridcell", name=f"{share}").first).to_be_attached(
        timeout=20_000
    )
    assert str(100 - share) in " ".join(cells(table(page, "endpoint_versions")))
    url = (
        page.get_by_test_id("stCode").filter(has_text=re.compile(r"^http\S+/v1$")).first.inner_text().strip()
    )
    asked = Counter(_version_that_answers(url, name, number) for number in range(REQUESTS))
    print(f"  {share} % for the canary: {dict(asked)}")
    assert len(asked) == 2
    keep_picture(page, "endpoint")


def _version_that_answers(url: str, name: str, number: int) -> str:
    body = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": f"Say {number}"}]}
    answer = httpx.post(f"{url}/chat/completions", json=body, timeout=60)
    answer.raise_for_status()
    return answer.headers["x-heliostat-version"]
