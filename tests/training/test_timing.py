import time

import pytest

from heliostat.training.timing import PARTS, StepTimer, timed_collectives


def test_the_parts_of_a_step_add_up_to_the_step():
    timer = StepTimer()
    started = time.perf_counter()
    timer.begin("data")
    time.sleep(0.02)
    timer.begin("forward")
    time.sleep(0.03)
    timer.begin("backward")
    time.sleep(0.01)
    with timer.communication():
        time.sleep(0.04)
        with timer.communication():
            time.sleep(0.01)
    time.sleep(0.01)
    timer.begin("optimizer")
    found = timer.finish()
    whole = time.perf_counter() - started
    assert set(found) == {f"seconds_{part}" for part in PARTS} | {"seconds_busy"}
    parts = [found[f"seconds_{part}"] for part in PARTS]
    assert 0.12 <= sum(parts) <= whole
    least = {"data": 0.02, "forward": 0.03, "backward": 0.02, "communication": 0.05, "optimizer": 0}
    assert all(found[f"seconds_{part}"] >= seconds for part, seconds in least.items())
    assert found["seconds_busy"] == pytest.approx(sum(parts) - found["seconds_communication"])


def test_parts_of_several_micro_batches_are_summed_and_steps_start_afresh():
    timer = StepTimer()
    for _ in range(3):
        timer.begin("data")
        timer.begin("backward")
        time.sleep(0.01)
    assert timer.finish()["seconds_backward"] >= 0.03
    assert timer.finish() == {}
    with timer.communication():
        pass
    assert timer.finish() == {}


def test_a_failure_while_others_are_awaited_leaves_the_part_that_was_interrupted():
    timer = StepTimer()
    timer.begin("optimizer")
    with pytest.raises(ConnectionError), timer.communication():
        raise ConnectionError
    time.sleep(0.01)
    found = timer.finish()
    assert found["seconds_optimizer"] >= 0.01


def test_timing_costs_less_than_a_hundredth_of_a_step_of_fifty_milliseconds():
    """Ten micro batches and fifty collectives."""
    timer = StepTimer()

    def seconds_of_a_step() -> float:
        started = time.perf_counter()
        for _ in range(10):
            for part in ("data", "forward", "backward", "optimizer"):
                timer.begin(part)
            for _ in range(5):
                with timer.communication():
                    pass
        timer.finish()
        return time.perf_counter() - started

    assert min(seconds_of_a_step() for _ in range(50)) < 0.01 * 0.05


@pytest.mark.heavy  # imports torch
def test_collectives_and_the_waits_for_them_are_communication(tmp_path):
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    original = dist.all_reduce
    timer, rounds = StepTimer(), []
    try:
        with timed_collectives(timer):
            numbers = torch.ones(5_000_000)
            for _ in range(5):
                timer.begin("backward")
                dist.all_reduce(numbers)
                work = dist.all_reduce(numbers, async_op=True)
                work.wait()
                assert work.is_completed()
                rounds.append(timer.finish())
        assert all(found["seconds_communication"] > 0 for found in rounds)
        assert any(found["seconds_communication"] > found["seconds_backward"] for found in rounds)
        assert dist.all_reduce is original
    finally:
        dist.destroy_process_group()


@pytest.mark.heavy  # imports torch
def test_forward_begins_when_the_model_is_called():
    import torch

    timer, model = StepTimer(), torch.nn.Linear(2, 2)
    timer.begin_forward_with(model)
    timer.begin("data")
    time.sleep(0.02)
    model(torch.ones(1, 2))
    time.sleep(0.02)  # the loss on what came out
    timer.begin("backward")
    model(torch.ones(1, 2))  # computed again for the gradients
    time.sleep(0.01)
    found = timer.finish()
    assert found["seconds_data"] >= 0.02
    assert found["seconds_forward"] >= 0.02
    assert found["seconds_backward"] >= 0.01
