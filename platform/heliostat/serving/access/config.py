"""What a recipe says about access. Light: importing this loads neither casbin, nor Redis, nor limits."""

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from heliostat.config import Config

Route = Literal["chat", "completions", "embeddings", "tokenize", "models", "collections", "admin", "metrics"]
ROUTES: tuple[Route, ...] = (
    "chat",
    "completions",
    "embeddings",
    "tokenize",
    "models",
    "collections",
    "admin",
    "metrics",
)
USER_ROUTES: tuple[Route, ...] = ROUTES[:-2]
"""What a key opens that names no routes: all but the operators' own."""


def network_text(text: str) -> str:
    """An address or CIDR network in its canonical form; IPv4 inside IPv6 as IPv4, as addresses are compared.

    Raises:
        ValueError: it is no network, or has bits set that its length leaves out.
    """
    return str(parse_network(text))


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """As `network_text`, parsed."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"'{text}' is no network; write an address or CIDR, such as 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    if str(network.network_address) != _address_part(text):
        raise ValueError(f"'{text}' has bits set beyond its length; '{network}' is the network around it")
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network


def _address_part(text: str) -> str:
    return str(ipaddress.ip_address(text.strip().partition("/")[0]))


Network = Annotated[str, AfterValidator(network_text)]


class Limits(Config):
    """How much one key may ask for; None does not limit."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers together."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests at work at the same time."""

    def or_else(self, default: "Limits") -> "Limits":
        """These, and what they leave open from `default`."""
        return Limits(
            requests_per_minute=self.requests_per_minute or default.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute or default.tokens_per_minute,
            concurrency=self.concurrency or default.concurrency,
        )


class RateLimitConfig(Config):
    """Where it is counted, and what counts for keys that say nothing of their own."""

    storage_url: str = "memory://"
    """memory:// counts in each gateway process; redis://HOST:PORT/DB (or rediss://) in all together."""
    default: Limits = Limits()
    when_redis_fails: Literal["count_here", "refuse"] = "count_here"
    """count_here: each process counts by itself until Redis is back. refuse: 503."""

    @model_validator(mode="after")
    def _known_storage(self) -> Self:
        parts = urlsplit(self.storage_url)
        if parts.scheme not in ("memory", "redis", "rediss"):
            raise ValueError(
                f"storage_url scheme '{parts.scheme}': use memory://, redis://... or rediss://..."
            )
        if parts.scheme != "memory" and not (parts.hostname and parts.port):
            raise ValueError("storage_url names no host and port; write redis://HOST:6379/0")
        return self

    @property
    def shared(self) -> bool:
        """Whether several processes count together."""
        return not self.storage_url.startswith("memory:")


class PolicyConfig(Config):
    """Rules about who may use which model from where and when."""

    file: str | None = None
    """None takes WORKSPACE/gateway/policy.csv, and without such a file there are no rules."""
    timezone: str = "UTC"
    """In which days and hours of rules are meant, such as Europe/Berlin."""

    @model_validator(mode="after")
    def _known_timezone(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (LookupError, ValueError, OSError):
            raise ValueError(f"timezone '{self.timezone}' is unknown; write one like Europe/Berlin") from None
        return self


class AuditConfig(Config):
    """The record of requests: one line of JSON each, never with a key."""

    enabled: bool = True
    folder: str | None = None
    """A local folder; None takes WORKSPACE/gateway."""
    prompts: bool = False
    """Whether the text that was sent is recorded too."""
    max_file_bytes: int = Field(default=64 * 2**20, ge=1024)
    kept_files: int = Field(default=8, ge=1)
    """Full files kept beside the one being written; the oldest goes."""


class TLSConfig(Config):
    """HTTPS by the gateway itself. Files are PEM and are read when it starts."""

    certificate: str
    """The server's certificate, followed by those between it and the root."""
    key: str
    client_ca: str | None = None
    """With it only clients are let in whose certificate one of these authorities signed (mutual TLS)."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"


class AccessConfig(Config):
    """Who may ask the gateway for what."""

    trusted_proxies: tuple[Network, ...] = ()
    """From these the X-Forwarded-For header is believed; from nobody else."""
    admin_networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    """From where the routes of operators (admin) may be used, key or not."""
    rate_limits: RateLimitConfig = RateLimitConfig()
    policy: PolicyConfig = PolicyConfig()
    audit: AuditConfig = AuditConfig()
    tls: TLSConfig | None = None
