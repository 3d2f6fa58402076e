"""What a recipe says about OpenVINO's arithmetic reaches it."""

import pytest
from tests.small_models import exported

from heliostat.serving.config import OpenVINOEngineConfig
from heliostat.serving.engines.interface import SamplingParameters
from heliostat.serving.engines.selection import start_engine

pytestmark = pytest.mark.anyio
PROMPT = [5, 9, 33, 60, 7, 12, 80, 41]


@pytest.fixture(scope="module")
def int8_folder(tiny_model_folder, tmp_path_factory):
    return exported(tiny_model_folder, tmp_path_factory.mktemp("int8"), "int8")


async def first_logprob(folder, group_size: int) -> float:
    config = OpenVINOEngineConfig(num_threads=1, dynamic_quantization_group_size=group_size)
    engine = await start_engine(config, folder)
    try:
        parameters = SamplingParameters(max_tokens=1, temperature=0, logprobs=0)
        (delta,) = [delta async for delta in engine.generate(PROMPT, parameters, "one")]
        return delta.logprobs[0].logprob
    finally:
        await engine.close()


async def test_activations_that_share_a_scale_change_an_answer_a_little(int8_folder):
    exact, shared = [await first_logprob(int8_folder, group_size) for group_size in (0, 64)]
    assert exact != shared
    assert shared == pytest.approx(exact, abs=0.05)
