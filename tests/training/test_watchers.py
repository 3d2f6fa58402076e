import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.training.watch_config import StallWatch, WatchConfig
from heliostat.training.watchers import StallClock, Watchers

STEPS = 600


def run_of(losses, norms, seconds=((1.0,),)) -> list[list[dict[str, float]]]:
    """The metrics that a run's ranks report, step by step."""
    seconds = list(seconds) * len(losses) if len(seconds) == 1 else seconds
    return [
        [
            {
                "step": float(step),
                "loss": float(loss),
                "gradient_norm": float(norm),
                "seconds_busy": float(own),
            }
            for own in ranks
        ]
        for step, (loss, norm, ranks) in enumerate(zip(losses, norms, seconds, strict=True), start=1)
    ]


def falling(rng, start=10.0, end=2.5, pace=60.0, noise=0.05) -> np.ndarray:
    """A loss that falls as a pre-training run's does, each batch harder or easier than the last."""
    steps = np.arange(STEPS)
    return (end + (start - end) * np.exp(-steps / pace)) * np.exp(noise * rng.normal(size=STEPS))


def norms(rng, level=1.0, noise=0.3) -> np.ndarray:
    return level * np.exp(noise * rng.normal(size=STEPS))


def findings(run, watchers=None) -> list[tuple[str, int]]:
    watchers = watchers or Watchers(WatchConfig())
    return [(finding.kind, finding.step) for ranks in run for finding in watchers.observe(ranks)]


def pretraining(rng):
    return falling(rng), norms(rng)


def small_noisy_batches(rng):
    return falling(rng, 3.0, 1.5, 200, noise=0.4), norms(rng, 2.0, 0.6)


def warm_up_with_large_gradients(rng):
    return falling(rng, 11, 4, 100), norms(rng) * np.r_[np.geomspace(60, 1, 15), np.ones(STEPS - 15)]


def lora_with_small_gradients_at_first(rng):
    return falling(rng, 2.1, 1.6, 300), norms(rng, 0.2) * np.r_[
        np.geomspace(1e-4, 1, 20), np.ones(STEPS - 20)
    ]


def tiny_model_that_learns_by_heart(rng):
    losses = 6 * np.exp(-np.arange(STEPS) / 50) * np.exp(0.3 * rng.normal(size=STEPS))
    return losses, 0.5 * losses * np.exp(0.3 * rng.normal(size=STEPS))


def constant_loss(rng):
    return np.full(STEPS, 0.6931), norms(rng, 0.5)


def preference_pairs(rng):
    return 0.69 - 0.4 * np.arange(STEPS) / STEPS + 0.1 * rng.normal(size=STEPS), norms(rng, 3.0, 0.5)


HEALTHY = (
    pretraining,
    small_noisy_batches,
    warm_up_with_large_gradients,
    lora_with_small_gradients_at_first,
    tiny_model_that_learns_by_heart,
    constant_loss,
    preference_pairs,
)


@pytest.mark.parametrize("curve", HEALTHY, ids=lambda curve: curve.__name__)
def test_a_healthy_run_is_left_alone(curve):
    for seed in range(8):
        assert findings(run_of(*curve(np.random.default_rng(seed)))) == []


@given(seed=st.integers(0, 10_000), noise=st.floats(0, 0.2), at=st.integers(100, STEPS - 1))
def test_a_loss_that_trebles_is_found_at_its_step_and_told_once(seed, noise, at):
    losses, gradient_norms = falling(np.random.default_rng(seed), pace=20, noise=noise), np.ones(STEPS)
    losses[at : at + 3] = 12 * losses[at]
    assert findings(run_of(losses, gradient_norms)) == [("loss_spike", at + 1)]


def test_a_loss_that_jumps_and_stays_is_told_once():
    losses = falling(np.random.default_rng(0), pace=20)
    losses[300:] += 3
    assert findings(run_of(losses, np.ones(STEPS))) == [("loss_spike", 301)]


@pytest.mark.parametrize(("level", "words"), [(1e-5, "little is learned"), (80.0, "clipped hard")])
def test_gradients_that_stay_out_of_range_are_told_once_with_the_way_out(level, words):
    gradient_norms = np.ones(STEPS)
    gradient_norms[200:] = level
    watchers = Watchers(WatchConfig())
    found = [f for ranks in run_of(np.full(STEPS, 2.0), gradient_norms) for f in watchers.observe(ranks)]
    assert [finding.kind for finding in found] == ["gradient_norm"]
    assert 200 < found[0].step < 212
    assert words in found[0].message
    assert "learning_rate" in found[0].message
    assert "\n" not in found[0].message


def test_parameters_that_get_no_gradient_at_all_are_noticed():
    assert findings(run_of(np.full(40, 2.0), np.zeros(40))) == [("gradient_norm", 30)]


def test_single_large_gradients_are_what_clipping_is_for():
    gradient_norms = np.ones(STEPS)
    gradient_norms[::9] = 500
    assert findings(run_of(np.full(STEPS, 2.0), gradient_norms)) == []


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
def test_a_rank_slower_than_the_others_is_named_once(num_ranks):
    rng = np.random.default_rng(0)
    seconds = np.exp(0.1 * rng.normal(size=(STEPS, num_ranks)))
    seconds[100:, 1] *= 2.0
    watchers = Watchers(WatchConfig())
    found = [
        f for ranks in run_of(np.full(STEPS, 2.0), np.ones(STEPS), seconds) for f in watchers.observe(ranks)
    ]
    assert [finding.kind for finding in found] == ["straggler"]
    assert 104 <= found[0].step <= 124
    assert found[0].message.startswith("worker 1 takes ")


