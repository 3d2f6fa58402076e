"""From a run to an endpoint to an answer."""

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]


def test_from_a_run_to_an_answer_in_three_clicks(answered, width):
    assert answered[width].clicks == 3
