"""What a soak has found: violations, and tables for people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.bench.serving_bars import percentile
from tests.bench.serving_soak_watch import OURS, Trend
from tests.serving.mixed_load import Outcome

SHOWN = 10


@dataclass(frozen=True)
class Phase:
    """What went on from a moment to another."""

    name: str
    began: float
    ended: float
    seconds: float
    """What the event itself took."""


@dataclass
class Findings:
    """All that was seen."""

    hours: float
    phases: list[Phase] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)
    too_short: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Parts whose processes did not live long enough to say: how many, and the most memory of one."""
    figures: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """Events that failed, processes that were left."""

    @property
    def violations(self) -> list[str]:
        """What must not be."""
        found = list(self.faults)
        verdicts = Counter(outcome.verdict for outcome in self.outcomes)
        if verdicts["failed"]:
            found.append(f"{verdicts['failed']} requests failed, or ended otherwise than they should")
        if verdicts["broken"]:
            found.append(f"{verdicts['broken']} streams ended without an error event")
        faults = sum(outcome.status >= 500 for outcome in self.outcomes)
        if faults:
            found.append(f"{faults} answers were 5xx")
        found += [
            f"{trend.role} {trend.process_id} {trend.verdict}"
            for trend in self.trends
            if trend.role in OURS and not trend.flat
        ]
        return found

    def as_json(self) -> dict[str, Any]:
        """For the report file."""
        wrong = [asdict(each) for each in self.outcomes if each.verdict not in ("ok", "left")]
        return {
            "hours": self.hours,
            "requests": len(self.outcomes),
            "verdicts": Counter(outcome.verdict for outcome in self.outcomes),
            "phases": [_row(phase, self.outcomes) for phase in self.phases],
            "kinds": Counter(outcome.kind for outcome in self.outcomes),
            "wrong": wrong[:200],
            "processes": [{**asdict(trend), "verdict": trend.verdict} for trend in self.trends],
            "too_short": self.too_short,
            "figures": {name: [values[0][1], values[-1][1]] for name, values in self.figures.items()},
            "violations": self.violations,
        }


def print_findings(findings: Findings, console: Console) -> None:
    """Phases, processes, other figures, and what was wrong."""
    console.print(_phase_table(findings))
    console.print(_process_table(findings.trends))
    for role, (number, most) in findings.too_short.items():
        console.print(f"{role}: {number} processes, none for long; at most {most / 2**20:.0f} MB each")
    for name, values in findings.figures.items():
        console.print(f"{name}: {values[0][1]:,.0f} at the start, {values[-1][1]:,.0f} at the end")
    wrong = [each for each in findings.outcomes if each.verdict in ("failed", "broken", "cut")]
    for each in wrong[:SHOWN]:
        console.print(f"{each.verdict}: {each.kind}: {each.error}", markup=False)
    for violation in findings.violations:
        console.print(f"[red]VIOLATION[/] {violation}")
    if not findings.violations:
        console.print("[green]Nothing that must not be.[/]")


def _row(phase: Phase, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    those = [each for each in outcomes if phase.began <= each.sent < phase.ended]
    verdicts = Counter(each.verdict for each in those)
    answered = [each for each in those if each.verdict == "ok" and each.status == 200]
    times = [each.seconds for each in answered] or [0.0]
    firsts = [each.first_seconds for each in answered if "stream" in each.kind] or [0.0]
    return {
        "name": phase.name,
        "event_seconds": phase.seconds,
        "requests": len(those),
        "per_second": len(those) / max(phase.ended - phase.began, 1e-9),
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "first_p50": percentile(firsts, 0.5),
        "first_p99": percentile(firsts, 0.99),
        "server_errors": sum(each.status >= 500 for each in those),
        **{name: verdicts[name] for name in ("failed", "broken", "cut", "left")},
    }


def _phase_table(findings: Findings) -> Table:
    table = Table(title="Phases: an event, and what comes until the next")
    table.add_column("phase")
    columns = ("event s", "requests", "/s", "p50 s", "p99 s", "first p50", "p99", "failed", "broken", "5xx")
    for column in (*columns, "cut", "left"):
        table.add_column(column, justify="right")
    whole = Phase("all", 0.0, float("inf"), sum(phase.seconds for phase in findings.phases))
    for phase in [*findings.phases, whole]:
        row = _row(phase, findings.outcomes)
        rate = len(findings.outcomes) / (3600 * findings.hours) if phase is whole else row["per_second"]
        times = [f"{row[name]:.2f}" for name in ("p50", "p99", "first_p50", "first_p99")]
        counts = [str(row[name]) for name in ("failed", "broken", "server_errors", "cut", "left")]
        table.add_row(
            phase.name, f"{phase.seconds:.1f}", str(row["requests"]), f"{rate:.1f}", *times, *counts
        )
    return table


def _process_table(trends: Sequence[Trend]) -> Table:
    table = Table(title="Processes: memory that each alone has written to, behind its warm-up")
    for column in ("part", "process"):
        table.add_column(column)
    for column in ("minutes", "MB at first", "at last", "MB/h", "descriptors", "threads"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for trend in trends:
        table.add_row(
            trend.role,
            str(trend.process_id),
            f"{trend.seconds / 60:.1f}",
            f"{trend.first_bytes / 2**20:.1f}",
            f"{trend.last_bytes / 2**20:.1f}",
            f"{trend.bytes_per_hour / 2**20:+.1f}",
            f"{trend.more_descriptors:+d}",
            f"{trend.more_threads:+d}",
            trend.verdict,
        )
    return table
