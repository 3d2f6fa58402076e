"""What the server says in a page's place when its script failed."""

import re

import pytest
from dashboard.index_page import SOON, STATIC, index_html
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


@pytest.mark.parametrize("part", SOON)
def test_the_page_names_the_parts_that_pages_draw_with_once(part):
    named = re.findall(rf'href="\./static/js/({part}\.[^"]+)"', index_html())
    assert len(named) == 1
    assert (STATIC / "static" / "js" / named[0]).is_file()
