"""The queue of requests that a rule of the guard holds until a person decides."""

import shlex
from typing import Literal

from heliostat.control.readings import Reading, take
from heliostat.control.roles import Actor, Role, require
from heliostat.control.shown_commands import workspace_words
from heliostat.serving.guard.review_queue import ReviewItem, ReviewQueue
from heliostat.workspace import Workspace

__all__ = [
    "ReviewItem",
    "approve",
    "decision_command",
    "list_reviews",
    "read_reviews",
    "reject",
    "show_review",
]

ROLE: Role = "operator"
Status = Literal["pending", "approved", "rejected"]
Decision = Literal["approve", "reject"]


def list_reviews(workspace: Workspace, status: Status | None = "pending") -> list[ReviewItem]:
    """The requests of that status, all of them for None: those that wait first, and of these the oldest."""
    return ReviewQueue(workspace.storage).list(status)


def read_reviews(workspace: Workspace, status: Status | None = "pending") -> Reading[list[ReviewItem]]:
    """As `list_reviews`, where the workspace may be away."""
    return take(lambda: list_reviews(workspace, status))


def show_review(workspace: Workspace, item_id: str) -> ReviewItem:
    """A request in full, by its id or how that begins.

    Raises:
        ConfigError: there is none, or there are several.
    """
    return ReviewQueue(workspace.storage).get(item_id)


def approve(actor: Actor, workspace: Workspace, item_id: str, reason: str = "") -> ReviewItem:
    """Let a request through when the same tenant asks it again.

    Raises:
        AccessError: this one may not decide.
        ConfigError: there is no such request, or it is decided otherwise.
    """
    require(actor, ROLE, "decide about held requests")
    return ReviewQueue(workspace.storage).approve(item_id, actor.user, reason)


def reject(actor: Actor, workspace: Workspace, item_id: str, reason: str = "") -> ReviewItem:
    """Refuse a request whenever it is asked; errors as `approve`."""
    require(actor, ROLE, "decide about held requests")
    return ReviewQueue(workspace.storage).reject(item_id, actor.user, reason)


def decision_command(workspace: Workspace, decision: Decision, item_id: str, reason: str = "") -> str:
    """The command line of a decision."""
    why = ["--reason", reason] if reason else []
    return shlex.join(["heliostat", "review", decision, item_id[:12], *why, *workspace_words(workspace)])
