"""The admin routes: how endpoints are doing, and what is done to them. Only for keys with that scope.

GET /admin/endpoints, /admin/endpoints/NAME/logs, /admin/reviews; POST /admin/endpoints/NAME/{canary,
promote, rollback, scale}; DELETE /admin/endpoints/NAME; POST /admin/reviews/ID/{approve, reject},
/admin/cache/purge.
"""

import asyncio
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliostat.errors import ConfigError
from heliostat.serving.api.errors import RefusedRequest, invalid
from heliostat.serving.gateway.bodies import read_body
from heliostat.serving.gateway.context import context_of
from heliostat.serving.gateway.services import Services
from heliostat.serving.gateway.shapes import CanaryShare, Decision, Nothing, Purge, ReplicaBounds

MOST_BYTES = 4096
BODY_SECONDS = 10.0
USUAL_LINES = 100
MOST_LINES = 10_000


Asked = TypeVar("Asked", bound=Nothing)
ASKED: dict[str, type[Nothing]] = {
    "canary": CanaryShare,
    "promote": Nothing,
    "rollback": Nothing,
    "scale": ReplicaBounds,
}


class Admin:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._steering = services.steering
        self._reviews = services.reviews
        self._answers = services.answers

    @property
    def routes(self) -> list[Route]:
        """What is mounted below /admin."""
        routes = [Route("/admin/cache/purge", self.purge, methods=["POST"])] if self._answers else []
        if self._reviews:
            routes += [
                Route("/admin/reviews", self.reviews),
                Route("/admin/reviews/{id}/{decision}", self.decide, methods=["POST"]),
            ]
        return routes + (self._endpoints() if self._steering else [])

    def _endpoints(self) -> list[Route]:
        operations = "/admin/endpoints/{name}/{what:str}"
        return [
            Route("/admin/endpoints", self.status),
            Route("/admin/endpoints/{name}", self.delete, methods=["DELETE"]),
            Route("/admin/endpoints/{name}/logs", self.logs),
            Route(operations, self.operate, methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        """Every endpoint with its versions and replicas."""
        assert self._steering
        endpoints = [each.model_dump(mode="json") for each in await self._steering.status()]
        return JSONResponse({"endpoints": endpoints})

    async def logs(self, request: Request) -> Response:
        """The end of each replica's log."""
        asked = request.query_params.get("lines", str(USUAL_LINES))
        if not (asked.isdecimal() and len(asked) < 10 and 1 <= int(asked) <= MOST_LINES):
            raise RefusedRequest(f"'lines' must be from 1 to {MOST_LINES}", "invalid_value", param="lines")
        assert self._steering
        return JSONResponse({"logs": await self._steering.logs(request.path_params["name"], int(asked))})

    async def operate(self, request: Request) -> Response:
        """Change shares or replicas."""
        what, name = request.path_params["what"], request.path_params["name"]
        if what not in ASKED:
            raise RefusedRequest(
                f"'{what}' cannot be done to an endpoint; use one of {', '.join(ASKED)}", "not_found", 404
            )
        asked = await _parsed(request, ASKED[what])
        return await self._do(what, name, asked.model_dump())

    async def reviews(self, request: Request) -> Response:
        """The requests that a rule held, those that wait first."""
        assert self._reviews
        status: Any = request.query_params.get("status")
        if status not in (None, "pending", "approved", "rejected"):
            raise invalid("status", "it is pending, approved or rejected")
        items = await asyncio.to_thread(self._reviews.list, status)
        return JSONResponse({"reviews": [item.model_dump(mode="json") for item in items]})

    async def decide(self, request: Request) -> Response:
        """Approve or reject a request that waits."""
        assert self._reviews
        decisions = {"approve": self._reviews.approve, "reject": self._reviews.reject}
        decide = decisions.get(request.path_params["decision"])
        if decide is None:
            raise RefusedRequest("A review can be approved or rejected", "not_found", 404)
        asked = await _parsed(request, Decision)
        by = context_of(request.scope).asker.name
        try:
            item = await asyncio.to_thread(decide, request.path_params["id"], by, asked.reason)
        except ConfigError as error:
            raise RefusedRequest(str(error), "not_found", 404) from None
        return JSONResponse(item.model_dump(mode="json"))

    async def purge(self, request: Request) -> Response:
        """Forget kept answers: of a tenant, of a model, or all."""
        assert self._answers
        asked = await _parsed(request, Purge)
        return JSONResponse({"num_purged": await self._answers.cache.purge(asked.tenant, asked.model)})

    async def delete(self, request: Request) -> Response:
        """Take an endpoint down."""
        return await self._do("delete", request.path_params["name"], {})

    async def _do(self, what: str, name: str, values: dict[str, Any]) -> Response:
        assert self._steering
        done = await self._steering.operate(what, name, values)
        if isinstance(done, str):
            raise RefusedRequest(done, "refused", 409)
        versions = [] if done is None else [version.model_dump(mode="json") for version in done.versions]
        return JSONResponse({"name": name, "versions": versions})


async def _parsed(request: Request, body: type[Asked]) -> Asked:
    try:
        return body.model_validate(orjson.loads(await read_body(request, MOST_BYTES, BODY_SECONDS) or b"{}"))
    except (ValidationError, orjson.JSONDecodeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        fields = ", ".join(body.model_fields) or "nothing"
        raise RefusedRequest(f"The body must hold {fields}: {reason}", "invalid_value") from None
