"""How to choose tokens: a request's wishes in the engine's words, checked against what the engine can do."""

from collections.abc import Sequence
from typing import Any

from heliostat.serving.api.answering import ServedModel
from heliostat.serving.api.chat_request import ChatCompletionRequest, JsonObjectFormat, JsonSchemaFormat
from heliostat.serving.api.errors import invalid, unsupported
from heliostat.serving.api.protocol import as_json
from heliostat.serving.api.text_requests import CompletionRequest
from heliostat.serving.api.tool_syntax import forced_grammar
from heliostat.serving.api.vocabulary import vocabulary_of
from heliostat.serving.engines.interface import Capabilities, Grammar, SamplingParameters
from heliostat.serving.engines.json_grammar import check_grammar


def sampling_parameters(
    request: ChatCompletionRequest | CompletionRequest, model: ServedModel
) -> SamplingParameters:
    """All but the number of tokens, which depends on the prompt.

    Raises:
        RefusedRequest: the engine cannot do what is asked, or a token id is none.
    """
    end = None if request.ignore_eos else model.tokenizer.eos_token_id
    ends = dict.fromkeys([*([] if end is None else [end]), *(request.stop_token_ids or ())])
    parameters = SamplingParameters(
        max_tokens=1,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=max(request.top_k or 0, 0),
        min_p=request.min_p or 0.0,
        seed=None if request.seed is None else request.seed % 2**63,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repetition_penalty=1.0 if request.repetition_penalty is None else request.repetition_penalty,
        logit_bias=_logit_bias(request.logit_bias or {}, model.tokenizer),
        logprobs=request.num_logprobs,
        stop_token_ids=tuple(ends),
        ignore_eos=bool(request.ignore_eos),
        grammar=_grammar(request) if isinstance(request, ChatCompletionRequest) else None,
    )
    problem = _beyond(parameters, model.engine.capabilities, request)
    if problem:
        raise unsupported(*problem)
    unkept = check_grammar(parameters.grammar) if parameters.grammar else None
    if unkept:
        tools = isinstance(request, ChatCompletionRequest) and request.tools_in_use
        raise invalid("tools" if tools else "response_format", unkept)
    return parameters


def _logit_bias(given: dict[str, float], tokenizer: Any) -> tuple[tuple[int, float], ...]:
    found = dict[int, float]()
    for key, bias in given.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise invalid("logit_bias", f"its keys are token ids, '{key[:20]}' is none")
        found[int(key)] = bias
    check_token_ids(list(found), tokenizer, "logit_bias")
    return tuple(found.items())


def _beyond(
    asked: SamplingParameters, able: Capabilities, request: ChatCompletionRequest | CompletionRequest
) -> tuple[str, str] | None:
    """The first parameter that the engine cannot serve, and what to say of it."""
    reason = "is not served by this endpoint's engine; leave it out"
    if asked.grammar and not able.grammar:
        if isinstance(request, ChatCompletionRequest) and request.tools_in_use:
            return "tool_choice", "can only be 'none' or 'auto' with this endpoint's engine"
        return "response_format", reason
    wanted = {
        "presence_penalty": asked.presence_penalty and not able.penalties,
        "frequency_penalty": asked.frequency_penalty and not able.penalties,
        "repetition_penalty": asked.repetition_penalty != 1 and not able.repetition_penalty,
        "min_p": asked.min_p and not able.min_p,
        "logit_bias": asked.logit_bias and not able.logit_bias,
        "logprobs": asked.logprobs is not None and able.max_top_logprobs is None,
    }
    for name, beyond in wanted.items():
        if beyond:
            return name, reason
    if asked.logprobs and asked.logprobs > (able.max_top_logprobs or 0):
        chat_name = "top_logprobs" if isinstance(request, ChatCompletionRequest) else "logprobs"
        return chat_name, f"can be at most {able.max_top_logprobs} with this endpoint's engine"
    return None


def _grammar(request: ChatCompletionRequest) -> Grammar | None:
    wanted = request.response_format
    if isinstance(wanted, JsonObjectFormat):
        return Grammar("json_object")
    if isinstance(wanted, JsonSchemaFormat):
        return Grammar("json_schema", as_json(wanted.json_schema.json_schema))
    return forced_grammar(request)


def check_token_ids(token_ids: Sequence[int], tokenizer: Any, param: str) -> None:
    """Refuse ids that are no tokens."""
    size = vocabulary_of(tokenizer).size
    if size is not None and token_ids and max(token_ids) >= size:
        raise invalid(param, f"token id {max(token_ids)} is beyond the vocabulary's {size} tokens")
