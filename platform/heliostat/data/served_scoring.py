"""Perplexity by a model behind an OpenAI-compatible endpoint, such as vLLM's or SGLang's.

The endpoint is asked to repeat a text and to say how likely each of its tokens was (`echo` with `logprobs`).
Some servers accept the question and answer for the token they add alone: that is found out and refused.
"""

import math
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from heliostat.data.steps.perplexity import Scorer, ServedPerplexity
from heliostat.errors import ModelError
from heliostat.text.concealing import is_sendable

if TYPE_CHECKING:
    import httpx

ANSWER_SECONDS = 120.0
CHECK_SECONDS = 10.0
RETRY_AFTER_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
_BUSY = (429, 500, 502, 503, 504)


def check_served(config: ServedPerplexity) -> None:
    """See that the endpoint answers and has the model.

    Raises:
        ModelError: it does not.
    """
    with _client(config, CHECK_SECONDS) as client:
        answer = _answered(config, lambda: client.get("models"), ())
    names = [str(model.get("id")) for model in answer.get("data", []) if isinstance(model, dict)]
    if names and config.model not in names:
        raise ModelError(
            f"perplexity: {config.url} has no model {config.model!r}; it has {', '.join(sorted(names)[:5])}"
        )


@lru_cache(maxsize=2)
def served_scorer(config: ServedPerplexity) -> Scorer:
    """A function from texts to their perplexities per token, over the first `max_characters` of each.

    The first token is read and not scored; a text with fewer than two gets nan. An endpoint that is busy or
    out of reach is asked again for half a minute.
    """
    client = _client(config, ANSWER_SECONDS)

    def score(texts: list[str]) -> list[float]:
        found = [math.nan] * len(texts)
        asked = [number for number, text in enumerate(texts) if text]
        for start in range(0, len(asked), config.batch_size):
            batch = asked[start : start + config.batch_size]
            cut = [texts[number][: config.max_characters] for number in batch]
            prompts = [text.encode("utf-8", "replace").decode() for text in cut]
            for number, perplexity in zip(batch, _perplexities(config, client, prompts), strict=True):
                found[number] = perplexity
        return found

    return score


def _perplexities(config: ServedPerplexity, client: "httpx.Client", prompts: list[str]) -> list[float]:
    body = {
        "model": config.model,
        "prompt": prompts,
        "echo": True,
        "logprobs": 1,
        "max_tokens": 1,  # 0 is refused by some; the token that is added is not counted
        "temperature": 0,
    }
    answer = _answered(config, lambda: client.post("completions", json=body), RETRY_AFTER_SECONDS)
    try:
        choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
        told = [choice["logprobs"]["token_logprobs"] for choice in choices]
        complete = len(told) == len(prompts) and all(logs and logs[0] is None for logs in told)
        return [_perplexity(logs[1:-1]) for logs in told] if complete else _refuse(config)
    except (KeyError, TypeError, ValueError):
        return _refuse(config)


def _perplexity(logs: list[float]) -> float:
    return math.exp(min(-math.fsum(logs) / len(logs), 700.0)) if logs else math.nan


def _refuse(config: ServedPerplexity) -> list[float]:
    raise ModelError(
        f"perplexity: {config.url} does not say how likely the tokens of a prompt are (echo with logprobs); "
        "vLLM and SGLang do; or use kind: model"
    )


def _client(config: ServedPerplexity, seconds: float) -> "httpx.Client":
    import httpx

    headers = {}
    if config.key_variable:
        key = os.environ.get(config.key_variable, "").strip()  # mounted secrets end with a newline
        if not is_sendable(key):
            raise ModelError(
                f"perplexity: the environment variable {config.key_variable} holds no key; set it to that of "
                f"{config.url}, here and on every node of the cluster"
            )
        headers["Authorization"] = f"Bearer {key}"
    return httpx.Client(base_url=config.url, headers=headers, timeout=seconds)


def _answered(config: ServedPerplexity, ask: Any, pauses: tuple[float, ...]) -> dict[str, Any]:
    """The JSON of an answer, asking again after each of the pauses.

    Raises:
        ModelError: there was none.
    """
    import httpx

    for pause in (*pauses, None):
        try:
            response: httpx.Response = ask()
        except (httpx.TransportError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            problem = f"does not answer ({said}); see that it runs and can be reached from here"
        else:
            if response.is_success:
                try:
                    return dict(response.json())
                except ValueError:
                    raise ModelError(f"perplexity: {config.url} did not answer with JSON") from None
            said = " ".join(response.text.split())[:200]
            problem = f"answered {response.status_code} to {response.request.url.path}: {said}"
            if response.status_code not in _BUSY:
                break
        if pause is not None:
            time.sleep(pause)
    raise ModelError(f"perplexity: {config.url} {problem}")
