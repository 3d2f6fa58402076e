"""The whole way on Ray: a client goes away, and who waits behind it has the slot at once."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from tests.serving.test_serving_deploy import MESSAGES, publish_quantized
from tests.small_models import exported, small_llama

from heliostat.config import Resources
from heliostat.serving.config import OpenVINOEngineConfig, ServeConfig
from heliostat.serving.run import deploy_model, shutdown_endpoint
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ALLOWED_SECONDS = 0.05
LONG = 4000
"""Tokens, of a millisecond or more; an endpoint answers with at most 4,096."""
REPEATS = 9


@pytest.fixture
def endpoint(ray_cluster, tmp_path):
    """One request at a time, each step of which takes a millisecond or more."""
    shape = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8}
    model = small_llama(tmp_path / "model", max_position_embeddings=2 * LONG, **shape)
    (tmp_path / "exported").mkdir()
    exported(model, tmp_path / "exported")
    workspace = Workspace.resolve(str(tmp_path / "workspace"))
    artifact = publish_quantized(workspace, tmp_path / "exported", "narrow")
    engine = OpenVINOEngineConfig(num_threads=1, max_num_seqs=1, prefix_caching=False)
    config = ServeConfig(port=0, engine=engine, resources=Resources(num_cpus=0.25))
    endpoint = deploy_model(config, artifact, workspace)
    yield endpoint
    shutdown_endpoint(endpoint)


def test_who_waits_on_ray_has_the_slot_within_a_step_of_a_clients_leaving(endpoint):
    asked = {"model": "narrow", "messages": MESSAGES, "extra_body": {"ignore_eos": True}}
    headers = {"cache-control": "no-store"}
    with (
        openai.OpenAI(
            base_url=endpoint.base_url, api_key="none", max_retries=0, default_headers=headers
        ) as client,
        ThreadPoolExecutor(1) as pool,
    ):

        def short() -> float:
            client.chat.completions.create(**asked, max_tokens=1)
            return time.monotonic()

        alone, taken, steps = [], [], []
        for _ in range(REPEATS):
            began = time.monotonic()
            alone.append(short() - began)
            stream = client.chat.completions.create(**asked, max_tokens=LONG, stream=True)
            began = time.monotonic()
            for _ in range(20):
                next(iter(stream))
            steps.append((time.monotonic() - began) / 20)
            waiter = pool.submit(short)
            time.sleep(0.1)
            assert not waiter.done()
            left = time.monotonic()
            stream.close()
            taken.append(waiter.result() - left)
    print(f"answered {[round(1000 * each, 1) for each in taken]} ms behind the close; ", end="")
    print(f"alone {1000 * statistics.median(alone):.1f} ms, a step {1000 * statistics.median(steps):.1f} ms")
    assert statistics.median(taken) < statistics.median(alone) + statistics.median(steps) + ALLOWED_SECONDS
