"""How far a kind of compression is, as it says itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Partly:
    """A step that is going on, and the share of it that is done."""

    step: str
    share: float
