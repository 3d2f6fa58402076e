"""A linear classifier over hashed n-grams: small enough for every request, read from a safetensors file."""

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.errors import ConfigError
from heliostat.serving.guard.features import LEAST_GRAMS, NUM_SLOTS, distinct_slots, grams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 320
"""Characters of a stretch. A longer text is as suspicious as its most suspicious stretch."""
STRIDE = 160
FORMAT = "heliostat-guard-classifier-1"
DEFAULT_MODEL = Path(__file__).parent / "malicious_instructions.safetensors"
_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class Classifier:
    """Weights of the slots, and what is added."""

    weights: "NDArray[np.float32]"
    bias: float
    facts: dict[str, Any]
    """What it was trained on and how it did on what it had not seen."""

    def score(self, text: str) -> float:
        """How probable label 1 is for a text, lowered and folded; of its worst stretch."""
        step = _AT_ONCE - WINDOW
        return max((self._score(text[at : at + _AT_ONCE]) for at in range(0, len(text), step)), default=0.0)

    def _score(self, text: str) -> float:
        import numpy as np

        count = len(text)
        weight, number = np.zeros(count + 1), np.zeros(count + 1)
        for slots, places in grams(text):
            weight[1:][places] += self.weights[slots]
            number[1:][places] += 1
        np.cumsum(weight, out=weight)
        np.cumsum(number, out=number)
        starts = np.arange(0, max(count - WINDOW, 0) + STRIDE, STRIDE) if count > WINDOW else np.zeros(1, int)
        ends = np.minimum(starts + WINDOW, count)
        if not number[-1]:
            return 0.0
        logits = (weight[ends] - weight[starts]) / np.sqrt(
            np.maximum(number[ends] - number[starts], LEAST_GRAMS)
        )
        logits += self.bias
        best = -60.0
        exact = cache(self._exact)  # stretches of a monotonous text are alike
        for at in np.argsort(-logits):
            if logits[at] <= max(best, 0):
                best = max(best, float(logits[at]))
                break
            best = max(best, min(float(logits[at]), exact(text[starts[at] : ends[at]])))
        return float(1 / (1 + np.exp(-np.clip(best, -60, 60))))

    def _exact(self, stretch: str) -> float:
        """The logit with each n-gram counted once: saying a thing a hundred times adds nothing."""
        slots = distinct_slots(stretch)
        return float(self.weights[slots].sum() / max(len(slots), LEAST_GRAMS) ** 0.5) + self.bias

    def save(self, path: Path) -> None:
        """Write it as safetensors; weights in half precision, 131 kB."""
        import numpy as np
        from safetensors.numpy import save_file

        tensors = {"weights": self.weights.astype(np.float16), "bias": np.array([self.bias], np.float32)}
        save_file(tensors, str(path), {"format": FORMAT, "facts": json.dumps(self.facts, sort_keys=True)})


def load_classifier(path: str | Path) -> Classifier:
    """A classifier that `save` wrote; kept as long as the file does not change.

    Raises:
        ConfigError: it cannot be read, or is something else.
    """
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; 'heliostat guard train' writes such a file") from None
    return _load(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _load(path: str, modified: int, size: int) -> Classifier:
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as opened:
            metadata = opened.metadata() or {}
            tensors: dict[str, Any] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        facts = json.loads(metadata.get("facts", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a classifier: {error}; 'heliostat guard train' writes one") from None
    shapes = [getattr(tensors.get(name), "shape", None) for name in ("weights", "bias")]
    if metadata.get("format") != FORMAT or shapes != [(NUM_SLOTS,), (1,)]:
        raise ConfigError(f"{path}: not a classifier of this version; train it again")
    weights, bias = tensors["weights"].astype(np.float32), tensors["bias"]
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise ConfigError(f"{path}: has weights that are no numbers; train it again")
    return Classifier(weights, float(bias[0]), facts)
