"""Who may do what. Checked by the functions that act, so that no page and no command can forget to."""

from dataclasses import dataclass
from typing import Literal, get_args

from heliostat.errors import AccessError

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the least to the most: whoever may do more may do all that the ones before may."""


@dataclass(frozen=True)
class Actor:
    """Someone who is logged in, or who sits at this machine."""

    user: str
    role: Role = "viewer"

    def may(self, role: Role) -> bool:
        """Whether this one's role is `role` or more."""
        return ROLES.index(self.role) >= ROLES.index(role)


def require(actor: Actor, role: Role, doing: str) -> None:
    """Let only those through who may.

    Raises:
        AccessError: this one may not; says who may.
    """
    if not actor.may(role):
        raise AccessError(
            f"{actor.user} is a {actor.role} and may not {doing}; ask an admin for the role {role}"
        )


def local_actor() -> Actor:
    """Whoever types a command here: what they may do is what the operating system lets them do."""
    from heliostat.records import user_name

    return Actor(user_name(), "admin")
