"""Who has borne an alias, and what was deleted: a name's log, and what a rollback leads to. Pure."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from heliostat.records import Record
from heliostat.versions.names import Alias


class AliasEvent(Record):
    """One change of an alias, kept as a tag of the registered model; the log is never cut."""

    number: int
    action: Literal["promote", "rollback"]
    alias: Alias
    version: str = Field(description="the version that bears the alias from now on")
    replaced: str | None = Field(description="the one that bore it before")
    gate: str = Field(default="", description="how the gate was passed, or that it was skipped")
    report: str | None = Field(default=None, description="the id of the report that the gate read")
    at: datetime
    user: str


class Deletion(Record):
    """A version that was taken away, kept as a tag of the registered model; its number stays taken."""

    version: str
    artifact_id: str
    uri: str
    at: datetime
    user: str


def before(
    events: list[AliasEvent], current: str | None, deleted: frozenset[str] = frozenset()
) -> str | None:
    """What a rollback gives the alias back to: the version before `current`; None where there was none.

    Each promotion is laid on a stack, and each rollback takes one off, so that two rollbacks lead two
    promotions back. Where the alias was moved by other means, such as MLflow's pages, the bearer of now is
    taken for one more promotion. Versions that were deleted are passed over.
    """
    stack: list[str] = []
    for event in events:
        if event.action == "rollback":
            while stack and stack[-1] != event.version:
                stack.pop()
        if not stack or stack[-1] != event.version:
            stack.append(event.version)
    left = [each for each in stack if each not in deleted]
    while left and left[-1] == current:
        left.pop()
    return left[-1] if left else None
