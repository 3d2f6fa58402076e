"""From a request to what engines are asked: rendered, bounded, and checked against what they can do."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from heliostat.serving.api.answering import ServedModel, WorkOrder
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest, context_exceeded, invalid, unsupported
from heliostat.serving.api.prompts import render
from heliostat.serving.api.protocol import GenerationRequest
from heliostat.serving.api.sampling import check_token_ids, sampling_parameters
from heliostat.serving.api.text_requests import CompletionRequest
from heliostat.serving.api.tool_syntax import FORCED, ToolSyntax, spelled_marks, syntax_of

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True)
class Job:
    """A request, ready to be answered: an order for each choice.

    `prompt_tokens` counts each prompt once; `echoes` has for each choice the text in front of its answer.
    `syntax` is None where the answer calls no tools.
    """

    request: ChatCompletionRequest | CompletionRequest
    model: ServedModel
    orders: tuple[WorkOrder, ...]
    prompt_tokens: int
    syntax: ToolSyntax | None = None
    echoes: tuple[str, ...] = ()
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def chat(self) -> bool:
        """Whether the answer is a message, or a text."""
        return isinstance(self.request, ChatCompletionRequest)

    @property
    def max_tokens(self) -> int:
        """The most tokens that all answers together may have."""
        return sum(order.parameters.max_tokens for order in self.orders)


def estimated_prompt_tokens(request: GenerationRequest, texts: Sequence[str]) -> int:
    """About how many tokens the texts of a request take, known in front of tokenizing."""
    messages = len(request.messages) if isinstance(request, ChatCompletionRequest) else 0
    return (
        sum(len(text.encode()) for text in texts) // CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * messages + 1
    )


def prepare(
    request: ChatCompletionRequest | CompletionRequest, model: ServedModel, filtered: bool = False
) -> Job:
    """Render and bound a request. Takes a second for a megabyte of text: not for the event loop.

    With `filtered` the answer goes through an output filter, so there are no logprobs: they would tell what
    the filter takes out.

    Raises:
        RefusedRequest: it cannot be rendered, does not fit into the context, or asks for what the engine
            cannot do.
    """
    if filtered and request.num_logprobs is not None:
        raise unsupported("logprobs", "cannot be had here: this endpoint filters its answers")
    if isinstance(request, ChatCompletionRequest):
        return _prepare_chat(request, model)
    return _prepare_completion(request, model)


def token_ids_of(text: str | Sequence[int], tokenizer: Any, param: str) -> list[int]:
    """A prompt's ids; of token ids, those ids.

    Raises:
        RefusedRequest: one of them is no token.
    """
    if isinstance(text, str):
        return list(tokenizer.encode(text))
    check_token_ids(text, tokenizer, param)
    return list(text)


def model_text(token_ids: Sequence[int], tokenizer: Any) -> str:
    """The text that ids stand for, special tokens included."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=False))


def _prepare_chat(request: ChatCompletionRequest, model: ServedModel) -> Job:
    syntax, spelled = None, dict[int, str]()
    tools = request.tools_in_use
    if tools:
        syntax = syntax_of(model.tokenizer)
        spelled = spelled_marks(syntax, model.tokenizer)
        if request.tool_choice not in (None, "auto"):
            syntax = replace(FORCED, short_ids=syntax.short_ids)
    parameters = sampling_parameters(request, model)
    prompt_ids = render(request.messages, tools, model.tokenizer)
    parameters = replace(parameters, max_tokens=_max_tokens(request, len(prompt_ids), model, "messages"))
    order = WorkOrder(prompt_ids, parameters, request.stops, model.adapter, spelled)
    orders = _each_choice(order, request.n or 1)
    return Job(request, model, orders, len(prompt_ids), syntax, id=f"chatcmpl-{uuid.uuid4().hex}")


def _prepare_completion(request: CompletionRequest, model: ServedModel) -> Job:
    parameters = sampling_parameters(request, model)
    orders, echoes, prompt_tokens = list[WorkOrder](), list[str](), 0
    for text in request.prompts:
        prompt_ids = token_ids_of(text, model.tokenizer, "prompt") or _nothing(model.tokenizer)
        prompt_tokens += len(prompt_ids)
        most = _max_tokens(request, len(prompt_ids), model, "prompt")
        order = WorkOrder(prompt_ids, replace(parameters, max_tokens=most), request.stops, model.adapter)
        orders += _each_choice(order, request.n or 1)
        echo = text if isinstance(text, str) else model_text(text, model.tokenizer)
        echoes += [echo] * (request.n or 1)
    shown = tuple(echoes) if request.echo else ()
    return Job(request, model, tuple(orders), prompt_tokens, echoes=shown, id=f"cmpl-{uuid.uuid4().hex}")


def _nothing(tokenizer: Any) -> list[int]:
    """An empty prompt: the token that begins a text, or the one that ends the text before."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [token]
    raise invalid("prompt", "it is empty, and this model has no token to begin with; send some text")


def _each_choice(order: WorkOrder, count: int) -> tuple[WorkOrder, ...]:
    """An order for each choice; with a seed each has its own, so that they differ and can be repeated."""
    seed = order.parameters.seed
    if seed is None or count == 1:
        return (order,) * count
    seeds = [(seed + choice) % 2**63 for choice in range(count)]
    return tuple(replace(order, parameters=replace(order.parameters, seed=seed)) for seed in seeds)


def _max_tokens(
    request: ChatCompletionRequest | CompletionRequest, prompt_tokens: int, model: ServedModel, param: str
) -> int:
    asked = request.asked_max_tokens
    if asked is not None and asked > model.max_output_tokens:
        newer = isinstance(request, ChatCompletionRequest) and request.max_completion_tokens is not None
        name = "max_completion_tokens" if newer else "max_tokens"
        raise RefusedRequest(
            f"{name} is {asked}; this endpoint answers with at most {model.max_output_tokens} tokens",
            "invalid_value",
            param=name,
        )
    room = model.max_context_tokens - prompt_tokens
    if room < max(asked or 1, 1):
        wanted = f" and {asked} for the answer" if asked else ""
        takes = "take" if param == "messages" else "takes"
        asked_for = f"the {param} {takes} {prompt_tokens}{wanted}. Shorten the {param} or lower max_tokens"
        raise context_exceeded(model.max_context_tokens, asked_for, param)
    return asked or min(model.default_max_tokens, room)
