"""Texts, patterns and reviews that look for somebody to hang or to run them."""

import time

import pytest
from tests.serving.deployed import gateway_of

from heliostat.serving.access.patterns import like
from heliostat.serving.guard.config import GuardConfig
from heliostat.serving.guard.guard import Guard
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.storage import Storage

HOSTILE = {
    "nested repeats": "a" * 200_000 + "!",
    "spaces": " " * 300_000 + "x",
    "dots": "." * 300_000 + "@",
    "addresses": "a@" * 150_000,
    "half an address": "a." * 150_000 + "@",
    "digits": "1" * 300_000,
    "digits apart": "1-" * 150_000,
    "cards": "4111 1111 1111 111 " * 15_000,
    "keys": "-----BEGIN RSA PRIVATE KEY-----" * 10_000,
    "ignore all the of": "ignore " + "all the of these " * 18_000,
    "escapes": "\\u0061" * 50_000,
    "percent": "%" * 300_000,
    "packed": "QUFB" * 75_000,
    "letters apart": "i g n o r e " * 25_000,
    "marks": "e" + "\u0301" * 300_000,
    "wide": "ｉ" * 100_000,
    "colons": ":" * 300_000,
    "hexadecimal": "0x" * 150_000,
    "IBAN": "DE89 3704 0044 0532 0130 0 " * 11_000,
    "phones": "+49 30 " * 40_000,
}


@pytest.mark.heavy
@pytest.mark.parametrize("what", HOSTILE)
def test_no_text_makes_the_default_rules_hang(what):
    guard = Guard.build(GuardConfig())
    text = HOSTILE[what]
    began = time.process_time()
    guard.review_input([text])
    review = guard.output()
    shown = [review.push(text[at : at + 4000]) for at in range(0, len(text), 4000)] + [review.flush()]
    assert time.process_time() - began < 8
    assert len("".join(shown)) <= len(text) + 100_000


@pytest.mark.parametrize(
    "pattern", ["*a" * 60 + "*b", "*" * 200, "?*" * 90 + "b", "[a-z]*" * 30 + "!", "*a?" * 50]
)
def test_no_name_makes_a_pattern_of_names_hang(pattern):
    began = time.process_time()
    for name in ("a" * 256, "ab" * 128, "a" * 255 + "b", ""):
        like(name, pattern)
    assert time.process_time() - began < 1


def test_what_waits_for_review_is_data_and_nothing_else(tmp_path, prose):
    """Shown as JSON, never as a page; nothing in it names a file."""
    text = (
        "<script>alert(1)</script>\x1b[2J\u202e'; DROP TABLE reviews; --\n{{ 7*7 }} ${jndi:ldap://x} ../../x"
    )
    queue = ReviewQueue(Storage(str(tmp_path)))
    item = queue.ask("../../tenant", "../model", [text, "\ud800"], ["r"])
    with (
        gateway_of(tmp_path, prose, reviews=queue) as gateway,
        gateway.client(gateway.key(routes=("admin",))) as client,
    ):
        response = client.get("/admin/reviews")
        assert response.headers["content-type"] == "application/json"
        assert response.json()["reviews"][0]["texts"][0] == text
        assert b"\x1b" not in response.content
        decided = client.post(f"/admin/reviews/{item.id}/reject", json={"reason": text})
        assert decided.json()["reason"] == text
    assert [path.name for path in (tmp_path / "review").iterdir()] == [f"{item.id}.json"]
