"""Who is let in to the dashboard, and as whom. Knows HTTP's words, but no web framework.

Three ways in. `local`: bound to a loopback address and nobody has an account; whoever sits at this machine
is the actor. `accounts`: a name and a password open a session, whose signed cookie the browser keeps.
`proxy`: a proxy that logs people in (with OpenID Connect, say) names them in headers.
"""

import base64
import hmac
import ipaddress
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from heliostat.control.accounts import Accounts
from heliostat.control.ended_sessions import EndedSessions
from heliostat.control.networks import check_networks
from heliostat.control.proxy_login import ProxyLogin
from heliostat.control.roles import Actor, Role, local_actor
from heliostat.control.secret_files import secret_key
from heliostat.errors import ConfigError

SESSION_SECONDS = 12 * 3600.0
"""So long after the last thing done a session ends."""
LONGEST_SESSION_SECONDS = 7 * 24 * 3600.0
Way = Literal["local", "accounts", "proxy"]


@dataclass(frozen=True)
class Admission:
    """Someone who is in: the actor, and by which session (empty without a login)."""

    actor: Actor
    session: str = ""
    stamp: str = ""
    since: float = 0.0


@dataclass
class Door:
    """Lets people in, for one server."""

    accounts: Accounts
    loopback: bool
    proxy: ProxyLogin | None = None
    local_role: Role = "admin"
    clock: Callable[[], float] = time.time
    _ended: EndedSessions = field(init=False)
    _seen: dict[str, float] = field(default_factory=dict)
    _seal: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _had_accounts: bool = False

    def __post_init__(self) -> None:
        path = self.accounts.path
        self._ended = EndedSessions(path.with_name(f"{path.stem}.ended.json"), LONGEST_SESSION_SECONDS)

    @property
    def way(self) -> Way:
        """How one gets in now. The first account closes the local way, and it stays closed."""
        if self.proxy is not None:
            return "proxy"
        self._had_accounts = self._had_accounts or bool(self.accounts.all())
        return "accounts" if self._had_accounts or not self.loopback else "local"

    def local(self) -> Admission:
        """Whoever sits at this machine."""
        return Admission(Actor(local_actor().user, self.local_role))

    def log_in(self, name: str, password: str) -> tuple[str, Admission] | None:
        """A cookie's value and what it stands for; None where name and password do not fit."""
        account = self.accounts.check(name, password)
        if account is None:
            return None
        admission = Admission(
            Actor(account.name, account.role), secrets.token_hex(16), account.stamp, self.clock()
        )
        return self._sign(self._cookie_key(), "session", _packed(admission)), admission

    def log_out(self, admission: Admission) -> None:
        """End a session, also for whoever has a copy of its cookie; it waits for the disk."""
        if admission.session:
            self._ended.add(admission.session, self.clock())

    def by_cookie(self, cookie: str) -> Admission | None:
        """Whom a session's cookie lets in; None where it is forged, over or nobody's."""
        admission = _unpacked(self._opened(self._cookie_key(), "session", cookie))
        return admission if admission and self.still_in(admission) else None

    def by_proxy(self, peer: str | None, headers: Mapping[str, str]) -> Admission | None:
        """Whom a trusted proxy names; None where the peer is none, or it names nobody who may come in."""
        actor = self.proxy.actor(peer, headers) if self.proxy else None
        return Admission(actor) if actor else None

    def still_in(self, admission: Admission) -> bool:
        """As `is_valid`; it counts as use, which keeps a session open."""
        valid = self.is_valid(admission)
        if valid and admission.session:
            self._seen[admission.session] = self.clock()
        return valid

    def is_valid(self, admission: Admission) -> bool:
        """Whether an admission counts now: not over, not logged out, the account as it was."""
        if not admission.session:
            return self.way != "accounts"
        account = self.accounts.find(admission.actor.user)
        if account is None or account.stamp != admission.stamp or admission.session in self._ended:
            return False
        now = self.clock()
        used = max(admission.since, self._seen.get(admission.session, 0.0))
        if now - used > SESSION_SECONDS or now - admission.since > LONGEST_SESSION_SECONDS:
            self._seen.pop(admission.session, None)
            return False
        return True

    def sealed(self, admission: Admission) -> str:
        """An admission as a header's value that nobody outside this process can make."""
        return self._sign(self._seal, "admission", _packed(admission))

    def unsealed(self, value: str) -> Admission | None:
        """The admission in a sealed value, where it still counts."""
        admission = _unpacked(self._opened(self._seal, "admission", value))
        return admission if admission and self.still_in(admission) else None

    def form_token(self, nonce: str) -> str:
        """What a form must send back to show that it was drawn for the browser that holds `nonce`."""
        return hmac.digest(self._seal, f"form.{nonce}".encode(), "sha256").hex()

    def form_fits(self, nonce: str, token: str) -> bool:
        """Whether a form was drawn for the browser that holds `nonce`."""
        return bool(nonce) and token.isascii() and hmac.compare_digest(self.form_token(nonce), token)

    def _cookie_key(self) -> bytes:
        return secret_key(self.accounts.path.with_name(f"{self.accounts.path.stem}.key"))

    def _sign(self, key: bytes, purpose: str, content: dict[str, Any]) -> str:
        body = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
        return f"{body}.{hmac.digest(key, f'{purpose}.{body}'.encode(), 'sha256').hex()}"

    def _opened(self, key: bytes, purpose: str, value: str) -> dict[str, Any] | None:
        body, _, signature = value.partition(".")
        right = hmac.digest(key, f"{purpose}.{body}".encode(), "sha256").hex()
        if not value.isascii() or not hmac.compare_digest(right, signature):
            return None
        return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine and cannot be reached from another."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_way_in(host: str, accounts: Accounts, proxy: ProxyLogin | None) -> None:
    """Refuse to open a dashboard to others that nobody can, or everybody could, get in to.

    Raises:
        ConfigError: it would be bound to where others reach it, and there is no login.
    """
    if not is_loopback(host) and proxy is None and not accounts.all():
        raise ConfigError(
            f"--host {host} can be reached by others, and nobody has an account; add one with "
            "'heliostat dashboard user add NAME --role admin', or leave --host at 127.0.0.1"
        )


def check_trusted(proxies: tuple[str, ...]) -> None:
    """Refuse to believe everybody, or what is no address.

    Raises:
        ConfigError: which one it is.
    """
    try:
        check_networks(proxies)
    except ValueError as error:
        raise ConfigError(f"--trusted-proxy: {error}") from None


def _packed(admission: Admission) -> dict[str, Any]:
    actor = admission.actor
    return {
        "user": actor.user,
        "role": actor.role,
        "session": admission.session,
        "stamp": admission.stamp,
        "since": admission.since,
    }


def _unpacked(content: dict[str, Any] | None) -> Admission | None:
    if content is None:
        return None
    actor = Actor(content["user"], content["role"])
    return Admission(actor, content["session"], content["stamp"], content["since"])
