"""Asking a service over HTTP whether texts may pass; a rule says what its silence means."""

import json
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heliostat.serving.guard.config import ModeratorRule
from heliostat.serving.guard.rules import Finding
from heliostat.text.concealing import is_sendable

if TYPE_CHECKING:
    import httpx

_LONGEST_ANSWER_BYTES = 256 * 1024
logger = logging.getLogger(__name__)


async def ask_moderator(
    client: "httpx.AsyncClient", rule: ModeratorRule, texts: Sequence[str]
) -> Finding | None:
    """What the service finds; with `on_error: block` also that it could not be asked."""
    import asyncio

    import httpx

    try:
        async with asyncio.timeout(rule.timeout_seconds):
            flagged = await _ask(client, rule, texts)
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        logger.warning("guard rule '%s': %s did not judge: %s (%sed)", rule.id, rule.url, why, rule.on_error)
        if rule.on_error == "allow":
            return None
        return Finding(rule.id, "block", rule.dry_run, what="the moderator did not answer")
    return Finding(rule.id, rule.action, rule.dry_run, what="moderator") if flagged else None


async def _ask(client: "httpx.AsyncClient", rule: ModeratorRule, texts: Sequence[str]) -> bool:
    headers = {"Content-Type": "application/json"}
    if rule.token_variable:
        token = os.environ.get(rule.token_variable, "").strip()  # mounted secrets end with a newline
        if not is_sendable(token):
            raise ValueError(f"the environment variable {rule.token_variable} holds no token")
        headers["Authorization"] = f"Bearer {token}"
    # ASCII only: a surrogate that stands alone has no UTF-8, but has an escape in JSON.
    body = json.dumps({"input": list(texts), "rule": rule.id}).encode()
    content = bytearray()
    async with client.stream("POST", rule.url, content=body, headers=headers) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > _LONGEST_ANSWER_BYTES:
                raise ValueError(f"its answer has more than {_LONGEST_ANSWER_BYTES} bytes")
    return _is_flagged(json.loads(bytes(content)))


def _is_flagged(answer: Any) -> bool:
    if isinstance(answer, dict) and isinstance(answer.get("flagged"), bool):
        return bool(answer["flagged"])
    results = answer.get("results") if isinstance(answer, dict) else None
    if isinstance(results, list) and results:
        judged = [each.get("flagged") if isinstance(each, dict) else None for each in results]
        if all(isinstance(each, bool) for each in judged):
            return any(judged)
    raise ValueError('its answer has neither {"flagged": bool} nor {"results": [{"flagged": bool}]}')
