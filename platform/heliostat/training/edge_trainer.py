"""Ray Train's trainer without the actors that no run of ours has a use for.

Each takes two to three seconds of a processor to start and a hundredth of one while it waits, beside workers
that wait for the slowest of them.
"""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from heliostat.ray_session import is_local


class LeanTrainer(TorchTrainer):
    """Rows are read from the tokenized dataset, so nothing hands out shards of Ray datasets; and in a cluster
    that ends with its run nothing is left for a cleaner of placement groups."""

    def _create_default_callbacks(self) -> list[Any]:
        idle = (DatasetsCallback, *([PlacementGroupCleanerCallback] if is_local() else []))
        return [each for each in super()._create_default_callbacks() if not isinstance(each, idle)]
