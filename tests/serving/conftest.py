"""Real engines on the tiny model: transformers as it is, OpenVINO on an fp32 export of it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serving.deployed import gateway_of
from tests.serving.in_process import CONFIGS, LONG, FixedModels, client_of
from tests.serving.scripted import prose_tokenizer
from tests.small_models import exported, small_llama

from heliostat.serving.api.answering import ServedModel
from heliostat.serving.engines.interface import SamplingParameters
from heliostat.serving.engines.selection import max_context_tokens, start_engine
from heliostat.serving.gateway.app import build_gateway

LAYERS = {"a": "all-linear", "b": ["q_proj", "v_proj"], "c": "all-linear"}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_openvino_folder(tiny_model_folder, tmp_path_factory) -> Path:
    return exported(tiny_model_folder, tmp_path_factory.mktemp("tiny-openvino"))


@pytest.fixture(scope="session")
def adapters(tiny_model_folder, tmp_path_factory) -> dict[str, Path]:
    """Adapters of several ranks and layers that change much."""
    import torch
    from peft import LoraConfig, get_peft_model

    from heliostat.models.loading import load_model

    folders = {}
    for number, (name, layers) in enumerate(LAYERS.items()):
        torch.manual_seed(number)
        config = LoraConfig(
            r=4 + 4 * number,
            lora_alpha=8,
            target_modules=layers,
            init_lora_weights=False,
            use_rslora=name == "c",
        )
        folders[name] = tmp_path_factory.mktemp("adapters") / name
        get_peft_model(load_model(tiny_model_folder), config).save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The tiny model for each engine, with a context for long answers."""
    folder = small_llama(tmp_path_factory.mktemp("long-winded"), max_position_embeddings=2 * LONG)
    return {
        "transformers": folder,
        "openvino": exported(folder, tmp_path_factory.mktemp("long-winded-openvino")),
    }


@pytest.fixture(scope="session", params=["transformers", "openvino"])
async def engine(request, folders):
    engine = await start_engine(CONFIGS[request.param], folders[request.param])
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def transformers_engine(tiny_model_folder):
    engine = await start_engine(CONFIGS["transformers"], tiny_model_folder)
    yield engine
    await engine.close()


class RecordingEngine:
    """A real engine that keeps the prompts it was given."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.prompts: list[list[int]] = []

    @property
    def capabilities(self):
        return self.engine.capabilities

    def generate(self, prompt_ids, parameters: SamplingParameters, request_id: str, adapter=None):
        self.prompts.append(list(prompt_ids))
        return self.engine.generate(prompt_ids, parameters, request_id, adapter)

    async def embed(self, prompts):
        return await self.engine.embed(prompts)

    async def check_health(self) -> None:
        await self.engine.check_health()


@pytest.fixture
def recording_engine(transformers_engine) -> RecordingEngine:
    return RecordingEngine(transformers_engine)


@pytest.fixture(scope="session")
def tiny_served(transformers_engine, tiny_tokenizer, tiny_model_folder) -> ServedModel:
    return ServedModel(
        id="tiny",
        created=1,
        tokenizer=tiny_tokenizer,
        engine=transformers_engine,
        max_context_tokens=max_context_tokens(tiny_model_folder),
        max_output_tokens=300,
        default_max_tokens=16,
    )


@pytest.fixture
def served(tiny_served, recording_engine) -> ServedModel:
    return replace(tiny_served, engine=recording_engine)


@pytest.fixture
async def client(served):
    async with client_of(build_gateway(FixedModels(served))) as client:
        yield client


@pytest.fixture
def still_clock(monkeypatch):
    """Time stands still for a gateway in this process: no minute ends between two requests."""
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment)


@pytest.fixture(scope="session")
def prose(tmp_path_factory):
    """The tiny model's tokenizer without its weights."""
    return prose_tokenizer(tmp_path_factory.mktemp("prose"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, prose):
    """A gateway behind a real socket, with keys, shared by a module's tests."""
    with gateway_of(tmp_path_factory.mktemp("gateway"), prose) as gateway:
        yield gateway
