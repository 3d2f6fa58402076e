"""What a cleaning step is: a function from a document to a document, or to the reason why it goes."""

from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class ScoredStep:
    """A step that goes by a figure of each text; the texts of a batch are given to `score` together.

    What `score` says of a text must not depend on those beside it.
    """

    score: Callable[[list[str]], list[float]]
    judge: Callable[[Document, float], Document | Refusal]

    def __call__(self, document: Document) -> Document | Refusal:
        """What becomes of one document."""
        return self.judge_all([document])[0]

    def judge_all(self, documents: Sequence[Document]) -> list[Document | Refusal]:
        """What becomes of each document, in the order given."""
        scores = self.score([document.whole_text for document in documents])
        return [self.judge(document, score) for document, score in zip(documents, scores, strict=True)]
