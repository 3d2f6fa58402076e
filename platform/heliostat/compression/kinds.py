"""From a config to the steps that write its folder: the one place that knows every kind of compression."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from heliostat.compression import gguf_export, merging, openvino_export, pruned_export
from heliostat.compression.calibration import calibration_documents
from heliostat.compression.config import (
    CompressStep,
    GgufConfig,
    HealedConfig,
    MergeConfig,
    OpenVINOConfig,
    PruneConfig,
)
from heliostat.models.gguf_conversion import convert_gguf
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
        case GgufConfig():
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
        case PruneConfig():
            pruned_export.plan_for(config, artifact_folder(model))
        case MergeConfig():
            adapters = merging.open_adapters(config)
            merging.check_base(adapters, model)
            return adapters
    return ()


def write_folder(config: CompressStep, material: Material) -> Iterator[str]:
    """Write the compressed folder; yields the name of each step when it begins.

    Raises:
        ModelError: the model cannot be compressed so.
        DataError: there is nothing to calibrate on.
    """
    source, target, calibration = material.source, material.target, config.calibrates_on
    documents = calibration_documents(material.dataset, calibration) if calibration else []
    match config:
        case GgufConfig():
            return gguf_export.export_steps(source, target, config)
        case PruneConfig():
            return pruned_export.prune_steps(source, target, config, documents)
        case OpenVINOConfig():
            return openvino_export.export_steps(source, target, config, documents)
        case MergeConfig():
            return merging.merge_steps(source, target, config, material.others)
        case HealedConfig():
            return _copy_steps(material.others[0], target)
    raise AssertionError(f"no steps for {config.scheme_name}")


def readable_folder(config: CompressStep, folder: Path, scratch: Path) -> Path:
    """A folder that can be scored in place of the one that was written: itself, or what is read back."""
    if isinstance(config, GgufConfig):
        (file,) = folder.glob("*.gguf")
        convert_gguf(file, scratch)
        return scratch
    return folder


def _copy_steps(source: Path, target: Path) -> Iterator[str]:
    yield "copy"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(CERTIFICATE_NAME), dirs_exist_ok=True)
