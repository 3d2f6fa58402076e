"""In which order a run meets its sequences, as a recipe says it."""

from typing import Literal

from pydantic import Field

from heliostat.config import Config


class CurriculumConfig(Config):
    """Easy sequences first (competence-based: Platanios et al., 2019, arXiv:1903.09848).

    At first only the easiest `start` of the sequences is read, and at `until` of the run all of them; in
    between their share grows with the square root of the progress. By `length` a sequence of short
    documents is easy, by `rarity` one of common tokens.
    """

    difficulty: Literal["length", "rarity"] = "length"
    start: float = Field(default=0.1, gt=0, le=1, description="share of the sequences in the first step")
    until: float = Field(default=0.5, gt=0, le=1, description="share of the run after which all are read")
