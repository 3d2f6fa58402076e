"""The OpenAPI description of a gateway: what is mounted there, and nothing else."""

from typing import Any

from heliostat.endpoints import HEALTH_PATH
from heliostat.serving.api.openapi import Operation, openapi_document
from heliostat.serving.config import ServeConfig
from heliostat.serving.gateway import shapes
from heliostat.serving.gateway.services import Services
from heliostat.serving.guard.review_queue import ReviewItem

ALWAYS = (
    Operation(
        HEALTH_PATH, "Whether it is well", shapes.Health, method="get", open=True, failing=shapes.Health
    ),
    Operation("/metrics", "Prometheus' text format", None, method="get", media_type="text/plain"),
    Operation("/openapi.json", "This description", None, method="get"),
)
_ONE = "/v1/collections/{name}"
COLLECTIONS = (
    Operation("/v1/collections", "List collections", shapes.CollectionNames, method="get"),
    Operation(_ONE, "Describe a collection", shapes.CollectionFacts, method="get"),
    Operation(_ONE, "Delete a collection", shapes.DeletedCollection, method="delete"),
    Operation(f"{_ONE}/documents", "Add documents", shapes.AddedDocuments, shapes.AddDocuments),
    Operation(
        f"{_ONE}/documents",
        "Take documents out",
        shapes.RemovedDocuments,
        shapes.RemoveDocuments,
        method="delete",
    ),
    Operation(f"{_ONE}/search", "Find passages", shapes.FoundPassages, shapes.Search),
)
CACHE = (Operation("/admin/cache/purge", "Forget kept answers", shapes.Purged, shapes.Purge),)
_DECISIONS = {"type": "string", "enum": ["pending", "approved", "rejected"]}
REVIEWS = (
    Operation(
        "/admin/reviews", "List held requests", shapes.Reviews, method="get", query={"status": _DECISIONS}
    ),
    Operation("/admin/reviews/{id}/approve", "Let a request through", ReviewItem, shapes.Decision),
    Operation("/admin/reviews/{id}/reject", "Refuse a request", ReviewItem, shapes.Decision),
)
_ENDPOINT = "/admin/endpoints/{name}"
_LINES = {"type": "integer", "minimum": 1, "maximum": 10_000}
ENDPOINTS = (
    Operation("/admin/endpoints", "List endpoints", shapes.Endpoints, method="get"),
    Operation(_ENDPOINT, "Take an endpoint down", shapes.Operated, method="delete"),
    Operation(f"{_ENDPOINT}/logs", "Read logs", shapes.Logs, method="get", query={"lines": _LINES}),
    Operation(f"{_ENDPOINT}/canary", "Give the newest a share", shapes.Operated, shapes.CanaryShare),
    Operation(f"{_ENDPOINT}/promote", "Make the newest the only one", shapes.Operated, shapes.Nothing),
    Operation(f"{_ENDPOINT}/rollback", "Go back to the one before", shapes.Operated, shapes.Nothing),
    Operation(f"{_ENDPOINT}/scale", "Bound the replicas", shapes.Operated, shapes.ReplicaBounds),
)


class Description:
    """Made once with keys and once without, as that may change while a gateway runs."""

    def __init__(self, config: ServeConfig, services: Services) -> None:
        self._services = services
        self._mounted = (
            *ALWAYS,
            *(COLLECTIONS if services.collections and config.retrieval else ()),
            *(CACHE if services.answers else ()),
            *(REVIEWS if services.reviews else ()),
            *(ENDPOINTS if services.steering else ()),
        )
        self._made: dict[bool, dict[str, Any]] = {}

    def document(self) -> dict[str, Any]:
        """The document."""
        keys_required = self._services.doormen.access.needs_key
        if keys_required not in self._made:
            self._made[keys_required] = openapi_document(keys_required, self._mounted)
        return self._made[keys_required]
