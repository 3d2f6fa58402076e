"""The frontend's scripts from memory, before Streamlit reads them as files."""

import gzip

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.index_page import SCRIPTS, script_names

PREFIX = "/static/js/"
FOR_EVER = "public, immutable, max-age=31536000"
"""The files' names hold a hash of what is in them."""
TYPE = "text/javascript"
GZIP_LEVEL = 5
"""A higher one takes twice the time for a fiftieth."""


class KeptScripts:
    """Answers for the scripts that pages open with: some 7 MB, packed 1.9.

    A browser that was never here asks for a hundred of them before it draws anything; read as files, in
    threads, they take the server several times as long. They are packed once, in a tenth of a second, where
    Streamlit sends its files unpacked: a laptop's line to a cluster is what one would wait for.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app` answers for everything else."""
        self._app = app
        self._scripts = {
            f"{PREFIX}{name}": _both_ways((SCRIPTS / name).read_bytes()) for name in script_names()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        script = self._scripts.get(scope["path"]) if scope["type"] == "http" else None
        if script is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        plain, packed = script
        headers = {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
        if _takes_gzip(Headers(scope=scope).get("accept-encoding", "")):
            answer = Response(packed, media_type=TYPE, headers=headers | {"Content-Encoding": "gzip"})
        else:
            answer = Response(plain, media_type=TYPE, headers=headers)
        await answer(scope, receive, send)


def _both_ways(script: bytes) -> tuple[bytes, bytes]:
    return script, gzip.compress(script, GZIP_LEVEL, mtime=0)


def _takes_gzip(accepted: str) -> bool:
    """Whether a browser says so (RFC 9110, 12.5.3), and not that it must not be (`gzip;q=0`)."""
    for each in accepted.split(","):
        coding, _, weight = each.replace(" ", "").lower().partition(";q=")
        if coding == "gzip":
            return not weight or weight.strip("0.") != ""
    return False
