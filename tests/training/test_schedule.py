import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.errors import ConfigError
from heliostat.training.config import TrainConfig
from heliostat.training.layout import deepspeed_config
from heliostat.training.schedule import Rates, batch_positions, num_steps, rates_at, share_of


@given(num_sequences=st.integers(1, 50), batch=st.integers(1, 12), seed=st.integers(0, 5))
def test_one_epoch_reads_every_sequence_at_least_once_and_none_twice_more(num_sequences, batch, seed):
    config = TrainConfig(micro_batch_size=batch)
    steps = num_steps(config, num_sequences)
    read = [p for step in range(steps) for p in batch_positions(step, num_sequences, batch, seed)]
    assert sorted(read[:num_sequences]) == list(range(num_sequences))
    counts = Counter(read).values()
    assert max(counts) - min(counts) <= 1


def test_the_order_of_sequences_does_not_depend_on_how_the_batch_is_cut():
    assert batch_positions(3, 17, 4, seed=1) == batch_positions(3, 17, 4, seed=1)
    whole = [p for step in range(4) for p in batch_positions(step, 17, 4, seed=1)]
    assert whole == [p for step in range(2) for p in batch_positions(step, 17, 8, seed=1)]


def test_learning_rate_rises_linearly_and_falls_to_a_tenth_of_the_peak():
    config = TrainConfig(learning_rate=1.0, warmup_ratio=0.1, min_learning_rate_ratio=0.1)
    rates = [rates_at(step, config, 100).learning_rate for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)
    assert all(earlier >= later for earlier, later in itertools.pairwise(rates[10:]))


def test_a_run_of_one_step_has_a_learning_rate():
    config = TrainConfig(learning_rate=0.5, warmup_ratio=0.1)
    assert rates_at(0, config, 1).learning_rate == pytest.approx(0.5)


def test_a_change_holds_behind_its_step_and_what_it_does_not_name_stays():
    changes = [{"after_step": 3, "learning_rate": 0.2}, {"after_step": 6, "weight_decay": 0.0}]
    flat = {"learning_rate": 0.1, "weight_decay": 0.5, "warmup_ratio": 0, "min_learning_rate_ratio": 1}
    config = TrainConfig(**flat, changes=changes)
    found = [rates_at(step, config, 8) for step in range(8)]
    assert found == [Rates(0.1, 0.5)] * 3 + [Rates(0.2, 0.5)] * 3 + [Rates(0.2, 0.0)] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{"after_step": 3}], "nothing is changed after step 3"),
        ([{"after_step": 9, "learning_rate": 0.1}], "nothing is left of 9 steps after step 9"),
        ([{"after_step": 3, "learning_rate": 0.1}] * 2, r"after_step \[3, 3\] must grow"),
    ],
)
def test_changes_that_say_nothing_or_contradict_each_other_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        TrainConfig(changes=changes, max_steps=9)


def test_a_run_without_changes_is_what_it_was_before_there_were_any():
    assert "changes" not in TrainConfig().canonical()


def test_two_lengths_are_refused(tmp_path):
    recipe = tmp_path / "train.yaml"
    recipe.write_text("max_steps: 10\nnum_epochs: 1\n")
    with pytest.raises(ConfigError, match="max_steps and num_epochs both set the length"):
        TrainConfig.load(recipe)


def test_global_batch_is_workers_times_micro_batch_times_accumulation():
    config = TrainConfig(num_workers=4, micro_batch_size=3, gradient_accumulation_steps=2)
    assert config.sequences_per_step == 24
    settings = deepspeed_config(config)
    assert settings["train_micro_batch_size_per_gpu"] == 3
    assert settings["gradient_accumulation_steps"] == 2


def test_where_and_how_often_state_is_saved_is_no_part_of_the_fingerprint():
    plain = TrainConfig()
    assert plain.fingerprint() == TrainConfig(checkpoint={"every_steps": 7}).fingerprint()
    assert plain.fingerprint() != TrainConfig(learning_rate=1e-3).fingerprint()


@given(
    batch=st.integers(1, 40),
    micro=st.integers(1, 5),
    workers=st.integers(1, 6),
)
def test_replicas_share_a_global_batch_without_loss_and_have_equally_many_micro_batches(
    batch, micro, workers
):
    config = TrainConfig(global_batch_size=batch * micro, micro_batch_size=micro, num_workers=1)
    positions = list(range(batch * micro))
    shares = [share_of(positions, config, replica, workers) for replica in range(workers)]
    assert {len(share) for share in shares} == {config.micro_batches(workers)}
    assert [p for share in shares for micro_batch in share for p in micro_batch] == positions
