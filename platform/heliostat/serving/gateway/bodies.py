"""Reading a request's body, no further and no longer than it may be."""

import asyncio

from starlette.requests import Request

from heliostat.serving.api.errors import slow_request, too_large


async def read_body(request: Request, limit_bytes: int, seconds: float) -> bytearray:
    """The body; one that says that it is too long is refused before any of it is read.

    Raises:
        RefusedRequest: it is too long, or comes too slowly.
    """
    declared = request.headers.get("content-length", "0")
    if len(declared) > len(str(limit_bytes)) or int(declared) > limit_bytes:
        raise too_large(limit_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > limit_bytes:
                    raise too_large(limit_bytes)
    except TimeoutError:
        raise slow_request(seconds) from None
    return body
