"""Edge: the scaling policy within Serve's controller, telling ours what it decides."""

from typing import Any

from ray.exceptions import RayError

from heliostat.serving.edge.calls import find_controller
from heliostat.serving.fleet.decisions import ScalingWord
from heliostat.serving.fleet.scaling import ScalingPolicy


class ReportingPolicy(ScalingPolicy):
    """Tells without waiting: Serve's loop, which starts and stops all replicas, goes on at once."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._controller: Any = None

    def tell(self, word: ScalingWord) -> None:
        """To this cluster's controller; a word that does not arrive is told again before long."""
        try:
            self._controller = self._controller or find_controller()
            if self._controller is not None:
                self._controller.report_scaling.remote(word)
        except RayError:  # it is being restarted
            self._controller = None
