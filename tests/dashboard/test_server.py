"""What the server says in a page's place when its script failed, and what it sends with a page."""

import re

import pytest
from dashboard.index_page import SCRIPTS, SOON, SOON_FOR_ONE, index_html, script_names
from dashboard.kept_scripts import KeptScripts
from dashboard.pages import PAGES
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest


def refused() -> None:
    from dashboard.server import show_fault

    from heliostat.errors import ConfigError

    show_fault(ConfigError("no run '![x](https://evil.example/x.png) **bold** :red[red]'"))


def test_what_a_person_wrote_is_shown_as_it_is_where_a_page_refuses_it():
    shown = AppTest.from_function(refused).run().error[0].value
    for mark in ("![", "](", "**", ":red["):
        assert mark not in shown
    assert "evil" in shown


def named_in(page: str) -> list[str]:
    return re.findall(r'href="\./static/js/([^"]+\.js)"', page)


@pytest.mark.parametrize("for_one", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_the_parts_that_it_draws_with_once(name, for_one):
    named = named_in(index_html(name, for_one))
    assert len(named) == len(set(named))
    assert all((SCRIPTS / each).is_file() for each in named)
    for part in SOON_FOR_ONE.get(name, SOON[name]) if for_one else SOON[name]:
        assert [each for each in named if each.startswith(f"{part}.")]


def test_a_page_names_no_part_that_it_does_not_draw_with():
    assert not [each for each in named_in(index_html("home")) if each.startswith(("ECharts", "DataFrame"))]


async def elsewhere(scope, receive, send):
    await PlainTextResponse("from elsewhere")(scope, receive, send)


@pytest.fixture
def scripts() -> TestClient:
    return TestClient(KeptScripts(elsewhere))


def test_scripts_that_pages_open_with_are_those_of_streamlit_and_kept_by_the_browser(scripts):
    for name in named_in(index_html("runs")):
        answer = scripts.get(f"/static/js/{name}")
        assert answer.content == (SCRIPTS / name).read_bytes()
        assert answer.headers["cache-control"] == "public, immutable, max-age=31536000"
        assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br", True),
        ("br, gzip;q=0.5", True),
        ("gzip; q=0.0, identity", False),
        ("identity", False),
        ("br", False),
        ("", False),
    ],
)
def test_scripts_are_packed_for_who_takes_them_so(scripts, accepted, packed):
    name = max(script_names(), key=lambda each: (SCRIPTS / each).stat().st_size)
    answer = scripts.get(f"/static/js/{name}", headers={"Accept-Encoding": accepted})
    assert answer.content == (SCRIPTS / name).read_bytes()
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (answer.headers.get("content-encoding") == "gzip") is packed
    assert (int(answer.headers["content-length"]) * 3 < len(answer.content)) is packed


@pytest.mark.parametrize(
    "path", ["/static/js/", "/static/js/none.js", "/static/js/../index.html", "/static/css/index.css", "/"]
)
def test_all_else_is_streamlits_to_answer(scripts, path):
    assert (scripts.get(path)).text == "from elsewhere"


def test_nobody_sends_to_a_script(scripts):
    (name, *_) = script_names()
    assert (scripts.post(f"/static/js/{name}")).text == "from elsewhere"
