"""Login by a proxy in front of the dashboard that speaks OpenID Connect and names the user in headers.

The headers count from the proxy's own addresses only: anybody else could write them too.
"""

import ipaddress
from collections.abc import Mapping

from pydantic import Field, field_validator

from heliostat.config import Config
from heliostat.control.roles import ROLES, Actor, Role


class ProxyLogin(Config):
    """Which proxies are believed, in which headers, and what the groups they name may do."""

    trusted: tuple[str, ...] = Field(min_length=1)
    user_header: str = "x-forwarded-user"
    groups_header: str = "x-forwarded-groups"
    roles: dict[str, Role] = Field(default_factory=dict)
    default_role: Role | None = None

    @field_validator("trusted")
    @classmethod
    def _networks(cls, trusted: tuple[str, ...]) -> tuple[str, ...]:
        for network in trusted:
            if ipaddress.ip_network(network).prefixlen == 0:
                raise ValueError(f"{network} is everybody; name the proxy's own addresses")
        return trusted

    def trusts(self, peer: str | None) -> bool:
        """Whether a request that comes from `peer`, an IP address, comes from the proxy."""
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        return any(address in ipaddress.ip_network(network) for network in self.trusted)

    def actor(self, peer: str | None, headers: Mapping[str, str]) -> Actor | None:
        """Who the proxy says it is, with the highest role of the groups; None where that is nobody.

        `headers` has small letters for names.
        """
        user = headers.get(self.user_header.lower(), "").strip()
        if not user or not self.trusts(peer):
            return None
        groups = [name.strip() for name in headers.get(self.groups_header.lower(), "").split(",")]
        roles = [self.roles[name] for name in groups if name in self.roles]
        roles += [self.default_role] if self.default_role else []
        return Actor(user, max(roles, key=ROLES.index)) if roles else None
