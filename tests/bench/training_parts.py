"""The parts of the training benchmark, in the order in which they are run."""

import statistics
from collections.abc import Callable
from functools import partial

from tests.bench.peers import LLAMA_FACTORY
from tests.bench.session import OURS, Job, Run
from tests.bench.training_bars import BARE, CHECKPOINT, MATERIALS
from tests.bench.training_inputs import Material
from tests.bench.training_llama_factory import AS_INSTALLED, ONE_PROCESS, TWO_PROCESSES, Setting
from tests.bench.training_session import ADAPTERS, CHECKPOINT_EVERY, TrainingSession
from tests.bench.training_steps import stop_seconds

_SECONDS_A_RUN = 130.0


def overhead(session: TrainingSession) -> list[Job]:
    """Our loop and a bare one with the same layout, in turns."""
    tools = {OURS: _ours, BARE: _bare}
    return [
        Job(f"overhead {kind}", tool, partial(work, session, f"overhead {kind}", kind), _SECONDS_A_RUN)
        for kind in ADAPTERS
        for _ in range(session.repeats)
        for tool, work in tools.items()
    ]


def checkpoint(session: TrainingSession) -> list[Job]:
    """How long a checkpoint stops LoRA training: steps are short, so that it shows."""
    return [Job(CHECKPOINT, OURS, partial(_checkpoint, session), 60) for _ in range(session.repeats)]


def llama_factory(session: TrainingSession) -> list[Job]:
    """Passages, short instructions and long text, all parameters and LoRA; and once, for the record, as it is
    installed."""
    if LLAMA_FACTORY.name not in session.pythons:
        return []
    jobs = []
    for material in session.options.materials:
        for kind in ADAPTERS:
            part = f"{material} {kind}"
            once = [AS_INSTALLED] if part == "long full" else []
            ours = Job(part, OURS, partial(_ours, session, part, kind), _SECONDS_A_RUN)
            theirs = {
                setting.name: Job(
                    part, setting.name, partial(_theirs, session, part, kind, setting), _SECONDS_A_RUN
                )
                for setting in (ONE_PROCESS, TWO_PROCESSES, *once)
            }
            turn = [ours, theirs[ONE_PROCESS.name], theirs[TWO_PROCESSES.name]]
            jobs += [*turn * session.repeats, *(theirs[setting.name] for setting in once)]
    return jobs


PARTS: dict[str, Callable[[TrainingSession], list[Job]]] = {
    "overhead": overhead,
    "checkpoint": checkpoint,
    "llama-factory": llama_factory,
}
"""Each returns its jobs, in order."""


def _material(session: TrainingSession, part: str) -> Material:
    name = part.split()[0]
    material: Material = getattr(session, name if name in MATERIALS else "long")
    return material


def _ours(session: TrainingSession, part: str, kind: str) -> Run:
    material = _material(session, part)
    return session.run_of(part, OURS, session.ours(material, session.config(material, kind)), material)


def _bare(session: TrainingSession, part: str, kind: str) -> Run:
    material = _material(session, part)
    return session.run_of(part, BARE, session.bare(material, kind), material)


def _theirs(session: TrainingSession, part: str, kind: str, setting: Setting) -> Run:
    material = _material(session, part)
    steps, same = session.llama_factory(material, kind, setting)
    run = session.run_of(part, setting.name, steps, material)
    run.figures["same_ids"] = same
    return run


def _checkpoint(session: TrainingSession) -> Run:
    material = session.brief
    steps = session.ours(material, session.config(material, "LoRA", CHECKPOINT_EVERY))
    run = session.run_of(CHECKPOINT, OURS, steps, material)
    stops = stop_seconds(steps.seconds, CHECKPOINT_EVERY)
    run.figures["stops"] = [round(seconds, 3) for seconds in stops]
    run.figures["stop_seconds"] = statistics.median(stops)
    return run
