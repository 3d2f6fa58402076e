"""Edge: an openvino_genai pipeline, its settings in openvino-genai's words, and LoRA adapters on it.

What was found out of openvino-genai 2026.4 and is worked around here:
- `add_request()` ignores the adapters of its generation config; only `generate()` sets them, for all requests
  that follow, and only while none is unfinished.
- A pipeline can put on any adapter later, if layers of that name were given one when it was made. So it is
  made with an adapter of zeros that names them.
- As prompts are split over steps, it leaves `max_num_seqs` aside: whoever adds requests keeps to that.
- Its cache of prefixes does not know which adapter filled it, and gives one adapter's to another.
"""

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
import orjson
from safetensors.numpy import save

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import Grammar
from heliostat.serving.engines.json_grammar import to_ebnf
from heliostat.serving.engines.lora_folder import LoraFolder, read_lora_folder
from heliostat.serving.engines.sampling import GREEDY_BELOW

SEED_BITS = 32
MODEL_NAME = "openvino_model.xml"
ANY_TOKEN = 0


class Pipeline:
    """A pipeline and the adapter it has on."""

    def __init__(self, folder: str, options: dict[str, Any]) -> None:
        """`options` is an engine config's dump.

        Raises:
            RuntimeError: OpenVINO cannot load the folder.
        """
        self._folder = Path(folder)
        self._options = options
        self._vocabulary_size = int(orjson.loads((self._folder / "config.json").read_bytes())["vocab_size"])
        self._wired: dict[str, tuple[int, int, int]] = {}
        self._worn: Any = None
        self.batching = self._load()

    @property
    def is_idle(self) -> bool:
        """Whether no request is unfinished, which putting on an adapter and `wire` need."""
        return not self.batching.has_non_finished_requests()

    def needs_wiring(self, lora: LoraFolder) -> bool:
        """Whether the pipeline must be loaded anew before it can put this adapter on."""
        return not lora.layers.keys() <= self._wired.keys()

    def wire(self, lora: LoraFolder) -> None:
        """Load the pipeline anew so that it can put this adapter on, beside those it could before."""
        self._wired |= lora.layers
        self.batching = None  # its memory first
        self.batching = self._load()
        self._worn = None

    def put_on(self, adapter: Any) -> None:
        """Let the requests added from now on be answered with an adapter's config, or None's."""
        if adapter is self._worn:
            return
        config = genai.GenerationConfig()
        config.max_new_tokens = 1
        config.adapters = adapter or genai.AdapterConfig()
        self.batching.generate([_tokens([ANY_TOKEN])], [config])
        self._worn = adapter

    def check(self, folder: Path) -> LoraFolder:
        """Look at an adapter's folder.

        Raises:
            ServingError: it cannot be put on this model.
        """
        lora = read_lora_folder(folder)
        if lora.scaling is None:
            raise ServingError(f"{folder}: ranks or alphas differ between layers; merge it into its model")
        lora.check_fits(_linear_layers(self._folder / MODEL_NAME))
        return lora

    def _load(self) -> Any:
        options = self._options
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = options["cache_size_gb"]
        scheduler.max_num_batched_tokens = options["max_num_batched_tokens"]
        scheduler.enable_prefix_caching = options["prefix_caching"] and not self._wired
        properties = {
            "INFERENCE_PRECISION_HINT": options["inference_precision"],
            "KV_CACHE_PRECISION": options["kv_cache_precision"],
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": options["dynamic_quantization_group_size"],
        }
        if options["num_threads"]:
            properties["INFERENCE_NUM_THREADS"] = options["num_threads"]
        if self._wired:
            config = genai.AdapterConfig(genai.AdapterConfig.Mode.MODE_DYNAMIC)
            config.add(_zeros(self._wired))
            properties["adapters"] = config
        return genai.ContinuousBatchingPipeline(str(self._folder), scheduler, "CPU", properties)

    def check_prompt(self, prompt_ids: list[int]) -> None:
        """Refuse what OpenVINO would compute nonsense from.

        Raises:
            ServingError: there is no token, or one that the model does not know.
        """
        if not prompt_ids or min(prompt_ids) < 0 or max(prompt_ids) >= self._vocabulary_size:
            raise ServingError(f"the prompt must be token ids below {self._vocabulary_size}, at least one")

    def add(self, number: int, prompt_ids: list[int], config: Any) -> Any:
        """Give the pipeline a request; returns its handle."""
        return self.batching.add_request(number, _tokens(prompt_ids), config)


def adapter_config(lora: LoraFolder) -> Any:
    """An adapter as `Pipeline.put_on` takes it."""
    return genai.AdapterConfig(genai.Adapter(str(lora.weights)), lora.scaling)


def generation_config(parameters: dict[str, Any]) -> Any:
    """Sampling parameters in openvino-genai's words.

    Raises:
        ServingError: they ask for what the engine's capabilities leave out, or for no proper grammar.
    """
    _refuse_unsupported(parameters)
    config = genai.GenerationConfig()
    config.max_new_tokens = parameters["max_tokens"]
    config.stop_token_ids = set(parameters["stop_token_ids"])
    config.ignore_eos = parameters["ignore_eos"]
    config.repetition_penalty = parameters["repetition_penalty"]
    config.logprobs = 0 if parameters["logprobs"] is None else 1
    config.do_sample = parameters["temperature"] >= GREEDY_BELOW
    if config.do_sample:
        config.temperature = parameters["temperature"]
        config.top_p = parameters["top_p"]
        config.min_p = parameters["min_p"]
        if parameters["top_k"]:
            config.top_k = parameters["top_k"]
        seed = parameters["seed"]
        config.rng_seed = secrets.randbits(SEED_BITS) if seed is None else seed % 2**SEED_BITS
    if parameters["grammar"]:
        ebnf = to_ebnf(Grammar(**parameters["grammar"]))
        config.structured_output_config = genai.StructuredOutputConfig(grammar=ebnf)
    return config


def _refuse_unsupported(parameters: dict[str, Any]) -> None:
    """Its presence and frequency penalties raise logits below 0 instead of lowering them."""
    asked = [name for name in ("presence_penalty", "frequency_penalty", "logit_bias") if parameters[name]]
    if parameters["logprobs"]:
        asked.append("top logprobs")
    if asked:
        raise ServingError(f"this engine has no {', '.join(asked)}; leave it out")


def _tokens(ids: list[int]) -> Any:
    return ov.Tensor(np.array([ids], dtype=np.int64))


def _zeros(layers: dict[str, tuple[int, int, int]]) -> Any:
    """An adapter of rank 1 that changes nothing."""
    tensors = {}
    for name, (_, inputs, outputs) in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.zeros((1, inputs), dtype=np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.zeros((outputs, 1), dtype=np.float32)
    return genai.Adapter(ov.Tensor(np.frombuffer(save(tensors), dtype=np.uint8)))


def _linear_layers(model: Path) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer in an exported graph, by its name in the model it came from."""
    layers = {}
    for node in ov.Core().read_model(model).get_ops():
        if node.get_type_name() != "MatMul":
            continue
        name = node.get_friendly_name().partition("/")[0].removeprefix("__module.").removeprefix("inner.")
        weights = node.input(1).get_partial_shape()
        if weights.is_static and len(weights) == 2:
            shape = weights.to_shape()
            inputs, outputs = reversed(shape) if node.get_attributes()["transpose_b"] else shape
            layers[name] = (inputs, outputs)
    return layers
