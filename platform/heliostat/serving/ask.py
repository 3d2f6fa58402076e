"""Ask an endpoint a question with OpenAI's own client, and time the answer."""

import time
from collections.abc import Iterator
from typing import Any

from heliostat.endpoints import Endpoint
from heliostat.errors import ServingError

NO_KEY = "none"  # the client insists on one


class StreamedAnswer:
    """Text as it comes; when it has come to its end, `figures` says how fast it was."""

    def __init__(self, texts: Iterator[tuple[str, int]]) -> None:
        """`texts` yields new text and, with the last one, the number of tokens."""
        self._texts = texts
        self.figures: dict[str, float] = {}

    def __iter__(self) -> Iterator[str]:
        """Yield the answer's text; to be gone through once.

        `figures` then holds time_to_first_token_seconds, tokens_per_second (of the tokens behind the first)
        and completion_tokens.
        """
        started = time.monotonic()
        first_at = None
        tokens = 0
        for text, count in self._texts:
            tokens = count or tokens
            if text:
                first_at = first_at or time.monotonic()
                yield text
        ended = time.monotonic()
        first_at = first_at or ended
        writing = ended - first_at
        self.figures = {
            "time_to_first_token_seconds": first_at - started,
            "tokens_per_second": (tokens - 1) / writing if writing and tokens > 1 else 0.0,
            "completion_tokens": float(tokens),
        }


def stream_answer(
    endpoint: Endpoint, question: str, max_tokens: int = 128, temperature: float = 0, api_key: str = NO_KEY
) -> StreamedAnswer:
    """The endpoint's answer to one question; the request is sent when iteration begins.

    Iterating raises ServingError when the endpoint does not answer.
    """
    import openai  # here, so that its import and set-up do not count as waiting for the first token

    client = openai.OpenAI(base_url=endpoint.base_url, api_key=api_key, max_retries=0)
    request = {
        "model": endpoint.model_id,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return StreamedAnswer(_texts(client, request))


def _texts(client: Any, request: dict[str, Any]) -> Iterator[tuple[str, int]]:
    import openai

    try:
        with client:
            for chunk in client.chat.completions.create(**request):
                text = chunk.choices[0].delta.content or "" if chunk.choices else ""
                yield text, chunk.usage.completion_tokens if chunk.usage else 0
    except openai.OpenAIError as error:
        raise ServingError(f"{client.base_url}: no answer: {error}") from error
