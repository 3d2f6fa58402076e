"""Tokenizing: on one core against `encode_batch`, by datatrove, and how full the demo's sequences are."""

import json
from functools import partial
from pathlib import Path

from tests.bench.datatrove_runs import run_datatrove
from tests.bench.heliostat_runs import demo_data_command, make_workspace, runner_command
from tests.bench.measure import CommandFailed
from tests.bench.peers import DATATROVE
from tests.bench.session import OURS, Job, Run, Session, Tool, in_turns, runs_of

PART, DEMO = "tokenize", "demo data"
_NUM_SHARDS = 2


def tokenize(session: Session) -> list[Job]:
    """The demo's data stage first: its tokenizer is the one that is measured."""
    tools = [Tool(OURS, _ours, 60)]
    if DATATROVE.name in session.pythons:
        tools.append(Tool(DATATROVE.name, _datatrove, 30))
    return [Job(DEMO, OURS, partial(_demo, session), 60), *in_turns(session, PART, tools)]


def _demo(session: Session) -> Run:
    """The train split is what counts: in the others, of a few rows, the last row's end is a large part."""
    workspace = make_workspace(session.fresh("demo"))
    usage = session.measure("demo", demo_data_command(workspace))
    (certificate,) = (workspace / "data" / "tokenized").glob("*/artifact.json")
    train = json.loads(certificate.read_text())["facts"]["splits"]["train"]
    figures = {
        "packing_waste": 1 - train["packing_efficiency"],
        "tokenizer": str(certificate.parent / "tokenizer"),
    }
    return Run(DEMO, OURS, usage, figures)


def _tokenizer(session: Session) -> Path:
    demo = runs_of(session.runs, DEMO, OURS)
    if not demo:
        raise CommandFailed("the demo's data stage failed, and with it the tokenizer is missing")
    return Path(demo[0].figures["tokenizer"])


def _few_shards(session: Session) -> Path:
    """Enough for a rate: all would take minutes."""
    folder = session.folder / "few-shards"
    if not folder.is_dir():
        folder.mkdir()
        for shard in session.corpus.shards[:_NUM_SHARDS]:
            (folder / shard.name).symlink_to(shard)
    return folder


def _ours(session: Session, tool: str) -> Run:
    command = runner_command("tokenize", _few_shards(session), _tokenizer(session))
    return Run(PART, tool, None, session.result_of(command))


def _datatrove(session: Session, tool: str) -> Run:
    shards, output = _few_shards(session), session.fresh("datatrove")
    file = _tokenizer(session) / "tokenizer.json"
    usage = run_datatrove(session, "tokenize", shards, output, "2", str(file))
    size = sum(len(json.loads(line)["text"].encode()) for shard in shards.iterdir() for line in shard.open())
    return Run(PART, tool, usage, {"bytes": size, "cpu_seconds": usage.cpu_seconds})
