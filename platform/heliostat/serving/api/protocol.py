"""What all requests of OpenAI's API have in common: how they are read, and the fields that say how to sample.

Unknown fields are accepted, as OpenAI's own servers do. Known ones that would change the answer and are not
served are refused by name: never ignored silently.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heliostat.serving.api.errors import RefusedRequest

MAX_STOPS = 4
MAX_CHOICES = 128
MAX_PARAM_LENGTH = 80

Item = TypeVar("Item")
Items = Annotated[tuple[Item, ...], Field(fail_fast=True)]
"""Several of a kind. The first wrong one ends the reading: to explain a million would take half a minute."""
Flag = Annotated[bool, Field(strict=True)]
TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Bias = Annotated[float, Field(strict=True, ge=-100, le=100, allow_inf_nan=False)]
Penalty = Annotated[float, Field(strict=True, ge=-2, le=2, allow_inf_nan=False)]

# Field -> the values that ask for nothing out of the ordinary; of OpenAI, and of vLLM for the last ones.
UNSERVED: dict[str, tuple[Any, ...]] = {
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "min_tokens": (None, 0),
    "bad_words": (None, []),
    "allowed_token_ids": (None,),
    "prompt_logprobs": (None,),
    "use_beam_search": (None, False),
    "include_stop_str_in_output": (None, False),
    "truncate_prompt_tokens": (None,),
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "structured_outputs": (None,),
    "chat_template": (None,),
    "chat_template_kwargs": (None, {}),
    "documents": (None, []),
    "continue_final_message": (None, False),
    "add_generation_prompt": (None, True),
}


class Incoming(BaseModel):
    """Base of what clients send."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    unserved: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Validate a decoded JSON body.

        Raises:
            RefusedRequest: a field is missing, of another type, out of range, or not served.
        """
        try:
            request = cls.model_validate(body)
        except ValidationError as error:
            raise _explain(error, body) from None
        for name in cls.unserved.keys() & body.keys():
            if not any(_same(body[name], neutral) for neutral in cls.unserved[name]):
                raise RefusedRequest(
                    f"'{name}' is not served by this endpoint; leave it out",
                    "unsupported_parameter",
                    param=name,
                )
        request.check()
        return request

    def check(self) -> None:
        """Refuse what the fields do not say one by one; raises RefusedRequest."""


class StreamOptions(Incoming):
    """What a stream carries besides text."""

    include_usage: Flag | None = False


class GenerationRequest(Incoming):
    """What asks for generated text, and how to choose it."""

    unserved: ClassVar[Mapping[str, tuple[Any, ...]]] = UNSERVED

    model: str
    stream: Flag | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=MAX_CHOICES)] | None = 1
    max_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    temperature: Annotated[float, Field(strict=True, ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(strict=True, ge=-1)] | None = None
    min_p: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(strict=True, gt=0, le=2)] | None = None
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[Items[str], Field(max_length=MAX_STOPS)] | None = None
    ignore_eos: Flag | None = False
    """As vLLM's: to go on behind the model's end token, for measuring."""
    stop_token_ids: Annotated[Items[TokenId], Field(max_length=64)] | None = None
    logit_bias: Annotated[dict[str, Bias], Field(fail_fast=True)] | None = None
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings that are not empty, each once."""
        given = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        return tuple(dict.fromkeys(stop for stop in given if stop))

    @property
    def asked_max_tokens(self) -> int | None:
        """The most tokens of the answer, if the request says it."""
        return self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """None without logprobs; else how many of the likeliest tokens are shown at each place."""
        return None

    @property
    def usage_asked(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


def decode_body(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object of a request; what is not strictly JSON (NaN, lone surrogates, endless nesting) is not.

    Raises:
        RefusedRequest: it is something else.
    """
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedRequest(f"The body is not JSON: {error}", "invalid_json") from None
    if not isinstance(decoded, dict):
        raise RefusedRequest("The body must be a JSON object", "invalid_json")
    return decoded


def as_json(value: Any) -> str:
    """JSON text of what came as JSON and is not nested deeply."""
    return orjson.dumps(value).decode()


def _same(value: Any, neutral: Any) -> bool:
    """Equal as JSON: 0 and false differ."""
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)


def _explain(error: ValidationError, body: Any) -> RefusedRequest:
    """The problems of the first field at fault, as OpenAI words them.

    A value that may be of several kinds has a problem for each; the one that came furthest into the value is
    told, or all when they came equally far.
    """
    problems = [(_path(problem["loc"], body), problem) for problem in error.errors(include_input=False)]
    field = problems[0][0][:1]
    depth = max(len(path) for path, _ in problems if path[:1] == field)
    path = next(path for path, _ in problems if path[:1] == field and len(path) == depth)
    chosen = [problem for at, problem in problems if at == path]
    param = ".".join(str(part)[:MAX_PARAM_LENGTH] for part in path) or None
    if chosen[0]["type"] == "missing":
        return RefusedRequest(
            f"Missing required parameter: '{param}'", "missing_required_parameter", param=param
        )
    where = f"Invalid '{param}'" if param else "Invalid request body"
    expected = dict.fromkeys(problem["msg"].removeprefix("Input should be ") for problem in chosen)
    message = " or ".join(expected).replace("valid tuple", "valid list")
    return RefusedRequest(f"{where}: expected {message}", "invalid_value", param=param)


def _path(place: tuple[int | str, ...], body: Any) -> tuple[int | str, ...]:
    """A problem's place in the body, without pydantic's names for the kinds that a value may be of."""
    path: list[int | str] = []
    value = body
    for number, part in enumerate(place):
        if isinstance(value, Mapping) and part in value:
            value = value[str(part)]
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif number < len(place) - 1 or not isinstance(value, Mapping):
            continue
        path.append(part)
    return tuple(path)
