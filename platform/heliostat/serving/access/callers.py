"""A caller: whose key a request bore, and what that opens."""

from dataclasses import dataclass

from heliostat.serving.access.config import ROUTES, Limits, Route
from heliostat.serving.access.patterns import like
from heliostat.serving.api.errors import RefusedRequest

ANYTHING = ("*",)
ANONYMOUS = "anonymous"
LOCAL_TENANT = "local"
MAX_MODEL_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Holds no key; `key_prefix` is the part of it that may be shown."""

    tenant: str
    name: str
    key_prefix: str
    family: str
    """The prefix of the key that this one took over from by rotation; limits are counted under it."""
    models: tuple[str, ...]
    routes: tuple[Route, ...]
    limits: Limits
    address: str

    @classmethod
    def anonymous(cls, address: str) -> "Caller":
        """Everybody, on a gateway without keys that only its own machine reaches."""
        return cls(LOCAL_TENANT, ANONYMOUS, ANONYMOUS, ANONYMOUS, ANYTHING, ROUTES, Limits(), address)

    def allows_model(self, model: str) -> bool:
        """Whether one of the key's patterns is the model's name; for lists of models."""
        if len(model) > MAX_MODEL_CHARACTERS:
            return False
        return any(like(model, pattern) for pattern in self.models)

    def check(self, route: Route, model: str | None = None) -> None:
        """See that the key opens this route and model; call it before looking whether the model exists.

        Raises:
            RefusedRequest: 403, it does not.
        """
        if route not in self.routes:
            raise forbidden(f"This API key does not open '{route}'; it opens: {', '.join(self.routes)}")
        if model is not None and not self.allows_model(model):
            shown = model if len(model) <= MAX_MODEL_CHARACTERS else f"{model[:MAX_MODEL_CHARACTERS]}..."
            raise forbidden(
                f"This API key does not open the model '{shown}'; it opens: {', '.join(self.models)}", "model"
            )


def forbidden(message: str, param: str | None = None) -> RefusedRequest:
    """403: the caller is known and may not. Trying again does not help."""
    return RefusedRequest(message, "permission_denied", 403, param, {"x-should-retry": "false"})
