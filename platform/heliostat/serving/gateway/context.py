"""What is known of a request while it is answered; becomes its line in the audit log."""

import time
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import Scope

from heliostat.serving.access.audit import AuditEntry
from heliostat.serving.access.callers import Caller
from heliostat.serving.access.config import Route
from heliostat.serving.access.rate_limits import Lease
from heliostat.serving.gateway.metrics import RequestMeter

SCOPE_KEY = "heliostat"
CLIENT_LEFT = 499
"""What is written down for a client that did not wait for the end of its answer; nobody receives it."""


@dataclass
class RequestContext:
    """One request: filled in as it goes through the gateway."""

    id: str
    address: str
    route: Route
    caller: Caller | None = None
    model: str | None = None
    version: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache: str | None = None
    rule: str | None = None
    error: str | None = None
    prompt: str | None = None
    lease: Lease | None = None
    meter: RequestMeter | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def asker(self) -> Caller:
        """Who asks; every request behind the shell has one."""
        assert self.caller is not None
        return self.caller

    def finish(self, status: int) -> AuditEntry:
        """Give back what the request held, and say what became of it."""
        used = (self.prompt_tokens or 0) + (self.completion_tokens or 0)
        if self.meter:
            self.meter.end(status, self.prompt_tokens or 0, self.completion_tokens or 0)
        if self.lease:
            self.lease.settle(used)
            self.lease.release()
        return AuditEntry(
            request_id=self.id,
            address=self.address,
            route=self.route,
            status=status,
            milliseconds=round((time.monotonic() - self.began) * 1000, 3),
            tenant=self.caller.tenant if self.caller else None,
            key_prefix=self.caller.key_prefix if self.caller else None,
            model=self.model,
            version=self.version,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cache=self.cache,
            rule=self.rule,
            error=self.error,
            prompt=self.prompt,
        )


def context_of(scope: Scope) -> RequestContext:
    """The context that the shell gave a request."""
    context: RequestContext = scope[SCOPE_KEY]
    return context


def client_left() -> Response:
    """The answer to a client that has gone."""
    return Response(status_code=CLIENT_LEFT)
