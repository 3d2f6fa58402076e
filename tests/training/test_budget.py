import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.errors import ConfigError
from heliostat.training.budget import steps_within


@given(
    num_sequences=st.integers(1, 1000),
    mean=st.integers(1, 4096),
    batch=st.integers(1, 64),
    steps=st.integers(1, 500),
)
def test_a_budget_pays_for_as_many_steps_as_it_holds_and_not_for_one_more(num_sequences, mean, batch, steps):
    tokens = steps * batch * mean
    found = steps_within(tokens, num_sequences * mean, num_sequences, batch)
    assert found == steps
    assert steps_within(tokens + batch * mean - 1, num_sequences * mean, num_sequences, batch) == steps


def test_a_budget_below_one_step_is_refused_with_the_least_that_is_enough():
    with pytest.raises(
        ConfigError, match=r"less than one step reads \(1000 tokens in 10 .* max_tokens: 1001"
    ):
        steps_within(999, 5000, 50, 10)
