"""Dedup: the tools in turns, ten times the corpus, and the same result whatever happens on the way."""

import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench import data_juicer_runs
from tests.bench.corpus import build_corpus, shuffled_copy
from tests.bench.datatrove_runs import rows_in, run_datatrove
from tests.bench.heliostat_runs import Published, dedup_command, make_workspace, published, runner_command
from tests.bench.measure import CommandFailed, Disturbance, kill_a_ray_worker, kill_all
from tests.bench.peers import DATA_JUICER, DATATROVE
from tests.bench.scoring import score_dedup
from tests.bench.session import OURS, Job, Run, Session, Tool, in_turns, runs_of

PART, SAME, TEN_TIMES = "dedup", "same", "ten times"
SIGNATURES = "heliostat, signatures on one core"
ONCE = "heliostat, once"
TEN = "heliostat, ten times"


def dedup(session: Session) -> list[Job]:
    """Exact and near dedup from files to files, the tools in turns."""
    size = session.megabytes
    tools = [Tool(OURS, _ours, 15 + 0.15 * size), Tool(SIGNATURES, _signatures, 2 + size / 20)]
    if DATATROVE.name in session.pythons:
        tools.append(Tool(DATATROVE.name, _datatrove, 10 + 3 * size))
    if DATA_JUICER.name in session.pythons:
        on_ray = partial(_data_juicer, on_ray=True)
        tools.append(Tool("data-juicer on Ray", on_ray, 40 + size))
        tools.append(Tool(DATA_JUICER.name, partial(_data_juicer, on_ray=False), 30 + 2 * size))
    return in_turns(session, PART, tools)


def ten_times(session: Session) -> list[Job]:
    """Ten times the corpus, beside the corpus itself."""
    size = session.megabytes
    return [
        Job(TEN_TIMES, ONCE, partial(_scaled, session, ONCE, 1), 15 + 0.15 * size),
        Job(TEN_TIMES, TEN, partial(_scaled, session, TEN, 10), 15 + 1.5 * size),
    ]


def same(session: Session) -> list[Job]:
    """What is kept: with one task at a time, in another order, after a retry, after a kill in the middle."""
    one_task = partial(_kept, num_cpus=os.cpu_count() or 1)
    runs: dict[str, Callable[[Session, str], Run]] = {
        "once": _kept,
        "one task at a time": one_task,
        "other order": partial(_kept, shuffled=True),
        "a task retried": partial(_disturbed, action=kill_a_ray_worker),
        "killed at half": partial(_disturbed, action=kill_all),
    }
    seconds = 15 + 0.15 * session.megabytes
    return [Job(SAME, name, partial(work, session, name), seconds) for name, work in runs.items()]


def _ours(session: Session, tool: str) -> Run:
    workspace = make_workspace(session.fresh("workspace"))
    usage = session.measure("dedup-heliostat", dedup_command(session.corpus, workspace))
    found = published(session.corpus, workspace)
    truth = session.corpus.truth()
    accounted = {
        row["id"] for row in truth if row["kind"] == "empty" and found.dropped.get(row["id"]) == "empty"
    }
    figures = {
        "score": score_dedup(truth, found.kept, accounted),
        **_repeatable(found),
    }
    return Run(PART, tool, usage, figures)


def _repeatable(found: Published) -> dict[str, Any]:
    return {"contents": found.contents, "balances": found.balances}


def _signatures(session: Session, tool: str) -> Run:
    figures = session.result_of(runner_command("signatures", session.shards))
    return Run(PART, tool, None, {"signature_rate": figures["bytes"] / 1e6 / figures["cpu_seconds"]})


def _datatrove(session: Session, tool: str) -> Run:
    output = session.fresh("datatrove")
    usage = run_datatrove(session, "dedup", session.shards, output, "2")
    stages = json.loads((output / "stages.json").read_text())
    seconds = {stage["stage"]: usage.cpu_between(stage["start"], stage["end"]) for stage in stages}
    figures = {
        "score": score_dedup(session.corpus.truth(), [row["id"] for row in rows_in(output / "kept")]),
        "cpu_seconds_by_step": seconds,
        "signature_rate": session.megabytes / seconds["signatures"],
    }
    return Run(PART, tool, usage, figures)


def _data_juicer(session: Session, tool: str, on_ray: bool) -> Run:
    output = session.fresh("data-juicer")
    command = data_juicer_runs.dedup_command(
        session.pythons[DATA_JUICER.name], session.shards, output, on_ray
    )
    usage = session.measure(f"dedup-data-juicer-{'ray' if on_ray else 'default'}", command)
    kept = [row["id"] for row in data_juicer_runs.kept_rows(output)]
    return Run(PART, tool, usage, {"score": score_dedup(session.corpus.truth(), kept)})


def _scaled(session: Session, tool: str, factor: int) -> Run:
    corpus = build_corpus(session.scale * factor, say=session.say)
    workspace = make_workspace(session.fresh("workspace"))
    usage = session.measure(f"scale-{factor}", dedup_command(corpus, workspace))
    found = published(corpus, workspace)
    figures = {"megabytes": corpus.summary["bytes"] / 1e6, "balances": found.balances}
    return Run(TEN_TIMES, tool, usage, figures)


def _kept(session: Session, tool: str, num_cpus: float = 1, shuffled: bool = False) -> Run:
    corpus = shuffled_copy(session.corpus) if shuffled else session.corpus
    workspace = make_workspace(session.fresh("workspace"))
    usage = session.measure(f"same-{tool}", dedup_command(corpus, workspace, num_cpus))
    return Run(SAME, tool, usage, _repeatable(published(corpus, workspace)))


def _disturbed(session: Session, tool: str, action: Callable[[list[int]], bool]) -> Run:
    """Half way through some processes are killed; where that ends the run, it is started again."""
    once = runs_of(session.runs, SAME, "once")
    if not once or once[0].usage is None:
        raise CommandFailed("no undisturbed run came to an end, so nobody knows when half of one is over")
    workspace = make_workspace(session.fresh("workspace"))
    command = dedup_command(session.corpus, workspace)
    half = Disturbance(once[0].usage.wall_seconds / 2, action)
    usage = session.measure(f"same-{tool}", command, half)
    if usage.exit_code:
        usage = session.measure(f"same-{tool}-again", command)
    return Run(SAME, tool, usage, _repeatable(published(session.corpus, workspace)))
