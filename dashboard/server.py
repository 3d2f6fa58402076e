"""The server: Streamlit's ASGI app behind the gate, with login, health and the work in the background."""

import argparse
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import streamlit
import uvicorn
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from streamlit.web import bootstrap

from dashboard import look, started
from dashboard.gate import Gate
from dashboard.index_page import content_policy, icon, index_html, look_script
from dashboard.kept_scripts import KeptScripts
from dashboard.login_page import login, logout
from dashboard.login_page import look as keep_look
from dashboard.pages import PAGES
from heliostat.control.door import check_trusted, check_way_in, is_loopback
from heliostat.errors import ConfigError, HeliostatError

SCRIPT = Path(__file__).resolve().parent / "app.py"
Background = Callable[[], AbstractContextManager[object]]
"""What runs beside the server: started with it, ended with it."""


def build_app(background: Background = nullcontext) -> streamlit.App:
    """The ASGI app. `started` says in the environment where it works and who gets in."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        with background():
            yield

    return streamlit.App(
        SCRIPT,
        lifespan=lifespan,
        middleware=[Middleware(Gate, policy=content_policy(index_html())), Middleware(KeptScripts)],
        routes=[
            Route("/healthz", _health),
            Route("/login", login, methods=["GET", "POST"]),
            Route("/logout", logout, methods=["GET", "POST"]),
            Route("/look", keep_look),
            Route("/look.js", look_script),
            Route("/heliostat.svg", icon),
            Route("/", _index),
            *(Route(f"/{name}", _index) for name in PAGES),
        ],
        on_script_error=show_fault,
    )


async def _index(request: Request) -> Response:
    page = index_html(request.url.path.strip("/") or "home", bool(request.query_params))
    return Response(page, media_type="text/html", headers={"Cache-Control": "no-store"})


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def show_fault(error: Exception) -> bool:
    """One line for the person, the traceback for the log; the frame around the page stays."""
    from dashboard.parts.text import plain
    from dashboard.session import current_translator

    t = current_translator()
    if isinstance(error, HeliostatError):
        streamlit.error(plain(error), icon=":material/error:")
        return True
    streamlit.error(t("app.fault", kind=type(error).__name__), icon=":material/bug_report:")
    return True  # Streamlit has written the traceback; its own box would ask other hosts about it


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM; ends the process."""
    options = _parser().parse_args(arguments)
    try:
        from dashboard.background import at_work

        sys.exit(serve(options, at_work))
    except HeliostatError as error:
        print(f"heliostat: error: {error}", file=sys.stderr)
        sys.exit(2)


def serve(options: argparse.Namespace, background: Background = nullcontext) -> int:
    """Serve on `options.host` and `options.port` until told to end.

    Raises:
        ConfigError: the port is taken, or others would reach a dashboard without a login.
    """
    os.environ[started.OPEN] = "0" if is_loopback(options.host) else "1"
    keeper = started.door()
    check_way_in(options.host, keeper.accounts, keeper.proxy)
    check_trusted(started.started().trusted_proxies)
    bootstrap.load_config_options({name.replace(".", "_"): value for name, value in look.options().items()})
    with _listening(options.host, options.port) as sock:
        url = _url(options, sock.getsockname()[1])
        server = uvicorn.Server(_uvicorn(build_app(background), options))
        # uvicorn raises a signal again once it has ended; by then it has done its work.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda number, frame: None)
        _say_where(url, options)
        server.run(sockets=[sock])
    return 0 if server.started else 1


def _uvicorn(app: streamlit.App, options: argparse.Namespace) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
        access_log=False,
        log_level="warning",
        server_header=False,
        # Whose word counts for where a request comes from says `forwarded`, not an environment's variable.
        proxy_headers=False,
        ws_max_size=200 * 2**20,
        timeout_graceful_shutdown=3,
    )


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}; take another --port or --host"
        ) from None
    return sock


def _url(options: argparse.Namespace, port: int) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"{'https' if options.tls_cert else 'http'}://{host}:{port}"


def _say_where(url: str, options: argparse.Namespace) -> None:
    print(f"The dashboard is at {url} (Ctrl-C ends it).", flush=True)
    behind_proxy = started.door().proxy is not None or started.started().trusted_proxies
    if not is_loopback(options.host) and not options.tls_cert and not behind_proxy:
        print(
            "Passwords travel unencrypted: give --tls-cert and --tls-key, or put a proxy with TLS before it "
            "and name that with --trusted-proxy.",
            file=sys.stderr,
            flush=True,
        )
    has_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if options.browser and has_screen and is_loopback(options.host):
        threading.Timer(1.0, webbrowser.open, [url]).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heliostat dashboard")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--no-browser", dest="browser", action="store_false")
    return parser
