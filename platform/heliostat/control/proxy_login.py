"""Login by a proxy in front of the dashboard that speaks OpenID Connect and names the user in headers.

The headers count from the proxy's own addresses only: anybody else could write them too. Where others share
such an address (127.0.0.1 is everybody's on a machine), a secret tells the proxy from them.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from heliostat.config import Config
from heliostat.control.networks import check_networks, is_among
from heliostat.control.roles import ROLES, Actor, Role

LEAST_SECRET = 16
"""Anybody on the machine may guess, and is not made to wait."""


class ProxyLogin(Config):
    """Which proxies are believed, in which headers, and what the groups they name may do.

    With `secret_file` the proxy sends what that file (mode 600) holds in `secret_header`, with each request.
    """

    trusted: tuple[str, ...] = Field(min_length=1)
    user_header: str = "x-forwarded-user"
    groups_header: str = "x-forwarded-groups"
    roles: dict[str, Role] = Field(default_factory=dict)
    default_role: Role | None = None
    secret_file: Path | None = None
    secret_header: str = "x-heliostat-proxy-secret"

    @field_validator("trusted")
    @classmethod
    def _networks(cls, trusted: tuple[str, ...]) -> tuple[str, ...]:
        return check_networks(trusted)

    @field_validator("secret_file")
    @classmethod
    def _kept_secret(cls, file: Path | None) -> Path | None:
        if file is not None:
            _secret_in(file)
        return file

    def trusts(self, peer: str | None) -> bool:
        """Whether a request that comes from `peer`, an IP address, comes from the proxy."""
        return is_among(peer, self.trusted)

    def actor(self, peer: str | None, headers: Mapping[str, str]) -> Actor | None:
        """Who the proxy says it is, with the highest role of the groups; None where that is nobody.

        `headers` has small letters for names.
        """
        user = headers.get(self.user_header.lower(), "").strip()
        if not user or not self.trusts(peer) or not self._knows_secret(headers):
            return None
        groups = [name.strip() for name in headers.get(self.groups_header.lower(), "").split(",")]
        roles = [self.roles[name] for name in groups if name in self.roles]
        roles += [self.default_role] if self.default_role else []
        return Actor(user, max(roles, key=ROLES.index)) if roles else None

    def _knows_secret(self, headers: Mapping[str, str]) -> bool:
        if self.secret_file is None:
            return True
        try:
            secret = _secret_in(self.secret_file)  # each time: a new one counts at once
        except ValueError:
            return False
        return hmac.compare_digest(secret, headers.get(self.secret_header.lower(), "").encode())


def _secret_in(file: Path) -> bytes:
    """What a secret file holds. ValueError where it is not there, empty, or others may read it."""
    try:
        if file.expanduser().stat().st_mode & 0o077:
            raise ValueError(f"{file}: others may read this secret; chmod 600 {file}")
        secret = file.expanduser().read_bytes().strip()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"{file}: a secret has {LEAST_SECRET} characters or more")
    return secret
