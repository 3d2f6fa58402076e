"""What a compression is told. Light: nothing here imports torch, openvino or ray."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from heliostat.config import Config, Resources

Split = Literal["train", "validation", "test"]


class CalibrationConfig(Config):
    """Documents that show which weights matter: drawn at random from a split that is not scored."""

    split: Split = "train"
    num_documents: int = Field(default=64, ge=1)


class CompressStep(Config):
    """What every kind has: a name, and how much worse the result may read than the model it is made from."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"resources", "python"})
    gentler: ClassVar[str] = "choose a gentler compress.scheme"
    """What loses less, for the line that refuses a result."""

    kind: str
    name: str = Field(default="compressed", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    max_loss: float = Field(
        default=0.02, ge=0, description="largest relative rise of perplexity that is let through"
    )
    split: Split = "test"
    max_tokens: int = Field(
        default=4_000, ge=1, description="tokens scored before and after, whole sequences"
    )
    resources: Resources = Resources(num_cpus=2)

    @property
    @abstractmethod
    def scheme_name(self) -> str:
        """What the result goes by, in its folder's name and in the summary."""

    @property
    def calibrates_on(self) -> CalibrationConfig | None:
        """The documents that this compression looks at; None where it needs none."""
        return None

    @model_validator(mode="after")
    def _calibrates_elsewhere(self) -> Self:
        calibration = self.calibrates_on
        if calibration is not None and calibration.split == self.split:
            raise ValueError(
                f"calibration.split: {self.split} is the split that is scored, and what a model was fitted "
                "to says little about it; take another, such as train"
            )
        return self


class OpenVINOConfig(CompressStep):
    """Export to OpenVINO for its engine on CPU, with weights in the given scheme.

    A scheme is the name it is published under: `fp32` exports without compressing; `int8` keeps weights in 8
    bits, one scale and zero point an output channel; `int4` keeps the share `ratio` of the weights of linear
    layers in 4 bits, one scale and zero point for each `group_size` of them, and the rest, as well as the
    embeddings, in 8 bits. What calibration documents show decides which, and the scales.
    """

    kind: Literal["openvino"] = "openvino"
    scheme: Literal["int8", "int4", "fp32"] = "int8"
    group_size: int = Field(default=32, ge=8, description="int4: neighbouring weights that share a scale")
    ratio: float = Field(default=0.7, gt=0, le=1, description="int4: share of the weights in 4 bits")
    symmetric: bool = Field(default=False, description="int4: without a zero point for each group")
    methods: tuple[Literal["awq", "scale_estimation", "gptq"], ...] = Field(
        default=("scale_estimation",), description="int4: how calibration documents correct the rounding"
    )
    calibration: CalibrationConfig = CalibrationConfig()

    @model_validator(mode="before")
    @classmethod
    def _four_bits_may_lose_more(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("scheme") == "int4":
            return {"max_loss": 0.08, **values}
        return values

    @property
    def scheme_name(self) -> str:
        """The scheme."""
        return self.scheme

    @property
    def calibrates_on(self) -> CalibrationConfig | None:
        """The documents for int4."""
        return self.calibration if self.scheme == "int4" else None


class GgufConfig(CompressStep):
    """Export to one GGUF file for llama.cpp and what is built on it; families llama, qwen2 and qwen3.

    `f16` and `f32` keep the weights; `q8_0` keeps 8 bits and a scale for each 32. Nothing here serves it.
    """

    kind: Literal["gguf"] = "gguf"
    scheme: Literal["f16", "f32", "q8_0"] = "f16"

    @property
    def scheme_name(self) -> str:
        """The scheme, which other kinds have too, behind the kind."""
        return f"gguf-{self.scheme}"


class PruneConfig(CompressStep):
    """Take whole layers, groups of heads and channels out, and refit what stays; the result is a plain model.

    As many channels go, in every layer alike, as it takes to keep the share `keep` of the parameters.
    """

    gentler: ClassVar[str] = "keep more, or heal it by a short distillation (heal)"

    kind: Literal["prune"] = "prune"
    max_loss: float = Field(
        default=0.1, ge=0, description="largest relative rise of perplexity that is let through"
    )
    keep: float = Field(default=0.8, gt=0, lt=1, description="share of the parameters that stays")
    remove_layers: int = Field(default=0, ge=0)
    remove_head_groups: int = Field(
        default=0, ge=0, description="groups of heads that share a key, in every layer"
    )
    calibration: CalibrationConfig = CalibrationConfig(num_documents=256)

    @property
    def scheme_name(self) -> str:
        """The share that stays."""
        return f"pruned-{self.keep * 100:g}"

    @property
    def calibrates_on(self) -> CalibrationConfig | None:
        """The documents that show what matters."""
        return self.calibration


class WeightedAdapter(Config):
    """An adapter and how much of its change is taken."""

    adapter: str = Field(description="the folder or URI of an adapter artifact, as training leaves it")
    weight: float = Field(default=1.0, gt=0)


class MergeConfig(CompressStep):
    """Merge several LoRA adapters of the model into it."""

    gentler: ClassVar[str] = "give other weights"

    kind: Literal["merge"] = "merge"
    adapters: tuple[WeightedAdapter, ...] = Field(min_length=1)
    method: Literal["linear", "ties", "dare_linear", "dare_ties"] = "linear"
    density: float = Field(
        default=0.5, gt=0, le=1, description="ties, dare: share of each adapter's changes that stays"
    )

    @property
    def scheme_name(self) -> str:
        """The method."""
        return f"merged-{self.method.replace('_', '-')}"


class CompressedTensorsConfig(CompressStep):
    """A compressed-tensors folder for vLLM, by llm-compressor in an environment of its own.

    `int8` has weights and activations in 8 bits, `int4` weights in 4 bits fitted by GPTQ, `fp8` both in 8-bit
    floats. Nothing here serves it.
    """

    kind: Literal["compressed_tensors"] = "compressed_tensors"
    scheme: Literal["int8", "int4", "fp8"] = "int8"
    group_size: Literal[32, 64, 128] = Field(
        default=64, description="int4: neighbouring weights that share a scale"
    )
    python: str = Field(description="the interpreter of an environment that has llmcompressor, on every node")
    calibration: CalibrationConfig = CalibrationConfig()

    @model_validator(mode="before")
    @classmethod
    def _eight_by_eight_may_lose_more(cls, values: Any) -> Any:
        limits = {"int8": 0.05, "int4": 0.08}
        scheme = values.get("scheme", "int8") if isinstance(values, dict) else None
        return {"max_loss": limits[scheme], **values} if scheme in limits else values

    @property
    def scheme_name(self) -> str:
        """The scheme, which other kinds have too, behind the kind."""
        return f"compressed-tensors-{self.scheme}"

    @property
    def calibrates_on(self) -> CalibrationConfig | None:
        """The documents that show the range of activations."""
        return self.calibration


class HealedConfig(CompressStep):
    """Let a pruned model through that was trained again; the chain asks for this, no recipe does."""

    gentler: ClassVar[str] = "keep more, or heal it for longer"

    kind: Literal["healed"] = "healed"
    keep: float = Field(gt=0, lt=1)

    @property
    def scheme_name(self) -> str:
        """That of the pruned model."""
        return f"pruned-{self.keep * 100:g}"


def openvino_unless_told(values: Any) -> Any:
    """A section without a `kind` is for OpenVINO."""
    return {"kind": "openvino", **values} if isinstance(values, dict) else values


CompressConfig = Annotated[
    OpenVINOConfig | GgufConfig | PruneConfig | MergeConfig | CompressedTensorsConfig,
    Field(discriminator="kind"),
    BeforeValidator(openvino_unless_told),
]
