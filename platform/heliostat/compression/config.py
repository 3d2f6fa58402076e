"""What a compression is told. Light: nothing here imports torch, openvino or ray."""

from typing import ClassVar, Literal

from pydantic import Field

from heliostat.config import Config, Resources


class CompressConfig(Config):
    """Export to OpenVINO for its engine on CPU, with weights in the given scheme.

    A scheme is the name it is published under: `int8` keeps weights in 8 bits, one scale and zero point an
    output channel; `fp32` exports without compressing.
    """

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"resources"})

    kind: Literal["openvino"] = "openvino"
    name: str = Field(default="compressed", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    scheme: Literal["int8", "fp32"] = "int8"
    max_loss: float = Field(
        default=0.02, ge=0, description="largest relative rise of perplexity that is let through"
    )
    split: Literal["train", "validation", "test"] = "test"
    max_tokens: int = Field(
        default=4_000, ge=1, description="tokens scored before and after, whole sequences"
    )
    resources: Resources = Resources(num_cpus=2)
