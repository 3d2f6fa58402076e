"""What a local cluster's autoscaler starts nodes with: Ray's own provider for many nodes on one machine, with
a folder of its own for each node. Runs in Ray's autoscaler; nothing here imports it.

In one folder, a node that comes unpacks a job's files again over those that the others' processes stand in.
"""

from functools import partial
from pathlib import Path
from typing import Any

from ray._private import parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class OneMachineProvider(FakeMultiNodeProvider):
    """Starts and ends raylets here; `provider.folder` in the autoscaler's file is where they write."""

    def _create_node_with_resources_and_labels(self, *arguments: Any) -> None:
        with self.lock:  # Ray's provider makes the parameters itself, and takes no folder
            parameters = parameter.RayParams
            folder = Path(self.provider_config["folder"]) / f"n{self._next_node_id + 1}"
            folder.mkdir(mode=0o700, exist_ok=True)
            parameter.RayParams = partial(parameters, temp_dir=str(folder))
            try:
                super()._create_node_with_resources_and_labels(*arguments)
            finally:
                parameter.RayParams = parameters
