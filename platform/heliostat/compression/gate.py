"""Whether a compressed model may pass: pure arithmetic over what was measured."""

from pathlib import Path

from heliostat.compression.config import CompressStep
from heliostat.errors import ModelError
from heliostat.models.perplexity import OPENVINO_MODEL_NAME
from heliostat.models.safety import weight_files


def relative_rise(before: float, after: float) -> float:
    """How much larger `after` is, as a share of `before`; negative when it is smaller."""
    return after / before - 1


def check_gate(before: float, after: float, config: CompressStep) -> None:
    """Refuse a model whose perplexity rose too much.

    Raises:
        ModelError: by how much, and what may be done.
    """
    rise, max_loss = relative_rise(before, after), config.max_loss
    if not rise <= max_loss:  # so written, a perplexity that is not a number does not pass either
        raise ModelError(
            f"compressed model refused: perplexity {before:.3f} -> {after:.3f} ({rise:+.2%}), allowed is "
            f"{max_loss:+.2%}; raise compress.max_loss, or {config.gentler}"
        )


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights alone, of a transformers, an OpenVINO or a GGUF folder."""
    exported = folder / Path(OPENVINO_MODEL_NAME).with_suffix(".bin")
    files = [exported] if exported.is_file() else list(folder.glob("*.gguf")) or weight_files(folder)
    return sum(file.stat().st_size for file in files)


def folder_bytes(folder: Path) -> int:
    """Bytes of everything in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
