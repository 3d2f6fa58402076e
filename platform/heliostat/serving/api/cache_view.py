"""What decides an answer, in a cache's words."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.orders import Job, model_text
from heliostat.serving.api.prompts import to_prompt, to_tools
from heliostat.serving.api.protocol import as_json
from heliostat.serving.cache.question import RAW_ROLE


@dataclass(frozen=True)
class CacheView:
    """What decides an answer, for a cache to ask by.

    `repeatable` says that the same request is meant to have the same answer: the likeliest tokens, or a seed.
    `fits` that the answer is one text, as caches keep it.
    """

    system_prompt: str
    conversation: tuple[tuple[str, str], ...]
    parameters: dict[str, Any]
    repeatable: bool
    fits: bool


def cache_view(job: Job) -> CacheView:
    """What decides the answer to a job."""
    request, order = job.request, job.orders[0]
    parameters = asdict(replace(order.parameters, max_tokens=0))
    parameters |= {
        "max_tokens": request.asked_max_tokens or job.model.default_max_tokens,
        "stops": list(order.stops),
        "n": len(job.orders),
        "logit_bias": [list(pair) for pair in order.parameters.logit_bias],
        "stop_token_ids": list(order.parameters.stop_token_ids),
    }
    system_prompt = ""
    if isinstance(request, ChatCompletionRequest):
        prompt = to_prompt(request.messages)
        if prompt[0]["role"] == "system":
            system_prompt, prompt = prompt[0]["content"], prompt[1:]
        conversation = tuple(_turn(message) for message in prompt)
        parameters |= {
            "kind": "chat",
            "tools": to_tools(request.tools_in_use),
            "parallel_tool_calls": request.parallel_tool_calls is not False,
        }
    else:
        conversation = tuple(
            (RAW_ROLE, text if isinstance(text, str) else model_text(text, job.model.tokenizer))
            for text in request.prompts
        )
        token_ids = [list(ids) for ids in request.prompts if not isinstance(ids, str)]
        parameters |= {"kind": "completion", "echo": bool(request.echo), "token_ids": token_ids}
    sure = order.parameters.temperature == 0 or order.parameters.top_k == 1
    fits = len(job.orders) == 1 and request.num_logprobs is None
    return CacheView(
        system_prompt, conversation, parameters, repeatable=sure or request.seed is not None, fits=fits
    )


def _turn(message: dict[str, Any]) -> tuple[str, str]:
    """Who said it and what. Calls of tools, and what a tool's answer answers, count as part of who: no text
    that somebody writes can pass for them."""
    more = {name: value for name, value in message.items() if name not in ("role", "content")}
    return message["role"] + (as_json(more) if more else ""), message["content"]
