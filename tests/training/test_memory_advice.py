import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.training.config import FullAdapter, TrainConfig
from heliostat.training.memory_advice import adapt, advise, explain, is_out_of_memory

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which "
    "1.20 GiB is free. Process 12 has 77.90 GiB memory in use."
)
RAY = (
    "Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.0.1) was 15.3GB / "
    "16.0GB (0.956), which exceeds the memory usage threshold of 0.95."
)
DIED = (
    "The actor died unexpectedly before finishing this task. Worker exit type: SYSTEM_ERROR Worker exit "
    "detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes "
    "include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop "
    "--force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."
)


@pytest.mark.parametrize(
    "text",
    [
        CUDA,
        RAY,
        f"torch.OutOfMemoryError: {CUDA}",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Cuda failure 2 'out of memory'\ntorch.OutOfMemoryError",
        "ray.exceptions.OutOfMemoryError: 2 worker(s) were killed due to the node running low on memory.",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3.7 TiB for an array with shape (9,)",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_an_error_that_says_memory_ran_out_is_recognised(text):
    assert is_out_of_memory(text)


@pytest.mark.parametrize(
    "text",
    [DIED, "RuntimeError: CUDA error: an illegal memory access was encountered", "memory is bliss", ""],
)
def test_other_errors_are_not_taken_for_it(text):
    assert not is_out_of_memory(text)


def test_a_killed_worker_counts_when_its_memory_was_nearly_full():
    assert is_out_of_memory(DIED, memory_share=0.97)
    assert is_out_of_memory("Worker exited with exit code 137", memory_share=0.97)
    assert not is_out_of_memory(DIED, memory_share=0.5)
    assert not is_out_of_memory("ValueError: no such column", memory_share=0.97)


@pytest.mark.heavy  # imports torch
def test_the_words_of_torch_and_python_are_recognised():
    """Their own, got by asking for more memory than there is."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); "
    for line in ("import torch; torch.ones(10**12)", "import numpy; numpy.ones(10**12)", "bytearray(10**13)"):
        done = subprocess.run([sys.executable, "-c", code + line], capture_output=True, text=True)
        assert is_out_of_memory(done.stderr.strip().splitlines()[-1]), done.stderr
    assert is_out_of_memory(MemoryError())


def changes(config):
    return [advice.change for advice in advise(config)]


def test_the_cheapest_change_comes_first():
    config = TrainConfig(adapter=FullAdapter(), num_workers=2, micro_batch_size=4, use_gpu=True)
    assert changes(config) == [
        {"micro_batch_size": 2, "gradient_accumulation_steps": 2},
        {"layout.activation_checkpointing": True},
        {"layout.zero.stage": 1, "layout.zero.offload_optimizer": True},
        {"layout.zero.stage": 1},
        {"layout.zero.stage": 2},
        {"layout.zero.stage": 3},
    ]


def test_a_layout_gets_only_what_it_allows():
    layout = {"pipeline_parallel": 2}
    config = TrainConfig(adapter=FullAdapter(), num_workers=4, use_gpu=True, layout=layout)
    assert {"layout.zero.stage": 1} in changes(config)
    assert not any("offload" in key or change[key] in (2, 3) for change in changes(config) for key in change)


def test_the_host_of_a_cpu_worker_is_no_place_to_move_to():
    config = TrainConfig(adapter=FullAdapter(), num_workers=2)
    assert not any("offload" in key for change in changes(config) for key in change)


def test_an_adapter_gains_only_from_splitting_the_weights():
    assert changes(TrainConfig(num_workers=2)) == [
        {"layout.activation_checkpointing": True},
        {"layout.zero.stage": 3},
    ]


def test_a_lone_worker_has_nobody_to_split_with():
    assert changes(TrainConfig(layout={"activation_checkpointing": True})) == []
    assert "more workers" in explain(
        TrainConfig(layout={"activation_checkpointing": True}), 0, CUDA, adapted=False
    )


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({"micro_batch_size": 8}, {"micro_batch_size": 4, "gradient_accumulation_steps": 2}),
        (
            {"micro_batch_size": 4, "gradient_accumulation_steps": 3},
            {"micro_batch_size": 2, "gradient_accumulation_steps": 6},
        ),
        ({"micro_batch_size": 4, "global_batch_size": 16}, {"micro_batch_size": 2}),
        (
            {"micro_batch_size": 4, "global_batch_size": 16, "gradient_accumulation_steps": 2},
            {"micro_batch_size": 2, "gradient_accumulation_steps": 4},
        ),
        ({"micro_batch_size": 3}, {"micro_batch_size": 1, "gradient_accumulation_steps": 3}),
        ({"micro_batch_size": 9}, {"micro_batch_size": 3, "gradient_accumulation_steps": 3}),
    ],
)
def test_a_smaller_micro_batch_is_said_as_the_recipe_says_its_batch(batch, expected):
    assert changes(TrainConfig(num_workers=2, **batch))[0] == expected


@given(
    micro=st.integers(1, 24),
    accumulation=st.none() | st.integers(1, 6),
    said=st.booleans(),
    workers=st.integers(1, 4) | st.tuples(st.integers(1, 2), st.integers(2, 4)),
)
def test_adapting_never_changes_the_global_batch_and_ends(micro, accumulation, said, workers):
    config = TrainConfig(
        num_workers=workers, micro_batch_size=micro, gradient_accumulation_steps=accumulation
    )
    if said:
        config = TrainConfig(
            num_workers=workers, micro_batch_size=micro, global_batch_size=config.sequences_per_step
        )
    sequences, sizes = config.sequences_per_step, []
    for _ in range(10):
        following = adapt(config)
        if following is None:
            break
        assert following.sequences_per_step == sequences
        if following.micro_batch_size != config.micro_batch_size:
            assert following.fingerprint() == config.fingerprint(), "the run's folder and checkpoint stay"
        config = following
        sizes.append(config.micro_batch_size)
    assert adapt(config) is None
    assert config.micro_batch_size == 1
    assert config.layout.activation_checkpointing
    assert all(later <= earlier for earlier, later in itertools.pairwise(sizes))


@pytest.mark.parametrize("use_gpu", [True, False])
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_every_piece_of_advice_can_be_typed_after_a_recipe(tmp_path, use_gpu, stage):
    layout = {"zero": {"stage": stage}}
    config = TrainConfig(
        adapter=FullAdapter(), num_workers=2, use_gpu=use_gpu, micro_batch_size=6, layout=layout
    )
    recipe = tmp_path / "train.yaml"
    recipe.write_text(config.model_dump_json())
    advices = advise(config)
    for advice in advices:
        overrides = tuple(str(advice).partition(" (")[0].split())
        assert TrainConfig.load(recipe, overrides) != config
    assert len({str(advice) for advice in advices}) == len(advices) >= 2


def test_the_message_names_the_worker_the_cause_and_the_change():
    config = TrainConfig(micro_batch_size=2)
    told = explain(config, 1, CUDA, adapted=True)
    assert told.startswith(
        "worker 1 ran out of memory (CUDA out of memory. Tried to allocate 2.50 GiB); going on"
    )
    assert "micro_batch_size=1 gradient_accumulation_steps=2" in told
    assert "\n" not in explain(config, None, RAY, adapted=False)
