"""`heliostat doctor`: what is wrong with this machine, or with a cluster, and how to mend it."""

import time

from heliostat.control.checks import Examination, Question, ask_all
from heliostat.control.doctor_cluster import cluster_checks
from heliostat.control.doctor_machine import machine_questions
from heliostat.control.doctor_network import network_questions
from heliostat.control.doctor_packages import package_questions
from heliostat.control.doctor_torch import torch_questions
from heliostat.workspace import Workspace

CLUSTER_SECONDS = 15.0
DEEP_SECONDS = 120.0
"""For a job on every node: a node's first worker process takes seconds, and the cluster may be busy."""


def examine(workspace: str | None = None, address: str | None = None, deep: bool = False) -> Examination:
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
    return Examination(tuple(ask_all(questions)), time.monotonic() - started)
