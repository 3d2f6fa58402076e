"""What can be asked for at this gateway: the face that the routes see of the catalogue."""

from dataclasses import dataclass
from typing import Protocol

from heliostat.serving.api.answering import ServedModel
from heliostat.serving.guard.guard import Guard


@dataclass(frozen=True)
class Chosen:
    """The model that answers a request, which version of the endpoint that is, and what watches over it."""

    model: ServedModel
    version: str
    artifact_id: str = ""
    guard: Guard | None = None


class Models(Protocol):
    """All endpoints."""

    @property
    def names(self) -> list[str]:
        """The endpoints, by name."""

    def choose(self, name: str, session: str | None) -> Chosen:
        """Who answers a request for an endpoint; the same for the same session.

        Raises:
            RefusedRequest: there is no endpoint of that name.
        """
