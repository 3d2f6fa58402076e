"""The rules for cluster, nodes, disks, jobs and endpoints: from what is noted to what is wrong. Pure."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from heliostat.control.alerts import CLUSTER, Finding, subject_of
from heliostat.control.demand import Demand, Waiting
from heliostat.control.endpoint_state import EndpointState, EndpointStatus
from heliostat.control.holders import Holder
from heliostat.control.job_records import JobRecord
from heliostat.control.nodes import Node
from heliostat.control.readings import Ok, Reading
from heliostat.records import Record
from heliostat.training.memory_advice import is_out_of_memory

MINUTE = 60.0
AWAY_SECONDS, FULL_DISK_SECONDS = 2 * MINUTE, MINUTE
PENDING_SECONDS, IMPOSSIBLE_SECONDS = 15 * MINUTE, MINUTE
ENDED_SECONDS = 10.0
"""After an end, until all is noted: a job is seen to have failed before its run says why."""
FULL, FULL_NO_MORE = 0.90, 0.87
"""Shares of a disk. Between them an alert stays as it is: a disk at the edge is told of once."""
SAME_DISK = 0.01
"""Of its size; machines of one kind have disks of one size, so that alone says little."""
MOST_ERRORS, SLOW_SECONDS, FIRST_TOKEN_SECONDS = 0.05, 60.0, 5.0
EXPECTED_ENDS = ("expected termination", "terminated due to idle")
"""How Ray's words of a node begin that was meant to go."""
MEMORY_WORDS = ("ran out of memory", "for want of memory")
MORE_MEMORY = (
    "lower micro_batch_size or max_sequence_length, or give each worker more memory; "
    "'heliostat train plan RECIPE' says beforehand how much it takes"
)

ADVICE = {
    "add", "ask", "call", "change", "check", "chmod", "choose", "convert", "correct", "create",
    "delete", "deploy", "do", "drop", "end", "evaluate", "fetch", "find", "free", "give", "if",
    "install", "keep", "leave", "let", "load", "look", "lower", "make", "merge", "move", "name",
    "prepare", "put", "raise", "read", "register", "remove", "rename", "renew", "restore", "run",
    "save", "say", "see", "send", "serve", "set", "start", "stop", "submit", "take", "tell",
    "train", "try", "unset", "update", "use", "wait", "write",
}  # fmt: skip
"""How the second part of an error of this house begins that says what to do."""
FOREIGN = re.compile(r"[\w.]*[A-Z]\w*: ")
"""How a run's record begins its error where that was not foreseen: with the exception's class."""


class DiskUse(Record):
    """How full a disk is. `reserved_bytes` are root's own: neither used nor to be had."""

    name: str
    used_bytes: int
    total_bytes: int
    reserved_bytes: int = 0

    def may_be(self, other: "DiskUse") -> bool:
        """Whether both may be one disk, looked at some seconds apart."""
        apart = abs(self.used_bytes - other.used_bytes)
        return self.total_bytes == other.total_bytes and apart <= SAME_DISK * self.total_bytes


def parted(message: str, mend: str) -> tuple[str, str]:
    """A message as what is wrong and how to mend it.

    Of one of this house the part behind "; " says how, where it begins as advice does. Of any other, such as
    a foreign exception, nothing is cut off, and `mend` counts.
    """
    text, _, rest = message.partition("; ")
    advises = rest.startswith("'heliostat ") or rest.partition(" ")[0] in ADVICE
    return (text, rest) if advises and not FOREIGN.match(message) else (message, mend)


def is_about_memory(words: str) -> bool:
    """Whether something ended for want of memory, by what was said of it."""
    return any(each in words for each in MEMORY_WORDS) or is_out_of_memory(words)


def cluster_alerts(contact: Reading[str]) -> list[Finding]:
    """HeadLost: the cluster has not answered for two minutes."""
    if isinstance(contact, Ok) or contact.since is None:
        return []
    text, mend = parted(contact.reason, "check the address and that the head node runs; 'heliostat doctor'")
    return [_finding("HeadLost", CLUSTER, text, mend, since=contact.since, after_seconds=AWAY_SECONDS)]


def node_alerts(nodes: Sequence[Node], now: datetime, recent_seconds: float) -> list[Finding]:
    """NodeDown: a node was lost that nobody sent away, and none like it has come up since."""
    found = []
    for node in nodes:
        if node.alive or node.ended_at is None or _meant_to_go(node) or _replaced(node, nodes):
            continue
        if (now - node.ended_at).total_seconds() > recent_seconds:
            continue
        group = f" of group {node.group}" if node.group else ""
        text = (
            f"node {node.name or node.ip or node.id}{group} is lost: {node.state_message or 'no reason told'}"
        )
        mend = (
            "the autoscaler brings another up while something waits for it; else start the node again "
            "(cluster/start_worker.sh). Trainings go on from their last checkpoint"
        )
        found.append(_finding("NodeDown", subject_of("node", node.id), text, mend, since=node.ended_at))
    return found