@pytest.mark.parametrize("num_ranks", [1, 2, 8])
def test_ranks_that_are_slow_now_and_then_are_no_stragglers(num_ranks):
    rng = np.random.default_rng(1)
    seconds = np.exp(0.15 * rng.normal(size=(STEPS, num_ranks)))
    seconds[rng.random(seconds.shape) < 0.1] *= 5  # a checkpoint, a page cache, a longer batch
    assert findings(run_of(np.full(STEPS, 2.0), np.ones(STEPS), seconds)) == []


def test_ranks_may_come_and_go():
    seconds = [(1.0, 1.0)] * 30 + [(1.0,)] * 30 + [(1.0, 1.0, 1.0)] * 30
    assert findings(run_of(np.full(90, 2.0), np.ones(90), seconds)) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
def test_what_is_no_number_stops_the_run_whatever_the_config_says(name, value):
    quiet = {name: {"action": "off"} for name in ("loss_spike", "gradient_norm", "straggler", "stall")}
    watchers = Watchers(WatchConfig.model_validate(quiet))
    metrics = {"step": 7.0, "loss": 1.0, "gradient_norm": 1.0} | {name: value}
    (finding,) = watchers.observe([metrics])
    assert (finding.kind, finding.step, finding.severity) == ("not_finite", 7, "stop")
    assert f"{name} at step 7: {value}" in finding.message
    assert watchers.observe([metrics])[0].severity == "stop", "a run that is started again must stop again"


def test_steps_that_loss_scaling_leaves_out_are_no_fault_until_they_do_not_end():
    watchers = Watchers(WatchConfig())
    skipped = {"loss": 1.0, "gradient_norm": math.inf, "step_skipped": 1.0}
    found = [bool(watchers.observe([{"step": float(step), **skipped}])) for step in range(1, 53)]
    assert found == [False] * 50 + [True] * 2


def test_steps_that_a_resumed_run_repeats_are_not_told_again():
    losses = falling(np.random.default_rng(0), pace=20)
    losses[300] = 40
    run = run_of(losses, np.ones(STEPS))
    same_process = Watchers(WatchConfig())
    assert findings(run[:310] + run[290:], same_process) == [("loss_spike", 301)]
    started_again = Watchers(WatchConfig(), history=[ranks[0] for ranks in run[:310]])
    assert findings(run[290:], started_again) == []


def test_a_run_that_goes_on_still_knows_what_its_losses_were():
    losses = falling(np.random.default_rng(0), pace=20)
    losses[320] = 40
    run = run_of(losses, np.ones(STEPS))
    watchers = Watchers(WatchConfig(), history=[ranks[0] for ranks in run[:310]])
    assert findings(run[305:], watchers) == [("loss_spike", 321)]


@pytest.mark.parametrize(("action", "severity"), [("warn", ["warn"]), ("stop", ["stop"]), ("off", [])])
def test_a_recipe_says_what_a_finding_does(action, severity):
    watchers = Watchers(WatchConfig.model_validate({"loss_spike": {"action": action, "window": 10}}))
    run = run_of([1.0] * 20 + [9.0], np.ones(21))
    assert [f.severity for ranks in run for f in watchers.observe(ranks)] == severity


def test_a_range_the_wrong_way_round_is_refused():
    with pytest.raises(ValidationError, match="swap them"):
        WatchConfig.model_validate({"gradient_norm": {"least": 3, "most": 1}})


def test_a_run_that_stands_still_is_told_once_a_pause():
    clock = StallClock(StallWatch(at_least_seconds=10), now=0.0)
    now = 100.0
    for step in range(1, 20):
        now += 1.0
        clock.step_done(step, now)
        assert clock.check(now + 0.9) is None
    assert clock.limit_seconds() == 20
    assert clock.check(now + 19) is None
    finding = clock.check(now + 21)
    assert "no step for 21 s, after step 19" in finding.message
    assert clock.check(now + 50) is None
    clock.step_done(20, now + 60)
    assert clock.check(now + 61) is None
    assert clock.limit_seconds() == 20, "the pause itself is no measure of a step"
    assert clock.check(now + 90).step == 20


def test_loading_and_slow_checkpoints_are_no_stall():
    clock = StallClock(StallWatch(at_least_seconds=10, first_step_seconds=600), now=0.0)
    assert clock.check(500) is None
    now = 500.0
    for step in range(1, 50):
        now += 9.0 if step % 10 == 0 else 0.1  # every tenth saves
        clock.step_done(step, now)
        assert clock.check(now + 9.0) is None
    assert clock.limit_seconds() == pytest.approx(27)
    assert "before the first step" in StallClock(StallWatch(), 0.0).check(2000.0).message


def test_a_recipe_can_say_how_long_a_step_may_take():
    clock = StallClock(StallWatch(seconds=5, action="stop"), now=0.0)
    clock.step_done(1, 1.0)
    assert clock.check(5.9) is None
    assert clock.check(6.1).severity == "stop"
