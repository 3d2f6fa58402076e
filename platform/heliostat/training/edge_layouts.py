"""The engine that a layout asks for."""

from typing import Any

from heliostat.training.config import TrainConfig
from heliostat.training.edge_engine import ModelEngine
from heliostat.training.timing import StepTimer


def make_engine(
    config: TrainConfig,
    model: Any,
    num_workers: int,
    timer: StepTimer | None = None,
    universal: bool = False,
) -> ModelEngine:
    """Lay a model out over the workers. The kinds are imported here, as DeepSpeed's parts take their time."""
    if config.layout.pipeline_parallel > 1:
        from heliostat.training.edge_pipeline import PipelineEngine

        return PipelineEngine(config, model, num_workers, timer, universal)
    if config.layout.expert_parallel > 1:
        from heliostat.training.edge_experts import ExpertEngine

        return ExpertEngine(config, model, num_workers, timer, universal)
    if config.layout.sequence_parallel > 1:
        from heliostat.training.edge_sequence import SequenceEngine

        return SequenceEngine(config, model, num_workers, timer, universal)
    return ModelEngine(config, model, num_workers, timer, universal)
