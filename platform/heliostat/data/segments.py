"""A recipe's steps, cut where a decision over all documents comes: what one go over a shard can do."""

from collections import Counter
from dataclasses import dataclass

from heliostat.data.config import CleanConfig, DecisionConfig, DocumentStepConfig
from heliostat.data.dedup_config import ExactDedupStep, NearDedupStep


@dataclass(frozen=True)
class Segment:
    """Steps over single documents, and the decisions over all of them that follow; with the steps' names."""

    number: int
    steps: tuple[tuple[str, DocumentStepConfig], ...]
    decisions: tuple[tuple[str, DecisionConfig], ...] = ()

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
    """The segments in their order; there is at least one, and only the last is without decisions.

    The last may hold no step at all: then a decision was the recipe's last step.
    """
    segments: list[Segment] = []
    steps: list[tuple[str, DocumentStepConfig]] = []
    decisions: list[tuple[str, DecisionConfig]] = []
    for name, step in named_steps(config):
        if isinstance(step, (ExactDedupStep, NearDedupStep)):
            decisions.append((name, step))
            continue
        if decisions:
            segments.append(Segment(len(segments), tuple(steps), tuple(decisions)))
            steps, decisions = [], []
        steps.append((name, step))
    if decisions:
        segments.append(Segment(len(segments), tuple(steps), tuple(decisions)))
        steps = []
    return (*segments, Segment(len(segments), tuple(steps)))


def all_document_steps(config: CleanConfig) -> list[tuple[str, DocumentStepConfig]]:
    """The steps over single documents, with their names."""
    return [named for segment in segments_of(config) for named in segment.steps]
