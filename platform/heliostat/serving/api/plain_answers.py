"""Answers that are no generated text: embeddings, tokens, models."""

import base64
from array import array
from collections.abc import Sequence
from typing import Any

import orjson

from heliostat.serving.api.answering import ServedModel
from heliostat.serving.api.errors import RefusedRequest, context_exceeded, invalid, unsupported
from heliostat.serving.api.orders import model_text, token_ids_of
from heliostat.serving.api.prompts import render
from heliostat.serving.api.sampling import check_token_ids
from heliostat.serving.api.text_requests import DetokenizeRequest, EmbeddingRequest, TokenizeRequest


def embedding_prompts(request: EmbeddingRequest, model: ServedModel) -> list[list[int]]:
    """The inputs as token ids. Takes a second for a megabyte of text: not for the event loop.

    Raises:
        RefusedRequest: the engine embeds nothing, or an input is longer than its context. Or an adapter is
            asked, whose vectors would be the model's without it.
    """
    if model.adapter is not None:
        raise RefusedRequest(
            f"The adapter '{model.id}' makes no embeddings; ask '{model.parent}' for those of the model",
            "unsupported_parameter",
            param="model",
        )
    if not model.engine.capabilities.embeddings:
        raise RefusedRequest(
            f"The model '{model.id}' makes no embeddings with this endpoint's engine", "unsupported_parameter"
        )
    prompts = [token_ids_of(text, model.tokenizer, "input") for text in request.inputs]
    for place, prompt in enumerate(prompts):
        if len(prompt) > model.max_context_tokens:
            takes = f"input {place} takes {len(prompt)}. Shorten it"
            raise context_exceeded(model.max_context_tokens, takes, "input")
        if not prompt:
            raise invalid("input", f"input {place} has no tokens; send some text")
    return prompts


def embedding_body(
    request: EmbeddingRequest,
    model: ServedModel,
    prompts: Sequence[Sequence[int]],
    vectors: list[list[float]],
) -> bytes:
    """The response to an embeddings request; base64 is of 32-bit floats, little-endian.

    Raises:
        RefusedRequest: another length is asked for than the model's vectors have. Shortening them would be
            wrong: only models that were trained for it can be cut.
    """
    if request.dimensions is not None and request.dimensions != len(vectors[0]):
        raise unsupported(
            "dimensions",
            f"is {request.dimensions}; this model's vectors have {len(vectors[0])}, and cannot be cut",
        )
    encode = _base64 if request.encoding_format == "base64" else _same
    data = [
        {"object": "embedding", "index": place, "embedding": encode(vector)}
        for place, vector in enumerate(vectors)
    ]
    tokens = sum(map(len, prompts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model.id, "usage": usage})


def tokenize_body(request: TokenizeRequest, model: ServedModel) -> bytes:
    """The response to a tokenize request. Not for the event loop, as `embedding_prompts`.

    Raises:
        RefusedRequest: the messages cannot be rendered.
    """
    tokenizer = model.tokenizer
    if request.messages is not None:
        token_ids = render(request.messages, request.tools or (), tokenizer)
    else:
        special = request.add_special_tokens is not False
        token_ids = tokenizer.encode(request.prompt, add_special_tokens=special)
    named = tokenizer.convert_ids_to_tokens(token_ids) if request.return_token_strs else None
    return orjson.dumps(
        {
            "count": len(token_ids),
            "max_model_len": model.max_context_tokens,
            "tokens": token_ids,
            "token_strs": named,
        }
    )


def detokenize_body(request: DetokenizeRequest, model: ServedModel) -> bytes:
    """The response to a detokenize request.

    Raises:
        RefusedRequest: an id is no token.
    """
    check_token_ids(request.tokens, model.tokenizer, "tokens")
    return orjson.dumps({"prompt": model_text(request.tokens, model.tokenizer)})


def model_card(model: ServedModel) -> dict[str, Any]:
    """A model as the list of models has it, with what vLLM adds: the limit of its context (`max_model_len`),
    what it is (`root`), and of an adapter the model that it is for (`parent`).
    """
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "heliostat",
        "root": model.root,
        "parent": model.parent,
        "max_model_len": model.max_context_tokens,
    }


def model_list(models: Sequence[ServedModel]) -> dict[str, Any]:
    """All served models."""
    return {"object": "list", "data": [model_card(model) for model in models]}


def _base64(vector: list[float]) -> str:
    floats = array("f", vector)
    if array("H", [1]).tobytes() != b"\1\0":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()


def _same(vector: list[float]) -> list[float]:
    return vector
