"""What can be asked for at this gateway: the face that the routes see of the catalogue."""

from dataclasses import dataclass
from typing import Protocol

from heliostat.serving.api.answering import ServedModel
from heliostat.serving.guard.guard import Guard


@dataclass(frozen=True)
class Chosen:
    """The model that answers a request, which version of the endpoint that is, and what watches over it.

    `adapter` is the name, behind the endpoint's, of the adapter that was asked for.
    """

    model: ServedModel
    version: str
    artifact_id: str = ""
    guard: Guard | None = None
    adapter: str | None = None

    @property
    def endpoint(self) -> str:
        """The endpoint's name, whatever adapter is asked for."""
        return self.model.parent or self.model.id


class Models(Protocol):
    """All endpoints."""

    @property
    def names(self) -> list[str]:
        """What requests can ask for: endpoints and, as `ENDPOINT:NAME`, their adapters."""

    def choose(self, name: str, session: str | None) -> Chosen:
        """Who answers a request for one of the names; the same for the same session.

        Raises:
            RefusedRequest: there is no endpoint of that name, or it has no such adapter.
        """
