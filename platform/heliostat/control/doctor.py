"""`heliostat doctor`: what is wrong with this machine, or with a cluster, and how to mend it."""

import time
from dataclasses import dataclass
from typing import Any

from heliostat.control.checks import Check, Question, ask_all, those
from heliostat.control.doctor_cluster import cluster_checks
from heliostat.control.doctor_machine import machine_questions
from heliostat.control.doctor_network import network_questions
from heliostat.control.doctor_packages import package_questions
from heliostat.control.doctor_torch import torch_questions
from heliostat.workspace import Workspace

CLUSTER_SECONDS = 15.0
DEEP_SECONDS = 120.0
"""For a job on every node: a node's first worker process takes seconds, and the cluster may be busy."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found, in the order it was asked."""

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
        """The diagnosis as JSON values."""
        return {
            "refused": bool(self.refusals),
            "seconds": round(self.seconds, 3),
            "checks": [check.to_json() for check in self.checks],
        }


def examine(workspace: str | None = None, address: str | None = None, deep: bool = False) -> Diagnosis:
    """Check this machine and, with an address, a cluster; `deep` runs a small job on each of its nodes.

    No check raises: what goes wrong in one is a line.

    Raises:
        ConfigError: the workspace is not one that can be named.
    """
    started = time.monotonic()
    place = Workspace.resolve(workspace)
    questions = [
        *package_questions(),
        *torch_questions(),
        *machine_questions(place),
        *network_questions(place, address),
    ]
    if address is not None:
        limit = DEEP_SECONDS if deep else CLUSTER_SECONDS
        questions.append(Question("cluster", lambda: cluster_checks(address, place, deep), limit))
    return Diagnosis(tuple(ask_all(questions)), time.monotonic() - started)
