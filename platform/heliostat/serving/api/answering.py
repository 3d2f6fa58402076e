"""From a chat request to an engine's parameters, and from an engine's tokens to text. No HTTP, no Ray."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from heliostat.errors import ServingError
from heliostat.serving.api.detokenize import Detokenizer, StopStrings
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.api.prompts import to_prompt
from heliostat.serving.api.protocol import ChatCompletionRequest
from heliostat.serving.engines.interface import FinishReason, SamplingParameters, TokenSource
from heliostat.text.chat import TemplateError, render_prompt


@dataclass(frozen=True)
class ServedModel:
    """A model as the gateway sees it: its name, its tokenizer, its limits in tokens, and who generates."""

    id: str
    created: int
    tokenizer: Any
    engine: TokenSource
    max_context_tokens: int
    max_output_tokens: int
    default_max_tokens: int


@dataclass(frozen=True)
class Prompt:
    """A request in the engine's words."""

    token_ids: list[int]
    parameters: SamplingParameters
    stops: tuple[str, ...]


@dataclass(frozen=True)
class TextDelta:
    """New text; `completion_tokens` counts all tokens so far, the end token included."""

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None


def prepare(request: ChatCompletionRequest, model: ServedModel) -> Prompt:
    """Render and bound a request.

    Raises:
        RefusedRequest: the messages cannot be rendered, or prompt and answer do not fit into the context.
    """
    try:
        token_ids = render_prompt(to_prompt(request.messages), model.tokenizer)
    except TemplateError as error:
        raise RefusedRequest(str(error), "invalid_value", param="messages") from None
    temperature = 1.0 if request.temperature is None else request.temperature
    end = model.tokenizer.eos_token_id
    parameters = SamplingParameters(
        max_tokens=_max_tokens(request.asked_max_tokens, len(token_ids), model),
        temperature=temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=max(request.top_k or 0, 0),
        seed=request.seed,
        stop_token_ids=() if end is None else (end,),
    )
    return Prompt(token_ids, parameters, request.stops)


def _max_tokens(asked: int | None, prompt_tokens: int, model: ServedModel) -> int:
    if asked is not None and asked > model.max_output_tokens:
        raise RefusedRequest(
            f"max_tokens is {asked}; this endpoint answers with at most {model.max_output_tokens} tokens",
            "invalid_value",
            param="max_tokens",
        )
    room = model.max_context_tokens - prompt_tokens
    if room < max(asked or 1, 1):
        wanted = f" and {asked} for the answer" if asked else ""
        raise RefusedRequest(
            f"This model's context holds {model.max_context_tokens} tokens; the messages take {prompt_tokens}"
            f"{wanted}. Shorten the messages or lower max_tokens",
            "context_length_exceeded",
            param="messages",
        )
    return asked or min(model.default_max_tokens, room)


async def answer(prompt: Prompt, model: ServedModel, request_id: str) -> AsyncGenerator[TextDelta]:
    """The answer's text as it comes; the last delta has the finish reason.

    Closing this early, and meeting a stop string, free the engine's slot.

    Raises:
        ServingError: the engine cannot go on.
    """
    hidden = frozenset(prompt.parameters.stop_token_ids)
    detokenizer, stops = Detokenizer(model.tokenizer, hidden), StopStrings(prompt.stops)
    completion_tokens = 0
    async with aclosing(model.engine.generate(prompt.token_ids, prompt.parameters, request_id)) as deltas:
        async for delta in deltas:
            completion_tokens += len(delta.token_ids)
            text = stops.push(detokenizer.push(delta.token_ids))
            if delta.finish_reason and not stops.stopped:
                text += stops.push(detokenizer.flush())
                text += stops.flush()
            finish_reason: FinishReason | None = "stop" if stops.stopped else delta.finish_reason
            if text or finish_reason:
                yield TextDelta(text, completion_tokens, finish_reason)
            if finish_reason:
                return
    raise ServingError("the engine ended the answer early; send the request again")