def launch_alerts(demand: Demand) -> list[Finding]:
    """NodesFail: a node could not be started, or was lost by the autoscaler; told once a node type."""
    latest = {failure.node_type: failure for failure in reversed(demand.failures)}
    mend = (
        "look at the quota, the image and the machine of this node type; 'heliostat cluster status' has more"
    )
    return [
        _finding(
            "NodesFail",
            subject_of("nodes", kind),
            f"a node of type {kind} could not be started, or was lost: {failure.reason}",
            mend,
        )
        for kind, failure in latest.items()
    ]


def disk_alerts(nodes: Sequence[Node], own: DiskUse | None) -> list[Finding]:
    """DiskAlmostFull: of a machine's disk or the workspace's own. Nodes on one machine share its disk."""
    disks = {
        node.name or node.ip: DiskUse(
            name=node.name or node.ip, used_bytes=node.disk_used_bytes, total_bytes=node.disk_total_bytes
        )
        for node in nodes
        if node.alive and node.disk_used_bytes is not None and node.disk_total_bytes
    }
    told = [
        (subject_of("disk", name), f"the disk of {name}", disk)
        for name, disk in sorted(disks.items())
        if own is None or not disk.may_be(own)
    ]
    if own is not None and own.total_bytes:
        told.insert(0, (subject_of("disk", "workspace"), f"the workspace's disk ({own.name})", own))
    mend = (
        "'heliostat gc' says what nobody needs and 'heliostat gc --delete' removes it; "
        "sessions of Ray that have ended may go from its temporary folder"
    )
    found = []
    for subject, name, disk in told:
        free_bytes = disk.total_bytes - disk.used_bytes - disk.reserved_bytes
        share = 1 - free_bytes / disk.total_bytes
        if share > FULL_NO_MORE:
            free = free_bytes / 2**30
            text = f"{name} is {share:.0%} full, {free:.0f} GiB are free"
            found.append(
                _finding(
                    "DiskAlmostFull",
                    subject,
                    text,
                    mend,
                    after_seconds=FULL_DISK_SECONDS,
                    opens=share > FULL,
                )
            )
    return found


def pending_alerts(demand: Demand, holders: Sequence[Holder], pending: Sequence[JobRecord]) -> list[Finding]:
    """WorkPendsForLong: a job, or something on the cluster, has waited for room for a quarter of an hour;
    what can never start is told after a minute. The words are those of the cluster's demand. A request stands
    for as long as its training runs, also when it is met, and is no sign of waiting."""
    since = {job.id: job.changed_at for job in pending}
    found: dict[str, Finding] = {}
    for each in (waiting for waiting in demand.waiting if waiting.kind != "request"):
        for job in _waiting_jobs(each, holders) or ("",):
            subject = subject_of("job", job) if job else subject_of(CLUSTER, f"{each.kind} of {each.asked}")
            who = f"{each.count} x {each.kind} ({each.asked})"
            finding = _waits(subject, f"{who} of job {job}" if job else who, each.why, each.reason)
            found.setdefault(subject, finding.model_copy(update={"since": since.get(job)}))
    for record in pending:
        subject = subject_of("job", record.id)
        why = record.reason or "Ray has not said why"
        waits = _waits(subject, f"job {record.name} ({record.id})", why, "")
        found.setdefault(subject, waits.model_copy(update={"since": record.changed_at}))
    return list(found.values())


def job_alerts(
    failed: Sequence[JobRecord], retried: Collection[str], told: Collection[str], why: Mapping[str, str]
) -> list[Finding]:
    """OutOfMemory and JobFailed: jobs that ended badly and were not handed in again. Of those in `told` a run
    says it already; `why` has the last words of a job's log."""
    found = []
    for job in failed:
        if job.id in retried or job.id in told:
            continue
        words = why.get(job.id) or job.reason or "no reason told"
        again = f"'heliostat jobs logs {job.id}' has its output; once mended, 'heliostat jobs retry {job.id}'"
        about_memory = is_about_memory(f"{words} {job.reason}")
        text, mend = parted(words, f"{MORE_MEMORY}; {again}" if about_memory else again)
        ended = "was lost" if job.state == "LOST" else "failed"
        found.append(
            _finding(
                "OutOfMemory" if about_memory else "JobFailed",
                subject_of("job", job.id),
                f"job {job.name} ({job.id}) {ended}: {text}",
                mend,
                since=job.ended_at or job.changed_at,
                after_seconds=ENDED_SECONDS,
            )
        )
    return found


