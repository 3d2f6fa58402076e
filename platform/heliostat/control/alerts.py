"""Alerts: what somebody should look at. One opens once, and closes by itself when its cause is gone.

Rules (`alert_rules`, `run_alerts`) say what is wrong now; `alert_watch` asks them again and again. What has a
name in cluster/kubernetes/monitoring/rules.yml has the same name here.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from heliostat.control.readings import Reading, take
from heliostat.control.roles import Actor, require
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.tables import alerts
from heliostat.errors import ConfigError
from heliostat.records import Record
from heliostat.text.one_line import fit

RUNBOOK = {
    "DiskAlmostFull": "disk-full",
    "EndpointDown": "endpoint-down",
    "EndpointErrors": "endpoint-down",
    "EndpointLocked": "endpoint-down",
    "EndpointSlow": "endpoint-down",
    "FirstTokenSlow": "endpoint-down",
    "HeadLost": "head-lost",
    "JobFailed": "",
    "LossSpike": "",
    "NanLoss": "nan-loss",
    "NodeDown": "node-lost",
    "NodesFail": "node-lost",
    "NoReplica": "replica-lost",
    "OutOfMemory": "out-of-memory",
    "StageFailed": "",
    "TrainingFailed": "worker-lost",
    "TrainingStalls": "worker-lost",
    "WorkPendsForLong": "pending-for-ever",
}
"""Every rule, and its section of cluster/RUNBOOK.md."""
MOST_TEXT = 2000
MOST_SUBJECT = 255
CLUSTER = "cluster"


class Finding(Record):
    """What a rule finds wrong now. The subject is `KIND/NAME`, or `cluster`."""

    rule: str
    subject: str
    text: str
    mend: str
    since: datetime | None = None
    """When its cause began; None where nothing tells, and counts from when it was seen first."""
    after_seconds: float = 0.0
    """How long the cause must last before an alert opens."""
    opens: bool = True
    """False between two thresholds: what is open stays open, and nothing opens."""


class Alert(Record):
    """Something that went wrong: what, where, since when, how to mend it. `until` is set when it is over."""

    id: str
    rule: str
    subject: str
    text: str
    mend: str
    since: datetime
    until: datetime | None = None
    acknowledged_by: str | None = None

    @property
    def kind(self) -> str:
        """What its subject is: run, job, node, disk, endpoint, cluster."""
        return self.subject.partition("/")[0]

    @property
    def name(self) -> str:
        """Which one; "" for the cluster."""
        return self.subject.partition("/")[2]

    @property
    def runbook(self) -> str:
        """Where cluster/RUNBOOK.md says more; "" where it does not."""
        section = RUNBOOK.get(self.rule, "")
        return f"cluster/RUNBOOK.md#{section}" if section else ""


@dataclass(frozen=True)
class Change:
    """An alert that opened or closed just now."""

    alert: Alert
    event: Literal["opened", "closed"]


@dataclass(frozen=True)
class Blind:
    """What could not be looked at: alerts about it are neither opened nor closed."""

    rules: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()

    def hides(self, alert: Alert) -> bool:
        """Whether nothing is known of this one's cause."""
        return alert.rule in self.rules or alert.subject in self.subjects

    def __or__(self, other: "Blind") -> "Blind":
        return Blind(self.rules | other.rules, self.subjects | other.subjects)


NOT_BLIND = Blind()


def subject_of(kind: str, name: str) -> str:
    """What an alert is about, as it is kept; a name too long for a database's index is cut."""
    return fit(f"{kind}/{name}", MOST_SUBJECT)


def alert_id(rule: str, subject: str, since: datetime) -> str:
    """The same cause has the same id, whoever looks and however often."""
    words = f"{rule}\0{subject}\0{int(since.timestamp())}"
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def read_alerts(store: Store, open_only: bool = True, limit: int = 500) -> Reading[tuple[Alert, ...]]:
    """The alerts, the newest first; those that are over too where asked."""
    return take(lambda: find_alerts(store, open_only, limit))


def find_alerts(store: Store, open_only: bool = True, limit: int = 500) -> tuple[Alert, ...]:
    """The same, for those who act.

    Raises:
        StoreError: the database is away.
    """
    query = select(alerts).order_by(alerts.c.since.desc(), alerts.c.id).limit(limit)
    if open_only:
        query = query.where(alerts.c.until.is_(None))
    with store.begin() as connection:
        return tuple(_alert(row) for row in connection.execute(query))


