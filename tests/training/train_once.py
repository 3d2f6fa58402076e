"""A training run as a program of its own, so that a test can kill it: CONFIG_JSON MODEL DATASET WORKSPACE."""

import sys

from heliostat.ray_session import ray_session
from heliostat.storage import open_artifact
from heliostat.training.config import TrainConfig
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

if __name__ == "__main__":
    config_json, model, dataset, root = sys.argv[1:]
    with ray_session(num_cpus=2):
        train_model(
            TrainConfig.model_validate_json(config_json),
            open_artifact(model, ("model",)),
            open_artifact(dataset, ("tokenized",)),
            Workspace.resolve(root),
        )
