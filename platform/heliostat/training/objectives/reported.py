"""Which figures a step reports, by objective. Light: what asks for a metric is checked without torch."""

from heliostat.training.objective_config import (
    DistillationObjective,
    DpoObjective,
    Objective,
    RewardObjective,
)

OF_ANY = (
    "loss",
    "tokens",
    "learning_rate",
    "gradient_norm",
    "tokens_per_second",
    "step_seconds",
    "mfu",
)
OF_PAIRS = ("accuracy", "margin", "chosen_reward", "rejected_reward")


def figures_of(objective: Objective) -> tuple[str, ...]:
    """What can be compared between runs; held-out figures first."""
    own: tuple[str, ...] = ()
    if isinstance(objective, DpoObjective | RewardObjective):
        own = OF_PAIRS
    elif isinstance(objective, DistillationObjective):
        own = ("kl", "label_loss")
    held_out = tuple(f"validation_{name}" for name in ("loss", *own))
    return (*held_out, *OF_ANY, *own)
