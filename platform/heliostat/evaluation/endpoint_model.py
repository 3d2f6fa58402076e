"""A served model that is asked over OpenAI's HTTP interface. It writes; likelihoods it does not tell."""

import json
import os
import time
from typing import Any

from heliostat.errors import EvaluationError
from heliostat.evaluation.config import ServedModel
from heliostat.evaluation.requests import Answer, Continue, Request
from heliostat.text.concealing import is_sendable

MOST_STOPS = 4  # OpenAI's limit


class EndpointModel:
    """An endpoint; one request at a time."""

    def __init__(self, served: ServedModel) -> None:
        """Nothing is sent yet."""
        import httpx

        key = os.environ.get(served.key_variable or "", "").strip()
        if served.key_variable and not is_sendable(key):
            raise EvaluationError(
                f"the environment variable {served.key_variable} holds no key for {served.url}; set it here "
                "and on every node of the cluster"
            )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._served = served
        url = served.url.rstrip("/") + "/"
        self._client = httpx.Client(base_url=url, headers=headers, timeout=served.timeout_seconds)

    def answer(self, requests: list[Request]) -> list[Answer]:
        """The answers, streamed, with the time to their first text.

        Raises:
            EvaluationError: the endpoint does not answer, or is asked for likelihoods.
        """
        return [self._continue(each) for each in requests if isinstance(each, Continue)]

    def _continue(self, request: Continue) -> Answer:
        chat = not isinstance(request.prompt, str)
        body: dict[str, Any] = {
            "model": self._served.model,
            "max_tokens": request.max_new_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.until:
            body["stop"] = list(request.until[:MOST_STOPS])
        body |= {"messages": list(request.prompt)} if chat else {"prompt": request.prompt}
        return self._streamed("chat/completions" if chat else "completions", body, request.until)

    def _streamed(self, path: str, body: dict[str, Any], until: tuple[str, ...]) -> Answer:
        import httpx

        started, first, tokens = time.monotonic(), 0.0, 0
        text = ""
        try:
            with self._client.stream("POST", path, json=body) as response:
                if not response.is_success:
                    said = " ".join(response.read().decode(errors="replace").split())[:200]
                    raise EvaluationError(f"{self._served.url} answered {response.status_code}: {said}")
                for line in response.iter_lines():
                    event = _event(line)
                    tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
                    for choice in event.get("choices", []):
                        piece = choice.get("text") or choice.get("delta", {}).get("content") or ""
                        first = first or (time.monotonic() - started if piece else 0.0)
                        text += piece
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise EvaluationError(f"{self._served.url} does not answer ({said}); see that it runs") from None
        for mark in until:
            text = text.split(mark)[0]
        seconds = time.monotonic() - started
        return {"text": text, "tokens": tokens, "seconds": seconds, "first_token_seconds": first or seconds}


def _event(line: str) -> dict[str, Any]:
    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
    if not data or data == "[DONE]":
        return {}
    try:
        event = json.loads(data)
    except ValueError:
        return {}
    if isinstance(event, dict) and "error" in event:
        raise EvaluationError(f"the endpoint broke off: {str(event['error'])[:200]}")
    return event if isinstance(event, dict) else {}
