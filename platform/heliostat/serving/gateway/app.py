"""The HTTP face: an ASGI application that speaks OpenAI's API in front of any engine. Knows no Ray.

Plain ASGI throughout: response middleware that buffers would hold tokens back.
"""

import asyncio
import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from heliostat.endpoints import HEALTH_PATH
from heliostat.errors import HeliostatError
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.api.errors import (
    SERVER_ERROR,
    RefusedRequest,
    engine_failure,
    error_body,
    overloaded,
)
from heliostat.serving.api.event_stream import while_connected
from heliostat.serving.api.plain_answers import (
    detokenize_body,
    embedding_body,
    embedding_prompts,
    model_card,
    model_list,
    tokenize_body,
)
from heliostat.serving.api.text_requests import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from heliostat.serving.config import ServeConfig
from heliostat.serving.fleet.dispatch import FullError
from heliostat.serving.gateway.admin import Admin
from heliostat.serving.gateway.choosing import Models
from heliostat.serving.gateway.context import SCOPE_KEY, client_left, context_of
from heliostat.serving.gateway.description import Description
from heliostat.serving.gateway.generation import VERSION_HEADER, Generation
from heliostat.serving.gateway.services import Services
from heliostat.serving.gateway.shell import Shell, refusal

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
logger = logging.getLogger(__name__)


def build_gateway(
    models: Models, config: ServeConfig | None = None, services: Services | None = None
) -> ASGIApp:
    """The application that serves `models`, to whom the services' doormen let in."""
    config, services = config or ServeConfig(), services or Services()
    generation = Generation(models, config, services)
    plain = _Plain(models, generation, services, Description(config, services))
    application = Starlette(
        routes=[
            Route(HEALTH_PATH, plain.health),
            Route("/metrics", plain.metrics),
            Route("/openapi.json", plain.openapi),
            Route("/v1/models", plain.list_models),
            Route("/v1/models/{model_id:path}", plain.retrieve_model),
            *generation.routes,
            Route("/v1/embeddings", plain.embeddings, methods=["POST"]),
            Route("/tokenize", plain.tokenize, methods=["POST"]),
            Route("/detokenize", plain.detokenize, methods=["POST"]),
            *Admin(services).routes,
        ],
        exception_handlers={
            RefusedRequest: _refuse,
            HeliostatError: _refuse_engine,
            HTTPException: _refuse_http,
            ClientDisconnect: _left,
            Exception: _refuse_fault,
        },
    )
    application.router.redirect_slashes = False  # it would send to where the client's Host header says
    return Shell(application, services.doormen, services.metrics, config.request_timeout_seconds)


class _Plain:
    """The routes whose answer is no generated text."""

    def __init__(
        self, models: Models, generation: Generation, services: Services, description: Description
    ) -> None:
        self._models = models
        self._description = description
        self._generation = generation
        self._services = services

    async def health(self, request: Request) -> Response:
        """200 when every engine is able to work, else 503 and why."""
        names = self._models.names
        try:
            for name in names:
                await self._models.choose(name, None).model.engine.check_health()
        except HeliostatError as error:
            return JSONResponse({"status": "unhealthy", "reason": str(error), "models": names}, 503)
        return JSONResponse({"status": "ok", "models": names})

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        steering = self._services.steering
        endpoints = await steering.status() if steering else ()
        return Response(self._services.metrics.exposition(endpoints), media_type=METRICS_TYPE)

    async def openapi(self, request: Request) -> Response:
        """The description of this API."""
        return JSONResponse(self._description.document())

    async def list_models(self, request: Request) -> Response:
        """The models that the caller may ask for."""
        caller = context_of(request.scope).asker
        return JSONResponse(
            model_list([self._model(n) for n in self._models.names if caller.allows_model(n)])
        )

    async def retrieve_model(self, request: Request) -> Response:
        """One model."""
        name = request.path_params["model_id"]
        context_of(request.scope).asker.check("models", name)
        return JSONResponse(model_card(self._model(name)))

    async def embeddings(self, request: Request) -> Response:
        """Vectors of texts."""
        asked = EmbeddingRequest.parse(await self._generation.body(request))
        chosen = await self._generation.admit(request, asked.model, asked.user)
        context = context_of(request.scope)
        prompts = await asyncio.to_thread(embedding_prompts, asked, chosen.model)
        context.prompt_tokens = sum(map(len, prompts))
        context.lease = await self._services.doormen.limits.acquire(context.asker, context.prompt_tokens)
        vectors = await while_connected(request.receive, chosen.model.engine.embed(prompts))
        if vectors is None:
            return client_left()
        body = embedding_body(asked, chosen.model, prompts, vectors)
        return _json(body, chosen.version)

    async def tokenize(self, request: Request) -> Response:
        """Token ids of a text or a conversation."""
        asked = TokenizeRequest.parse(await self._generation.body(request))
        chosen = await self._generation.admit(request, asked.model, None)
        return _json(await asyncio.to_thread(tokenize_body, asked, chosen.model), chosen.version)

    async def detokenize(self, request: Request) -> Response:
        """The text of token ids."""
        asked = DetokenizeRequest.parse(await self._generation.body(request))
        chosen = await self._generation.admit(request, asked.model, None)
        return _json(await asyncio.to_thread(detokenize_body, asked, chosen.model), chosen.version)

    def _model(self, name: str) -> ServedModel:
        return self._models.choose(name, None).model


def _json(body: bytes, version: str) -> Response:
    return Response(body, media_type="application/json", headers={VERSION_HEADER: version})


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequest)
    if SCOPE_KEY in request.scope:
        context_of(request.scope).error = error.code
    return refusal(error)


async def _refuse_engine(request: Request, error: Exception) -> Response:
    """The engine failed in front of the first token, or takes no more."""
    if isinstance(error, FullError):
        return await _refuse(request, overloaded(str(error), error.retry_after_seconds))
    return await _refuse(request, engine_failure(str(error)))


async def _refuse_http(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = f"{request.method} {request.scope['path']}: {error.detail}"
    body = error_body(message, "invalid_request_error", code)
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _left(request: Request, error: Exception) -> Response:
    """The client went away while it sent its request."""
    return client_left()


async def _refuse_fault(request: Request, error: Exception) -> Response:
    """A fault of ours: its text stays in the log."""
    body = error_body("The server failed on this request; its log says why", SERVER_ERROR, "internal_error")
    return JSONResponse(body, 500)