def acknowledge(site: Site, actor: Actor, alert_id: str) -> Alert:
    """Say that somebody looks after it. Of several the first counts; it stays open until its cause is gone.

    Raises:
        AccessError: a viewer may not.
        ConfigError: there is no such alert.
        StoreError: the database is away.
    """
    require(actor, "operator", "acknowledge alerts")
    change = update(alerts).where(alerts.c.id == alert_id, alerts.c.acknowledged_by.is_(None))
    with site.store.begin() as connection:
        connection.execute(change.values(acknowledged_by=actor.user))
        row = connection.execute(select(alerts).where(alerts.c.id == alert_id)).first()
    if row is None:
        raise ConfigError(
            f"no alert '{alert_id}' is on record; 'heliostat alerts --all' names those there are"
        )
    return _alert(row)


def ripen(
    findings: Iterable[Finding], opened: Sequence[Alert], seen: Mapping[str, float], now: datetime
) -> tuple[list[Finding], dict[str, float]]:
    """The findings whose cause has lasted long enough, each with its beginning; and when each was seen first,
    in seconds since 1970, to be handed in again the next time."""
    ids = {alert.id for alert in opened}
    open_since = {seen_key(alert.rule, alert.subject): alert.since for alert in opened}
    ripe, kept = [], {}
    for finding in findings:
        since, key = finding.since, seen_key(finding.rule, finding.subject)
        if since is None:
            first = datetime.fromtimestamp(seen.get(key, now.timestamp()), UTC)
            since = open_since.get(key, first)
            if finding.opens or key in open_since:
                kept[key] = since.timestamp()
        is_open = alert_id(finding.rule, finding.subject, since) in ids
        lasted = (now - since).total_seconds() >= finding.after_seconds
        if is_open or (lasted and finding.opens):
            ripe.append(finding.model_copy(update={"since": since}))
    return ripe, kept


def seen_key(rule: str, subject: str) -> str:
    """Under what it is kept when something was seen first."""
    return f"{rule} {subject}"


def settle(
    store: Store, findings: Iterable[Finding], now: datetime, blind: Blind = NOT_BLIND
) -> tuple[Change, ...]:
    """Open, keep and close alerts by the findings that hold now; each has its `since`. One that comes back
    with the same beginning is the same alert, and opens no second time.

    Raises:
        StoreError: the database is away, or another process did the same just now.
    """
    wanted: dict[str, Alert] = {}
    for finding in findings:
        alert = _of_finding(finding, now)
        wanted.setdefault(alert.id, alert)
    changes = []
    with store.begin() as connection:
        rows = connection.execute(select(alerts).where(alerts.c.until.is_(None)))
        opened = {row.id: _alert(row) for row in rows}
        for alert in wanted.values():
            known = opened.get(alert.id)
            if known is None:
                if _open(connection, alert):
                    changes.append(Change(alert, "opened"))
            elif (known.text, known.mend) != (alert.text, alert.mend):
                _change(connection, alert.id, text=alert.text, mend=alert.mend)
        for alert in opened.values():
            if alert.id not in wanted and not blind.hides(alert):
                _change(connection, alert.id, until=now)
                changes.append(Change(alert.model_copy(update={"until": now}), "closed"))
    return tuple(changes)


def drop_old_alerts(store: Store, before: datetime) -> None:
    """Forget alerts that were over before then.

    Raises:
        StoreError: the database is away.
    """
    with store.begin() as connection:
        connection.execute(delete(alerts).where(alerts.c.until < before))


def _of_finding(finding: Finding, now: datetime) -> Alert:
    since = finding.since or now
    return Alert(
        id=alert_id(finding.rule, finding.subject, since),
        rule=finding.rule,
        subject=finding.subject,
        text=fit(finding.text, MOST_TEXT),
        mend=fit(finding.mend, MOST_TEXT),
        since=since,
    )


def _open(connection: Connection, alert: Alert) -> bool:
    """Whether it is new; one that was closed is open again without a word."""
    again = update(alerts).where(alerts.c.id == alert.id)
    if connection.execute(again.values(until=None, text=alert.text, mend=alert.mend)).rowcount:
        return False
    connection.execute(insert(alerts).values(**alert.model_dump()))
    return True


def _change(connection: Connection, alert_id: str, **values: Any) -> None:
    connection.execute(update(alerts).where(alerts.c.id == alert_id).values(**values))


def _alert(row: Row[Any]) -> Alert:
    return Alert.model_validate(dict(row._mapping))
