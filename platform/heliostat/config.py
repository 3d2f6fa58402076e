"""The base of every config: strict, frozen, loaded from YAML, and fingerprinted.

Knows nothing of any stage. Reading a file and explaining what is wrong in it is `recipe_file.py`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heliostat.recipe_file import RecipeFile, explain_validation_error


class Config(BaseModel):
    """A frozen section of a recipe. Unknown keys are errors, not warnings."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    # Fields that change where or how fast the work is done, but not what comes out of it.
    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Self:
        """Read `path` (YAML, `base:` resolved), apply `key=value` overrides, and validate.

        Raises:
            ConfigError: one line a problem, each with file, line, key, what was expected and, for a
                misspelt key, the key that was probably meant.
        """
        return cls.of(RecipeFile.read(path, overrides))

    @classmethod
    def of(cls, recipe: RecipeFile) -> Self:
        """Validate what was read; errors as `load`."""
        try:
            return cls.model_validate(recipe.values)
        except ValidationError as error:
            raise explain_validation_error(error, cls, recipe) from None

    def canonical(self) -> dict[str, Any]:
        """Plain JSON values of all that decides the result, defaults included."""
        return {
            name: _canonical(getattr(self, name)) for name in type(self).model_fields if self._decides(name)
        }

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, in hex. What JSON cannot hold is refused, never `str()`-ed."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _decides(self, name: str) -> bool:
        return name not in self.not_in_fingerprint


def _canonical(value: Any) -> Any:
    if isinstance(value, Config):
        return value.canonical()
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a fingerprint: give its field a JSON type")


def explain_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Say field by field how two canonical configs differ: `train.learning_rate: 0.001 -> 0.0003`."""
    lines: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += explain_difference(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {json.dumps(before)} -> {json.dumps(after)}")
    return lines


class Resources(Config):
    """What one unit of a stage's work needs; the stage's edge says it to Ray."""

    num_cpus: float = Field(default=1, ge=0)
    num_gpus: float = Field(default=0, ge=0)
    memory_bytes: int | None = Field(default=None, gt=0)
