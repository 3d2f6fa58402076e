"""Models that would bring code along: each is refused before any of it is read, by whoever would load it."""

import contextlib
import json
import os
import pickle
import shutil

import pytest

from heliostat.errors import HeliostatError, ModelError
from heliostat.serving.config import TransformersEngineConfig
from heliostat.serving.engines.selection import check_folder, start_engine

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]


class Bomb:
    """Whoever unpickles it leaves a file behind."""

    def __init__(self, mark) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


@pytest.fixture
def mark(tmp_path):
    """What is there when code of a model has run."""
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


def edit(file, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


async def refused(folder, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        await start_engine(TransformersEngineConfig(num_threads=1), folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=says):
        check_folder(folder)


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.PTH", "a.pkl"]
)
async def test_a_pickle_is_refused_beside_safetensors_and_in_their_place(folder, mark, name, beside):
    (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    if not beside:
        (folder / "model.safetensors").unlink()
    await refused(folder, "can run code when read")


async def test_a_pickle_that_calls_itself_safetensors_is_no_weights(folder, mark):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(HeliostatError):
        await start_engine(TransformersEngineConfig(num_threads=1), folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("key", ["auto_map", "custom_pipelines"])
async def test_a_config_that_asks_for_code_is_refused(folder, mark, file, key):
    (folder / "evil.txt").write_text(f"import os; os.mkdir({str(mark)!r})")
    classes = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"), "evil.Evil")
    edit(folder / file, **{key: classes, "trust_remote_code": True})
    await refused(folder, key)


@pytest.mark.parametrize("name", ["modeling_evil.py", "evil.so", "tokenization.pyc", "EVIL.PY"])
async def test_code_in_the_folder_is_refused(folder, mark, name):
    (folder / name).write_text(f"import os; os.mkdir({str(mark)!r})")
    await refused(folder, "code of its own")


async def test_a_config_does_not_name_its_own_trust(folder, mark):
    """Only who loads says what is trusted; the model's word for itself changes nothing."""
    edit(folder / "config.json", trust_remote_code=True, use_safetensors=False, _name_or_path="../evil")
    engine = await start_engine(TransformersEngineConfig(num_threads=1), folder)
    await engine.close()


async def test_a_tokenizer_of_an_unknown_class_runs_nothing(folder, mark):
    from heliostat.models.loading import load_tokenizer

    (folder / "evil.txt").write_text(f"import os; os.mkdir({str(mark)!r})")
    edit(folder / "tokenizer_config.json", tokenizer_class="os.Evil")
    with contextlib.suppress(ModelError):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.mkdir('ran') }}",
        "{% for",
    ],
)
async def test_a_hostile_chat_template_is_refused(folder, mark, template):
    (folder / "chat_template.jinja").write_text(template)
    await refused(folder, "chat template")


async def test_an_adapter_that_is_a_pickle_is_refused(tmp_path, mark, tiny_model_folder):
    from heliostat.models.adapters import load_with_adapter
    from heliostat.serving.engines.lora_folder import read_lora_folder

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 4}')
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    for name in ("adapter_model.bin", "adapter_model.safetensors"):
        (adapter / name).write_bytes(pickle.dumps(Bomb(mark)))
        with pytest.raises(HeliostatError):
            read_lora_folder(adapter)
        with pytest.raises(HeliostatError):
            load_with_adapter(tiny_model_folder, adapter)


async def test_openvinos_numbers_are_no_pickle_but_its_folder_brings_no_code_either(
    tiny_openvino_folder, tmp_path
):
    folder = shutil.copytree(tiny_openvino_folder, tmp_path / "openvino")
    check_folder(folder)
    (folder / "training_args.pt").write_bytes(b"")
    with pytest.raises(ModelError, match="can run code when read"):
        check_folder(folder)
