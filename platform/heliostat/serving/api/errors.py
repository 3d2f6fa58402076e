"""Refusals in OpenAI's form: a status and `{"error": {message, type, param, code}}`, codes as strings."""

from collections.abc import Mapping
from typing import Any

from heliostat.errors import ServingError

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class RefusedRequest(ServingError):
    """A request that is answered with an error; `str(error)` is the message its sender reads."""

    def __init__(
        self,
        message: str,
        code: str,
        status: int = 400,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`code` is for programs, `param` names the field at fault, `headers` go with the answer."""
        super().__init__(message)
        self.headers = dict(headers or {})
        self.code = code
        self.status = status
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kind = SERVER_ERROR if self.status >= 500 else INVALID_REQUEST
        return error_body(str(self), kind, self.code, self.param)


def error_body(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def unknown_model(asked: str, known: list[str]) -> RefusedRequest:
    """The model of a request is not served here."""
    return RefusedRequest(
        f"The model '{asked}' does not exist; served here: {', '.join(known)}",
        "model_not_found",
        404,
        "model",
    )


def unknown_adapter(asked: str, known: list[str]) -> RefusedRequest:
    """The model of a request is served, but not with that adapter."""
    return RefusedRequest(
        f"The model '{asked}' does not exist; adapters there are: {', '.join(known) or 'none'}",
        "model_not_found",
        404,
        "model",
    )


def too_large(limit_bytes: int) -> RefusedRequest:
    """The body is longer than is accepted."""
    return RefusedRequest(
        f"The request body exceeds {limit_bytes} bytes; send less", "request_too_large", 413
    )


def context_exceeded(limit_tokens: int, asked: str, param: str) -> RefusedRequest:
    """A request that is longer than the model's context.

    OpenAI's client leaves the code out of its error's text, so LiteLLM and LangChain tell this error from
    others by these words: "maximum context length is" and "prompt is too long".
    """
    return RefusedRequest(
        f"This model's maximum context length is {limit_tokens} tokens, and this prompt is too long for it: "
        f"{asked}",
        "context_length_exceeded",
        param=param,
    )


def engine_failure(reason: str) -> RefusedRequest:
    """The engine could not begin to answer."""
    return RefusedRequest(f"The engine cannot answer now: {reason}", "engine_unavailable", 503)


def overloaded(reason: str, retry_after_seconds: int = 1) -> RefusedRequest:
    """Nobody takes the request now."""
    return RefusedRequest(
        f"Too many requests: {reason}; ask again later",
        "engine_overloaded",
        429,
        headers={"retry-after": str(retry_after_seconds)},
    )


def gateway_timeout(seconds: float) -> RefusedRequest:
    """The answer took too long."""
    return RefusedRequest(
        f"No answer within {seconds:g} s; ask for fewer tokens, or raise request_timeout_seconds",
        "timeout",
        504,
    )


def headers_too_large(limit_bytes: int) -> RefusedRequest:
    """The request line and headers are longer than is accepted."""
    return RefusedRequest(
        f"The request's headers exceed {limit_bytes} bytes; send fewer", "headers_too_large", 431
    )


def slow_request(seconds: float) -> RefusedRequest:
    """The client took too long to send its request."""
    return RefusedRequest(f"The request did not arrive within {seconds:g} s; send it again", "timeout", 408)


def unsupported(param: str, reason: str) -> RefusedRequest:
    """A known field asks for what this endpoint cannot do."""
    return RefusedRequest(f"'{param}' {reason}", "unsupported_parameter", param=param)


def invalid(param: str, reason: str) -> RefusedRequest:
    """A field's value cannot be."""
    return RefusedRequest(f"Invalid '{param}': {reason}", "invalid_value", param=param)
