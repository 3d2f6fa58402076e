"""How the gateway's HTTP server is set up."""

import uvicorn
from starlette.types import ASGIApp

from heliostat.serving.access.tls import uvicorn_options
from heliostat.serving.config import ServeConfig

KEEP_ALIVE_SECONDS = 75


def server_options(application: ASGIApp, config: ServeConfig) -> uvicorn.Config:
    """Uvicorn's options; where it listens is a socket that it is given."""
    return uvicorn.Config(
        application,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(config.drain_timeout_seconds) or 1,
        backlog=4096,
        **uvicorn_options(config.access.tls),
    )
