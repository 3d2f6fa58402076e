"""The frontend's scripts from memory, before Streamlit reads them as files."""

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboard.index_page import SCRIPTS, script_names

PREFIX = "/static/js/"
FOR_EVER = "public, immutable, max-age=31536000"
"""The files' names hold a hash of what is in them."""


class KeptScripts:
    """Answers for the scripts that pages open with, some 7 MB.

    A browser that was never here asks for a hundred of them before it draws anything; read as files, in
    threads, they take the server several times as long.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app` answers for everything else."""
        self._app = app
        self._scripts = {f"{PREFIX}{name}": (SCRIPTS / name).read_bytes() for name in script_names()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        script = self._scripts.get(scope["path"]) if scope["type"] == "http" else None
        if script is None or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        answer = Response(script, media_type="text/javascript", headers={"Cache-Control": FOR_EVER})
        await answer(scope, receive, send)
