"""Edge: asking the controller, from a driver or from an actor's thread."""

from typing import Any

import ray

from heliostat.errors import ClusterError

NAME = "heliostat-controller"
NAMESPACE = "heliostat"
CALL_TIMEOUT_SECONDS = 30.0


def find_controller() -> Any | None:
    """This cluster's controller, or None where nothing was deployed."""
    try:
        return ray.get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        return None


def call(method: Any, *arguments: Any) -> Any:
    """Ask the controller from a driver.

    Raises:
        ClusterError: it does not answer.
    """
    try:
        return ray.get(method.remote(*arguments), timeout=CALL_TIMEOUT_SECONDS)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
        raise ClusterError(f"this cluster's serving controller does not answer: {error}") from error
