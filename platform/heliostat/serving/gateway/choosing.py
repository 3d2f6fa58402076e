"""What can be asked for at this gateway: the face that the routes see of the catalogue."""

from dataclasses import dataclass
from typing import Protocol

from heliostat.serving.api.answering import ServedModel


@dataclass(frozen=True)
class Chosen:
    """The model that answers a request, and which version of the endpoint that is."""

    model: ServedModel
    version: str
    artifact_id: str = ""


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
