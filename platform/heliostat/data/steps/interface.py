"""What a cleaning step is: a function from a document to a document, or to the reason why it goes."""

from collections.abc import Callable
from dataclasses import dataclass

from heliostat.data.documents import Document


@dataclass(frozen=True)
class Refusal:
    """Why a step drops a document: the reason's name, the figure it went by, and what more is known."""

    reason: str
    score: float | None = None
    detail: str = ""


DocumentStep = Callable[[Document], Document | Refusal]
"""Deterministic and without side effects: a retried task must come to the same result.

What a step learns about a document it keeps goes into `metadata`, under the step's kind.
"""
