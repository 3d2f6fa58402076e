"""The admin routes: how endpoints are doing, and what is done to them. Only for keys with that scope.

GET /admin/endpoints, /admin/endpoints/NAME/logs; POST /admin/endpoints/NAME/{canary, promote, rollback,
scale}; DELETE /admin/endpoints/NAME.
"""

from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliostat.endpoints import DeploymentRecord
from heliostat.serving.api.errors import RefusedRequest, too_large
from heliostat.serving.fleet.status import EndpointStatus

MOST_BYTES = 4096
USUAL_LINES = 100
MOST_LINES = 10_000


class Steering(Protocol):
    """Whoever can change what is served."""

    async def status(self) -> list[EndpointStatus]:
        """Every endpoint."""

    async def operate(self, what: str, name: str, values: dict[str, Any]) -> DeploymentRecord | str | None:
        """The record behind a change, or why it cannot be made."""

    async def logs(self, name: str, num_lines: int) -> dict[str, list[str]]:
        """The last lines of each replica's log, by `VERSION/REPLICA`."""


class _Empty(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Canary(_Empty):
    weight: float = Field(ge=0, le=100)


class _Scale(_Empty):
    fewest: int = Field(ge=0)
    most: int = Field(ge=1)


ASKED: dict[str, type[_Empty]] = {"canary": _Canary, "promote": _Empty, "rollback": _Empty, "scale": _Scale}


class Admin:
    """The handlers."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    @property
    def routes(self) -> list[Route]:
        """What is mounted below /admin."""
        operations = "/admin/endpoints/{name}/{what:str}"
        return [
            Route("/admin/endpoints", self.status),
            Route("/admin/endpoints/{name}", self.delete, methods=["DELETE"]),
            Route("/admin/endpoints/{name}/logs", self.logs),
            Route(operations, self.operate, methods=["POST"]),
        ]

    async def status(self, request: Request) -> Response:
        """Every endpoint with its versions and replicas."""
        endpoints = [each.model_dump(mode="json") for each in await self._steering.status()]
        return JSONResponse({"endpoints": endpoints})

    async def logs(self, request: Request) -> Response:
        """The end of each replica's log."""
        asked = request.query_params.get("lines", str(USUAL_LINES))
        if not asked.isdecimal() or not 1 <= int(asked) <= MOST_LINES:
            raise RefusedRequest(f"'lines' must be from 1 to {MOST_LINES}", "invalid_value", param="lines")
        return JSONResponse({"logs": await self._steering.logs(request.path_params["name"], int(asked))})

    async def operate(self, request: Request) -> Response:
        """Change shares or replicas."""
        what, name = request.path_params["what"], request.path_params["name"]
        if what not in ASKED:
            raise RefusedRequest(
                f"'{what}' cannot be done to an endpoint; use one of {', '.join(ASKED)}", "not_found", 404
            )
        values = ASKED[what]
        try:
            asked = values.model_validate(orjson.loads(await _body(request) or b"{}"))
        except (ValidationError, orjson.JSONDecodeError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            fields = ", ".join(values.model_fields) or "nothing"
            raise RefusedRequest(f"The body must hold {fields}: {reason}", "invalid_value") from None
        return await self._do(what, name, asked.model_dump())

    async def delete(self, request: Request) -> Response:
        """Take an endpoint down."""
        return await self._do("delete", request.path_params["name"], {})

    async def _do(self, what: str, name: str, values: dict[str, Any]) -> Response:
        done = await self._steering.operate(what, name, values)
        if isinstance(done, str):
            raise RefusedRequest(done, "refused", 409)
        versions = [] if done is None else [version.model_dump(mode="json") for version in done.versions]
        return JSONResponse({"name": name, "versions": versions})


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise too_large(MOST_BYTES)
    return bytes(body)
