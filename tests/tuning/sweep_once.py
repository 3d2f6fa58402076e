"""A sweep as a program of its own, so that a test can kill it."""

import sys

from heliostat.ray_session import ray_session
from heliostat.storage import open_artifact
from heliostat.training.config import TrainConfig
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.run import SweepInputs, tune_hyperparameters
from heliostat.tuning.settings import Settings
from heliostat.workspace import Workspace

if __name__ == "__main__":
    config_json, train_json, model, dataset, root = sys.argv[1:]
    inputs = SweepInputs(open_artifact(model, ("model",)), open_artifact(dataset, ("tokenized",)))
    start = Settings(train=TrainConfig.model_validate_json(train_json), model="tiny")
    with ray_session(num_cpus=2):
        tune_hyperparameters(
            TuneConfig.model_validate_json(config_json), start, inputs, Workspace.resolve(root)
        )
