"""From a config to the steps that write its folder: the one place that knows every kind of compression."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heliostat.compression import (
    compressed_tensors_export,
    gguf_export,
    merging,
    openvino_export,
    pruned_export,
)
from heliostat.compression.calibration import calibration_documents
from heliostat.compression.config import (
    CompressedTensorsConfig,
    CompressStep,
    GgufConfig,
    HealedConfig,
    MergeConfig,
    OpenVINOConfig,
    PruneConfig,
)
from heliostat.compression.steps import Partly
from heliostat.models.gguf_conversion import convert_gguf
from heliostat.models.perplexity import Limits, Score, running_score
from heliostat.records import CERTIFICATE_NAME, Artifact, ArtifactKind
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset

COPY_STEPS = {"copy": 1.0}


@dataclass(frozen=True)
class Material:
    """The folder a compression starts from, the one it writes, and the dataset it may calibrate on."""

    source: Path
    target: Path
    dataset: TokenizedDataset
    others: tuple[Path, ...] = ()
    """Further models or adapters that the kind works with."""


def steps_of(config: CompressStep) -> dict[str, float]:
    """The steps of this kind in their order, and the share of the time that each takes."""
    match config:
        case CompressedTensorsConfig():
            return compressed_tensors_export.STEPS
        case GgufConfig():
            return gguf_export.STEPS
        case PruneConfig():
            return pruned_export.STEPS
        case MergeConfig():
            return merging.STEPS
        case OpenVINOConfig():
            return openvino_export.steps_of(config)
        case _:
            return COPY_STEPS


def artifact_kind(config: CompressStep) -> ArtifactKind:
    """What comes out: `quantized` is for an engine here, `export` for other software, `model` goes on as any
    model does."""
    match config:
        case GgufConfig() | CompressedTensorsConfig():
            return "export"
        case OpenVINOConfig():
            return "quantized"
        case _:
            return "model"


def check_inputs(config: CompressStep, model: Artifact) -> tuple[Artifact, ...]:
    """Refuse before any work what this kind cannot take; returns further artifacts that the config names.

    Raises:
        ArtifactError, ConfigError, ModelError: what stands in the way.
    """
    match config:
        case GgufConfig():
            gguf_export.check_gguf(artifact_folder(model))
        case CompressedTensorsConfig():
            compressed_tensors_export.check_environment(config)
        case PruneConfig():
            pruned_export.plan_for(config, artifact_folder(model))
        case MergeConfig():
            adapters = merging.open_adapters(config)
            merging.check_base(adapters, model)
            return adapters
    return ()


def write_and_score(
    config: CompressStep, material: Material, limits: Limits
) -> Iterator[str | Partly | Score]:
    """Write the compressed folder, then score it; yields the name of each step when it begins, and how far
    some of them are, then scores.

    Raises:
        ModelError: the model cannot be compressed so.
        DataError: there is nothing to calibrate on, or to score.
    """
    source, target, dataset = material.source, material.target, material.dataset
    calibration = config.calibrates_on
    documents = calibration_documents(dataset, calibration) if calibration else []
    match config:
        case CompressedTensorsConfig():  # read by nothing here, so it is scored where it is made
            yield from compressed_tensors_export.export_and_score(
                source, target, config, documents, dataset, limits
            )
            return
        case GgufConfig():
            yield from gguf_export.export_steps(source, target, config)
        case PruneConfig():
            yield from pruned_export.prune_steps(source, target, config, documents, limits.num_threads)
        case OpenVINOConfig():
            yield from openvino_export.export_steps(source, target, config, documents)
        case MergeConfig():
            yield from merging.merge_steps(source, target, config, material.others)
        case HealedConfig():
            yield from _copy_steps(material.others[0], target)
    with _readable(config, target) as folder:
        yield from running_score(folder, dataset, limits)


@contextmanager
def _readable(config: CompressStep, folder: Path) -> Iterator[Path]:
    """A folder that can be scored in place of the one that was written: itself, or what is read back."""
    if not isinstance(config, GgufConfig):
        yield folder
        return
    (file,) = folder.glob("*.gguf")
    with tempfile.TemporaryDirectory(prefix="heliostat-read-back-") as scratch:
        convert_gguf(file, Path(scratch))
        yield Path(scratch)


def _copy_steps(source: Path, target: Path) -> Iterator[str]:
    yield "copy"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(CERTIFICATE_NAME), dirs_exist_ok=True)
