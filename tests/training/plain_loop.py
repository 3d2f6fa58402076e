"""A training loop of ten lines without DeepSpeed or Ray: what an objective asks of any loop."""

import numpy as np

from heliostat.training.objectives.selection import ObjectiveInputs, Prepared, prepare


def learn(inputs: ObjectiveInputs, steps: int, batch: int = 8, learning_rate: float = 3e-3) -> Prepared:
    """Prepare a model and train it on random positions of its split; it ends in eval mode."""
    import torch

    torch.manual_seed(0)
    prepared = prepare(inputs)
    model, objective = prepared.model, prepared.objective
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    chance = np.random.default_rng(0)
    model.train()
    for _ in range(steps):
        positions = chance.integers(len(objective), size=batch).tolist()
        loss = objective.loss(model, positions, "cpu").summed / objective.weight(positions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    return prepared


def held_out(prepared: Prepared, split: str = "test", batch: int = 8) -> dict[str, float]:
    """The objective's figures over a split, `loss` among them."""
    import torch

    objective = prepared.objective.for_split(split)
    prepared.model.eval()
    sums: dict[str, float] = {}
    for start in range(0, len(objective), batch):
        positions = list(range(start, min(start + batch, len(objective))))
        with torch.no_grad():
            loss = objective.loss(prepared.model, positions, "cpu")
        for name, value in ({"loss": loss.summed} | loss.metrics).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    weight = objective.weight(range(len(objective)))
    return {name: value / weight for name, value in sums.items()}
