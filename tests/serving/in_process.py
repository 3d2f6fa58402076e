"""Pieces of the serving tests: engine configs that leave a core to others, and a client without a network."""

from contextlib import asynccontextmanager

import httpx

from heliostat.serving.api.errors import unknown_model
from heliostat.serving.config import OpenVINOEngineConfig, TransformersEngineConfig
from heliostat.serving.gateway.choosing import Chosen

CONFIGS = {
    "transformers": TransformersEngineConfig(num_threads=1),
    "openvino": OpenVINOEngineConfig(num_threads=1),
}
LONG = 8000
"""Tokens: seconds of work for the tiny model of `folders`, more than a pause of a busy machine."""


@asynccontextmanager
async def client_of(application, **options):
    """An HTTP client of an ASGI application in this process."""
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", **options) as client:
        yield client


class FixedModels:
    """Models that are all there is; `guards` has the filters of some, by id."""

    def __init__(self, *models, guards=None) -> None:
        self._models = {model.id: model for model in models}
        self._guards = guards or {}

    @property
    def names(self) -> list[str]:
        return list(self._models)

    def choose(self, name, session):
        if name not in self._models:
            raise unknown_model(name, self.names)
        return Chosen(self._models[name], "v1", guard=self._guards.get(name))
