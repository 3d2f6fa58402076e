"""Checks: small questions asked of a recipe, a machine or a cluster, each answered within its time limit.

A check says what is, and where it is not well how to mend it, in one line each. What goes wrong inside a
check is a line as well: nobody who asks for help gets a traceback.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import ThreadPool
from typing import Any, Literal

from heliostat.errors import HeliostatError

Status = Literal["ok", "warning", "refused", "skipped"]
LIMIT_SECONDS = 4.0


@dataclass(frozen=True)
class Check:
    """The answer to one question. `facts` are its numbers, as JSON values."""

    name: str
    status: Status
    says: str
    mend: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values."""
        return asdict(self)


def ok(name: str, says: str, **facts: Any) -> Check:
    """All is well."""
    return Check(name, "ok", says, None, facts)


def warning(name: str, says: str, mend: str | None, **facts: Any) -> Check:
    """It may work, but not as a person would expect."""
    return Check(name, "warning", says, mend, facts)


def refused(name: str, says: str, mend: str | None, **facts: Any) -> Check:
    """It cannot work."""
    return Check(name, "refused", says, mend, facts)


def skipped(name: str, says: str, mend: str | None = None, **facts: Any) -> Check:
    """It could not be told; `says` has the reason."""
    return Check(name, "skipped", says, mend, facts)


@dataclass(frozen=True)
class Examination:
    """What was found, in the order it was asked, and how long that took."""

    checks: tuple[Check, ...]
    seconds: float

    @property
    def refusals(self) -> list[Check]:
        """What does not work."""
        return those(self.checks, "refused")

    @property
    def warnings(self) -> list[Check]:
        """What may not work as expected."""
        return those(self.checks, "warning")

    def to_json(self) -> dict[str, Any]:
        """The examination as JSON values."""
        return {
            "refused": bool(self.refusals),
            "seconds": round(self.seconds, 3),
            "checks": [check.to_json() for check in self.checks],
        }


@dataclass(frozen=True)
class Question:
    """A check to make: `ask` answers with a Check or several; a HeliostatError that it raises refuses."""

    name: str
    ask: Callable[[], Check | Sequence[Check]]
    limit_seconds: float = LIMIT_SECONDS


def ask_all(questions: Sequence[Question]) -> list[Check]:
    """The answers in the order of the questions, which are asked at the same time.

    One without an answer within its limit is a warning; its thread is left behind, and ends with the process.
    """
    started = time.monotonic()
    failures: list[list[BaseException]] = [[] for _ in questions]
    # Its threads are daemons, unlike those of concurrent.futures: one that hangs does not keep the process.
    pool = ThreadPool(max(1, len(questions)))
    results = [
        pool.apply_async(question.ask, error_callback=failed.append)
        for question, failed in zip(questions, failures, strict=True)
    ]
    checks: list[Check] = []
    for question, result, failed in zip(questions, results, failures, strict=True):
        result.wait(max(0.0, started + question.limit_seconds - time.monotonic()))
        if not result.ready():
            checks.append(_late(question))
        elif result.successful():
            answer = result.get()
            checks += [answer] if isinstance(answer, Check) else answer
        else:
            checks += _failed(question.name, failed[0])
    pool.close()
    return checks


def of_error(name: str, error: HeliostatError, status: Status = "refused") -> list[Check]:
    """A foreseen failure as checks, one a line; what stands behind the last semicolon is how to mend it."""
    checks = []
    for line in str(error).splitlines() or [type(error).__name__]:
        says, _, mend = line.rpartition("; ")
        checks.append(Check(name, status, says or mend, mend if says else None))
    return checks


def those(checks: Iterable[Check], status: Status) -> list[Check]:
    """The checks with this status."""
    return [check for check in checks if check.status == status]


def _late(question: Question) -> Check:
    limit = question.limit_seconds
    return warning(question.name, f"no answer within {limit:g} s", "look whether the disk or network hangs")


def _failed(name: str, error: BaseException) -> list[Check]:
    if isinstance(error, HeliostatError):
        return of_error(name, error)
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    mend = None if isinstance(error, OSError) else "this is a fault of Heliostat's; please report it"
    return [warning(name, f"could not be checked: {what}", mend)]
