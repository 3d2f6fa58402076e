"""Whether a folder is a model that can be loaded without running anybody's code, and what the model is.

Only files are read here: JSON, the headers of safetensors, and chat templates. Folders below the model's own
are not looked at but for templates, because nothing else is ever loaded from them.
"""

import json
import math
from pathlib import Path
from typing import Any

from heliostat.errors import ModelError
from heliostat.models.template_safety import check_chat_templates
from heliostat.records import Record

CONFIG_NAME = "config.json"
TOKENIZER_NAME = "tokenizer.json"
WEIGHTS_INDEX_NAME = "model.safetensors.index.json"

# Formats whose reading can run code, or that nothing here reads. OpenVINO's .bin is raw numbers, but a folder
# that is loaded as a transformers model has no use for one either.
UNSAFE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".msgpack", ".h5", ".npy", ".npz", ".joblib", ".dill"}
)
CODE_KEYS = ("auto_map", "custom_pipelines")
BITS_BY_DTYPE = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
MAX_HEADER_BYTES = 100_000_000  # the format's own limit


class ModelFacts(Record):
    """What a model is, read from its files without loading it."""

    architecture: str
    num_parameters: int
    hidden_size: int
    num_layers: int
    vocab_size: int
    max_position_embeddings: int


def check_model_folder(path: str | Path) -> None:
    """Refuse a folder that is not a safe and whole Hugging Face model folder.

    Raises:
        ModelError: one line that says what is wrong and how to mend it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: no such model folder; give a folder with {CONFIG_NAME} and *.safetensors"
        )
    check_runs_no_code(folder)
    for file in weight_files(folder):
        tensors_in(file)
    _read_json_object(
        folder, TOKENIZER_NAME, "save the model's fast tokenizer there (tokenizer.save_pretrained)"
    )


def check_runs_no_code(folder: Path, allowed: frozenset[str] = frozenset()) -> None:
    """Refuse a folder with code or pickles, a config that asks for code, or a hostile chat template.

    Of the suffixes of files that might be pickles, `allowed` are something else here.

    Raises:
        ModelError: one line that names the file.
    """
    config = _read_json_object(folder, CONFIG_NAME, "it is not a Hugging Face model folder")
    _refuse_code_and_pickles(folder, allowed)
    _refuse_code_keys(folder, config)
    check_chat_templates(folder)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model, in order of name: one, or the shards its index names.

    Raises:
        ModelError: there are none, or a shard is missing.
    """
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if not (folder / WEIGHTS_INDEX_NAME).is_file():
        mend = "save it with save_pretrained"
        if (folder / "adapter_config.json").is_file():
            mend = "it is an adapter: merge it into its base model first"
        raise ModelError(f"{folder}: no model.safetensors and no {WEIGHTS_INDEX_NAME}; {mend}")
    index = _read_json_object(folder, WEIGHTS_INDEX_NAME, "the index of the shards")
    shards = sorted({str(name) for name in dict(index.get("weight_map") or {}).values()})
    for shard in shards:
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise ModelError(
                f"{folder}: shard {shard} is named in {WEIGHTS_INDEX_NAME} but missing; copy it there"
            )
    if not shards:
        raise ModelError(f"{folder / WEIGHTS_INDEX_NAME}: names no shard; save the model again")
    return [folder / shard for shard in shards]


def tensors_in(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file, by name, from its header alone.

    Raises:
        ModelError: the header is broken, or the file is shorter or longer than the header says.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise ModelError(f"{file}: not a safetensors file, or cut off in its header; copy it again")
        text = stream.read(length)
    try:
        header = json.loads(text)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in entries.items()}
        ends = [_end_of_tensor(entry) for entry in entries.values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{file}: broken safetensors header ({reason}); copy it again") from None
    expected = 8 + length + max(ends, default=0)
    if expected != size:
        raise ModelError(f"{file}: {size} bytes where its header says {expected}; copy it again")
    return shapes


def model_facts(folder: Path) -> ModelFacts:
    """Describe a model from its config and the headers of its weights.

    Raises:
        ModelError: a file is missing or broken, or the config is not that of a language model.
    """
    config = _read_json_object(folder, CONFIG_NAME, "it is not a Hugging Face model folder")
    try:
        return ModelFacts(
            architecture=config["architectures"][0],
            num_parameters=sum(
                math.prod(shape) for file in weight_files(folder) for shape in tensors_in(file).values()
            ),
            hidden_size=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            vocab_size=config["vocab_size"],
            max_position_embeddings=config["max_position_embeddings"],
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{folder / CONFIG_NAME}: not the config of a causal language model ({reason})"
        ) from None


def _end_of_tensor(entry: dict[str, Any]) -> int:
    start, end = (int(offset) for offset in entry["data_offsets"])
    bits = math.prod(entry["shape"]) * BITS_BY_DTYPE[entry["dtype"]]
    if start < 0 or (end - start) * 8 != bits:
        raise ValueError(f"a {entry['dtype']} tensor of shape {entry['shape']} in {end - start} bytes")
    return end


def _refuse_code_and_pickles(folder: Path, allowed: frozenset[str]) -> None:
    for file in sorted(folder.iterdir()):
        suffix = file.suffix.lower()
        if suffix in UNSAFE_SUFFIXES - allowed:
            raise ModelError(
                f"{file}: weights in a format that can run code when read; convert the model to safetensors "
                "(save_pretrained with a current transformers) and remove this file"
            )
        if suffix in (".py", ".pyc", ".so"):
            raise ModelError(
                f"{file}: a model folder with code of its own is not loaded; use an architecture "
                "that transformers has built in, and remove this file"
            )


def _refuse_code_keys(folder: Path, config: dict[str, Any]) -> None:
    configs = {CONFIG_NAME: config}
    for name in ("tokenizer_config.json", "generation_config.json", "processor_config.json"):
        if (folder / name).is_file():
            configs[name] = _read_json_object(folder, name, "")
    for name, values in configs.items():
        for key in CODE_KEYS:
            if values.get(key):
                raise ModelError(
                    f"{folder / name}: '{key}' asks to run code that comes with the model, which is refused; "
                    "use an architecture that transformers has built in"
                )


def _read_json_object(folder: Path, name: str, hint: str) -> dict[str, Any]:
    file = folder / name
    try:
        values = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{folder}: no {name}; {hint}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON ({error}); copy it again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{file}: a JSON object was expected; copy it again")
    return values
