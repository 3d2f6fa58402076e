"""What goes over a channel, a JSON object a line.

To the engine: `{"hello": secret}` first; `{"add": id, "prompt_ids": [..], "parameters": {..}, "adapter":
{name, artifact_id, artifact_uri}}` (or null), `{"abort": id}`, `{"embed": id, "prompts": [[..]]}`, `{"logs":
[id, lines]}`. From it: `{"tokens": [[id, ids, finish_reason, logprobs]]}`, `{"vectors": [id, [[..]]]}`,
`{"said": [id, [line]]}`, and `{"refused": [id, reason, why]}`; "full" and "lost" say that another replica may
take the request, "fault" that it is the request's or the engine's.
"""

from collections.abc import Sequence
from typing import Any, Literal

import orjson

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import (
    FinishReason,
    Grammar,
    SamplingParameters,
    TokenDelta,
    TokenLogprob,
)

LINE_LIMIT_BYTES = 1 << 26
Why = Literal["full", "lost", "fault"]


class ElsewhereError(ServingError):
    """This replica is full, leaving or gone: another may take the request if none of its answer was seen."""

    def __init__(self, message: str, full: bool = False) -> None:
        """`full` says that it is well and has as many requests as it takes."""
        super().__init__(message)
        self.full = full


def line(message: dict[str, Any]) -> bytes:
    """A message as it is sent; dataclasses become objects."""
    return orjson.dumps(message) + b"\n"


def to_parameters(values: dict[str, Any]) -> SamplingParameters:
    """Sampling parameters from their JSON."""
    grammar = values["grammar"]
    sequences = {
        "logit_bias": tuple((int(token), float(bias)) for token, bias in values["logit_bias"]),
        "stop_token_ids": tuple(values["stop_token_ids"]),
        "grammar": Grammar(**grammar) if grammar else None,
    }
    return SamplingParameters(**(values | sequences))


def from_delta(request_id: str, delta: TokenDelta) -> list[Any]:
    """A delta as one entry of `tokens`."""
    logprobs = [(entry.logprob, entry.top) for entry in delta.logprobs] if delta.logprobs else None
    return [request_id, delta.token_ids, delta.finish_reason, logprobs]


def to_logprobs(entries: Sequence[Any] | None) -> tuple[TokenLogprob, ...]:
    """Logprobs from an entry of `tokens`."""
    return tuple(
        TokenLogprob(logprob, tuple((token, value) for token, value in top)) for logprob, top in entries or ()
    )


def to_error(reason: str, why: Why) -> ServingError:
    """What a refusal means to the gateway."""
    return ServingError(reason) if why == "fault" else ElsewhereError(reason, full=why == "full")


class Inbox:
    """What has arrived for one request and was not read yet; what piles up is read as one delta."""

    def __init__(self, wake: Any) -> None:
        """`wake` is called when there is news."""
        self._wake = wake
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish_reason: FinishReason | None = None
        self.error: ServingError | None = None

    def put(self, token_ids: list[int], finish_reason: FinishReason | None, logprobs: Any) -> None:
        """Add tokens."""
        self._token_ids += token_ids
        self._logprobs += to_logprobs(logprobs)
        self._finish_reason = finish_reason
        self._wake()

    def fail(self, error: ServingError) -> None:
        """End with an error, behind what is there; one that had ended stays as it is."""
        if self._finish_reason is None:
            self.error = self.error or error
            self._wake()

    def take(self) -> TokenDelta | None:
        """All that is there as one delta, or None."""
        if not self._token_ids and self._finish_reason is None:
            return None
        delta = TokenDelta(tuple(self._token_ids), self._finish_reason, tuple(self._logprobs))
        self._token_ids, self._logprobs = [], []
        return delta
