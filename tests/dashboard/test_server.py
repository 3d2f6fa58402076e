"""What the server says in a page's place when its script failed."""

import re

import pytest
from dashboard.index_page import SOON, SOON_FOR_ONE, STATIC, index_html
from dashboard.pages import PAGES
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
    assert all((STATIC / "static" / "js" / each).is_file() for each in named)
    for part in SOON_FOR_ONE.get(name, SOON[name]) if for_one else SOON[name]:
        assert [each for each in named if each.startswith(f"{part}.")]


def test_a_page_names_no_part_that_it_does_not_draw_with():
    assert not [each for each in named_in(index_html("home")) if each.startswith(("ECharts", "DataFrame"))]
