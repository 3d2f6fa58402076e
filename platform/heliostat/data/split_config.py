"""What a split can be asked for; `heliostat.data.splitting` says how it is made."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config


class SplitConfig(Config):
    """Shares of the documents, kept within each domain; near-duplicates never lie on two sides."""

    train: float = Field(default=0.8, gt=0, le=1)
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0
    stratify_by: Literal["domain"] | None = "domain"
    """Keep the shares within each domain, or (null) over all documents together."""
    min_per_stratum: int = Field(default=1, ge=0)
    """Documents that each side gets of a stratum that has enough; others go to train as a whole."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self