def endpoint_alerts(states: Sequence[EndpointState], forgotten: Collection[str]) -> list[Finding]:
    """EndpointDown, EndpointLocked, NoReplica, EndpointErrors, EndpointSlow, FirstTokenSlow. Endpoints that
    somebody has said are gone are left alone."""
    told = (_of_endpoint(state) for state in states if state.name not in forgotten)
    return list(chain.from_iterable(told))


_NOT_WELL: Mapping[EndpointStatus, tuple[str, float, str]] = {
    "away": ("EndpointDown", MINUTE, "'heliostat serve status'; if its cluster is gone, deploy it again"),
    "missing": ("EndpointDown", MINUTE, "deploy it again, or 'heliostat endpoints forget NAME'"),
    "gone": ("EndpointDown", 0.0, "serve it again, or 'heliostat endpoints forget NAME'"),
    "locked": ("EndpointLocked", MINUTE, "put a key of scope admin where the collector runs"),
    "starting": ("NoReplica", 15 * MINUTE, "see its logs on the endpoint's page, and what waits for room"),
}


def _of_endpoint(state: EndpointState) -> list[Finding]:
    subject = subject_of("endpoint", state.name)
    if state.status in _NOT_WELL:
        rule, seconds, mend = _NOT_WELL[state.status]
        text, mend = parted(state.reason, mend.replace("NAME", state.name))
        return [_finding(rule, subject, f"endpoint {state.name}: {text}", mend, after_seconds=seconds)]
    figures, found = state.figures, []
    if (figures.error_share or 0) > MOST_ERRORS:
        text = f"more than {MOST_ERRORS:.0%} of the requests to endpoint {state.name} fail"
        mend = f"see its logs; if a new version is to blame, 'heliostat serve rollback {state.name}'"
        found.append(_finding("EndpointErrors", subject, text, mend, after_seconds=5 * MINUTE))
    more = f"'heliostat serve scale {state.name}', or autoscaling in its recipe"
    if (figures.p95_seconds or 0) > SLOW_SECONDS:
        text = f"one in twenty answers of endpoint {state.name} takes longer than {SLOW_SECONDS:g} s"
        found.append(_finding("EndpointSlow", subject, text, more, after_seconds=10 * MINUTE))
    if (figures.first_token_p95_seconds or 0) > FIRST_TOKEN_SECONDS:
        text = (
            f"one in twenty first tokens of endpoint {state.name} takes longer than {FIRST_TOKEN_SECONDS:g} s"
        )
        mend = f"{more}; with a full KV cache a smaller max_context_tokens"
        found.append(_finding("FirstTokenSlow", subject, text, mend, after_seconds=10 * MINUTE))
    return found


def _finding(rule: str, subject: str, text: str, mend: str, **more: Any) -> Finding:
    return Finding(rule=rule, subject=subject, text=text, mend=mend, **more)


def _waits(subject: str, who: str, why: str, reason: str) -> Finding:
    text, mend = parted(why, "'heliostat cluster status' says what is in use and by whom")
    if reason == "impossible":
        text, mend = why, "ask for less in its recipe, or add a node type that has it"
    seconds = IMPOSSIBLE_SECONDS if reason == "impossible" else PENDING_SECONDS
    return _finding("WorkPendsForLong", subject, f"{who} waits: {text}", mend, after_seconds=seconds)


def _waiting_jobs(waiting: Waiting, holders: Sequence[Holder]) -> list[str]:
    """The jobs whose actors, tasks or groups wait for exactly this."""
    wanted = _bundles(waiting.bundles)
    jobs = (
        each.job_id
        for each in holders
        if each.waits and each.job_id and _bundles(each.bundles or (each.resources,)) == wanted
    )
    return sorted(set(jobs))


def _bundles(bundles: Sequence[Mapping[str, float]]) -> list[list[tuple[str, float]]]:
    return sorted(sorted(bundle.items()) for bundle in bundles)


def _meant_to_go(node: Node) -> bool:
    return node.state_message.lower().startswith(EXPECTED_ENDS)


def _replaced(lost: Node, nodes: Sequence[Node]) -> bool:
    """Whether a node of the same group, or where it has none of the same machine, has come up since."""
    ended = lost.ended_at
    return any(
        node.group == lost.group if lost.group else node.name == lost.name
        for node in nodes
        if node.alive and node.started_at and ended and node.started_at >= ended
    )
