"""From an engine's tokens to text: detokenized, cut at stop strings, filtered. No HTTP, no Ray."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from heliostat.errors import ServingError
from heliostat.serving.api.detokenize import Detokenizer, StopStrings
from heliostat.serving.api.logprobs import LogprobEntry, PendingLogprobs
from heliostat.serving.engines.interface import SamplingParameters, TokenDelta, TokenSource

Ending = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class ServedModel:
    """A model as the gateway sees it: its name, its tokenizer, its limits in tokens, and who generates.

    `adapter` is the one among the engine's that this name stands for, and `parent` the model that it is an
    adapter of. `root` names the artifact behind the name, `fingerprint` all that answers: a client with a
    seed sees by it when it has changed.
    """

    id: str
    created: int
    tokenizer: Any
    engine: TokenSource
    max_context_tokens: int
    max_output_tokens: int
    default_max_tokens: int
    adapter: str | None = None
    parent: str | None = None
    root: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class WorkOrder:
    """One answer to be generated, in the engine's words.

    `stops` are what ends it as text; `spelled` are special tokens that are text here, because they mark
    tool calls.
    """

    prompt_ids: list[int]
    parameters: SamplingParameters
    stops: tuple[str, ...] = ()
    adapter: str | None = None
    spelled: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of a tool call: `id` and `name` in its first, more of its arguments' JSON text in each."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text, or new pieces of tool calls; `completion_tokens` counts all so far, the end token too."""

    text: str
    completion_tokens: int
    finish_reason: Ending | None = None
    logprobs: tuple[LogprobEntry, ...] = ()
    calls: tuple[CallDelta, ...] = ()


class OutputFilter(Protocol):
    """What an answer's text goes through before anybody sees it; one for each answer."""

    @property
    def blocked(self) -> Any:
        """What the answer was blocked for, or None."""

    def push(self, text: str) -> str:
        """The text that may be shown now."""

    def flush(self) -> str:
        """What was held back, at the end."""


async def answer(
    order: WorkOrder,
    model: ServedModel,
    request_id: str,
    output_filter: OutputFilter | None = None,
) -> AsyncGenerator[TextDelta]:
    """The answer's text as it comes; the last delta has the finish reason.

    Closing this early, meeting a stop string and being blocked all free the engine's slot.

    Raises:
        ServingError: the engine cannot go on.
    """
    text = _AnswerText(order, model, output_filter)
    deltas = model.engine.generate(order.prompt_ids, order.parameters, request_id, order.adapter)
    async with aclosing(deltas):
        async for delta in deltas:
            made = text.push(delta)
            if made.text or made.finish_reason or made.logprobs:
                yield made
            if made.finish_reason:
                return
    raise ServingError("the engine ended the answer early; send the request again")


class _AnswerText:
    """What is known of one answer while it comes."""

    def __init__(self, order: WorkOrder, model: ServedModel, output_filter: OutputFilter | None) -> None:
        hidden = frozenset(order.parameters.stop_token_ids)
        self._detokenizer = Detokenizer(model.tokenizer, hidden, order.spelled)
        self._stops = StopStrings(order.stops)
        self._filter = output_filter
        self._completion_tokens = 0
        wanted = order.parameters.logprobs is not None
        self._pending = PendingLogprobs(model.tokenizer, hidden) if wanted else None
        # Each token's own text is needed to say which one met a stop string, or belongs to a logprob.
        self._one_by_one = wanted or bool(order.stops)

    def push(self, delta: TokenDelta) -> TextDelta:
        """What a delta adds for the reader."""
        text = self._push_each(delta) if self._one_by_one else self._push_all(delta)
        ending: Ending | None = "stop" if self._stops.stopped else delta.finish_reason
        if delta.finish_reason and not self._stops.stopped:
            text += self._stops.push(self._detokenizer.flush())
            ending = "stop" if self._stops.stopped else ending
            text += self._stops.flush()
        if self._filter:
            text = self._filtered(text, ended=ending is not None)
            ending = "content_filter" if self._filter.blocked else ending
        logprobs = self._pending.take(len(text), ended=ending is not None) if self._pending else ()
        return TextDelta(text, self._completion_tokens, ending, logprobs)

    def _push_all(self, delta: TokenDelta) -> str:
        self._completion_tokens += len(delta.token_ids)
        return self._detokenizer.push(delta.token_ids)

    def _push_each(self, delta: TokenDelta) -> str:
        shown = ""
        for place, token in enumerate(delta.token_ids):
            self._completion_tokens += 1
            text = self._detokenizer.push((token,))
            if self._pending and place < len(delta.logprobs):
                self._pending.add(token, delta.logprobs[place], len(text))
            shown += self._stops.push(text)
            if self._stops.stopped:
                break
        return shown

    def _filtered(self, text: str, ended: bool) -> str:
        assert self._filter is not None
        shown = self._filter.push(text)
        if ended and not self._filter.blocked:
            shown += self._filter.flush()
        return shown
