"""A recipe's steps, cut where something looks at all documents: what one go over a shard can do."""

from collections import Counter
from dataclasses import dataclass

from heliostat.data.config import CleanConfig, DecisionConfig, DocumentStepConfig
from heliostat.data.dedup_config import ExactDedupStep, NearDedupStep
from heliostat.data.steps.agreement import LabelAgreementStep


@dataclass(frozen=True)
class Segment:
    """Steps over single documents, and the decisions over all of them that follow; with the steps' names.

    A step that learns from all documents is the first of its segment.
    """

    number: int
    steps: tuple[tuple[str, DocumentStepConfig], ...]
    decisions: tuple[tuple[str, DecisionConfig], ...] = ()

    @property
    def learning(self) -> LabelAgreementStep | None:
        """The step that learns from the documents that come to this segment."""
        first = self.steps[0][1] if self.steps else None
        return first if isinstance(first, LabelAgreementStep) and first.needs_all_labels else None

    @property
    def near(self) -> NearDedupStep | None:
        """The near-dedup among the decisions."""
        found = [config for _, config in self.decisions if isinstance(config, NearDedupStep)]
        return found[0] if found else None


def named_steps(config: CleanConfig) -> list[tuple[str, DocumentStepConfig | DecisionConfig]]:
    """The steps with their names in every account: the kind, and from the second of a kind on a number."""
    seen: Counter[str] = Counter()
    named = []
    for step in config.steps:
        seen[step.kind] += 1
        named.append((step.kind if seen[step.kind] == 1 else f"{step.kind}_{seen[step.kind]}", step))
    return named


def segments_of(config: CleanConfig) -> tuple[Segment, ...]:
    """The segments in their order; there is at least one.

    The first may hold no step at all, where the recipe's first learns, and the last, where a decision was the
    recipe's last step.
    """
    segments: list[Segment] = []
    steps: list[tuple[str, DocumentStepConfig]] = []
    decisions: list[tuple[str, DecisionConfig]] = []

    def cut() -> None:
        segments.append(Segment(len(segments), tuple(steps), tuple(decisions)))
        steps.clear()
        decisions.clear()

    for name, step in named_steps(config):
        if isinstance(step, (ExactDedupStep, NearDedupStep)):
            if isinstance(step, NearDedupStep) and any(
                isinstance(each, NearDedupStep) for _, each in decisions
            ):
                cut()  # what a shard has for near-dedup is made for one of them
            decisions.append((name, step))
            continue
        if decisions or (isinstance(step, LabelAgreementStep) and step.needs_all_labels):
            cut()
        steps.append((name, step))
    if decisions:
        cut()
    cut()
    return tuple(segments)


def all_document_steps(config: CleanConfig) -> list[tuple[str, DocumentStepConfig]]:
    """The steps over single documents, with their names."""
    return [named for segment in segments_of(config) for named in segment.steps]
