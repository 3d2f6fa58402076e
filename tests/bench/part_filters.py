"""Filters and personal data: the tools in turns, and how much of the planted personal data they find."""

import json
from functools import partial

from tests.bench import data_juicer_runs
from tests.bench.datatrove_runs import rows_in, run_datatrove
from tests.bench.heliostat_runs import (
    FILTER_STEPS,
    filters_command,
    make_workspace,
    published,
    runner_command,
)
from tests.bench.peers import DATA_JUICER, DATATROVE
from tests.bench.scoring import personal_data_found
from tests.bench.session import OURS, Job, Run, Session, Tool, in_turns

PART, PERSONAL = "filters", "personal data"


def filters(session: Session) -> list[Job]:
    """FineWeb's filters and personal data from files to files; the same steps on one core."""
    size = session.megabytes
    tools = [
        Tool(OURS, _ours, 15 + 0.15 * size),
        Tool("heliostat, steps on one core", _one_core, 2 + 0.2 * size),
    ]
    personal = [Job(PERSONAL, OURS, partial(_redact_ours, session), 3 + 0.1 * size)]
    if DATATROVE.name in session.pythons:
        tools.append(Tool(DATATROVE.name, _datatrove, 5 + 1.5 * size))
        redact = partial(_redact_datatrove, session)
        personal.append(Job(PERSONAL, DATATROVE.name, redact, 3 + 0.1 * size))
    if DATA_JUICER.name in session.pythons:
        tools.append(Tool("data-juicer, word count and PII", _data_juicer, 30 + 0.5 * size))
    return [*in_turns(session, PART, tools), *personal]


def _ours(session: Session, tool: str) -> Run:
    workspace = make_workspace(session.fresh("workspace"))
    usage = session.measure("filters-heliostat", filters_command(session.corpus, workspace))
    found = published(session.corpus, workspace)
    figures = {"kept": sorted(found.kept), "balances": found.balances}
    return Run(PART, tool, usage, {**figures, **_rate(session, usage.wall_seconds)})


def _rate(session: Session, seconds: float) -> dict[str, float]:
    return {"documents_per_second": session.corpus.summary["documents"] / seconds}


def _one_core(session: Session, tool: str) -> Run:
    figures = session.result_of(runner_command("filters", session.shards, json.dumps(FILTER_STEPS)))
    return Run(PART, tool, None, {**figures, **_rate(session, figures["cpu_seconds"])})


def _datatrove(session: Session, tool: str) -> Run:
    output = session.fresh("datatrove")
    usage = run_datatrove(session, "filters", session.shards, output, "2")
    kept = sorted(row["id"] for row in rows_in(output / "kept"))
    return Run(PART, tool, usage, {"kept": kept, **_rate(session, usage.wall_seconds)})


def _data_juicer(session: Session, tool: str) -> Run:
    output = session.fresh("data-juicer")
    command = data_juicer_runs.filters_command(session.pythons[DATA_JUICER.name], session.shards, output)
    usage = session.measure("filters-data-juicer", command)
    return Run(PART, tool, usage, _rate(session, usage.wall_seconds))


def _redact_ours(session: Session) -> Run:
    output = session.fresh("redacted")
    output.mkdir()
    session.result_of(runner_command("redact", session.shards, output / "redacted.jsonl"))
    texts = {row["id"]: row["text"] for row in rows_in(output)}
    return Run(PERSONAL, OURS, None, {"found": personal_data_found(session.corpus.truth(), texts)})


def _redact_datatrove(session: Session) -> Run:
    output = session.fresh("datatrove")
    run_datatrove(session, "redact", session.shards, output)
    texts = {row["id"]: row["text"] for row in rows_in(output)}
    return Run(PERSONAL, DATATROVE.name, None, {"found": personal_data_found(session.corpus.truth(), texts)})
