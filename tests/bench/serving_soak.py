"""A deployment under mixed load for hours, while replicas die, versions change and keys go.

    python -m tests.bench.serving_soak [--hours H] [--clients N] [--every SECONDS] [--tiny]

SmolLM2 in INT8 on a local Ray, with everything a gateway has. The clients ask for chats and completions,
whole and streamed, short and long, with schemas, for what the cache has and what a rule blocks, wrongly and
without a key; some leave. Every so often something happens to the endpoint. Ends with 1 when a request
failed, a stream broke off without a word, an answer was a 5xx, an event had no effect, or a process of ours
grew.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from tests.bench.corpus import cache_folder
from tests.bench.machine import machine
from tests.bench.serving_inputs import make_models
from tests.bench.serving_soak_events import BLOCKED_WORD, COLLECTION, Event, Steering, guard_against
from tests.bench.serving_soak_report import Findings, Phase, print_findings
from tests.bench.serving_soak_watch import Watch, too_short, trends
from tests.serving.mixed_load import Mix, SteadyLoad

from heliostat.config import Resources
from heliostat.control.gateway_key import KEY_VARIABLE
from heliostat.errors import HeliostatError
from heliostat.ray_session import ray_session
from heliostat.records import Artifact
from heliostat.serving.access.config import AccessConfig, AuditConfig, Limits
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.cache.config import CacheConfig, SemanticCacheConfig
from heliostat.serving.config import CanaryConfig, OpenVINOEngineConfig, RetrievalConfig, ServeConfig
from heliostat.serving.run import deploy_model, shutdown_endpoint
from heliostat.workspace import Workspace

EVENT_SECONDS = (30.0, 300.0)
EVENTS_IN_A_RUN = 12
LOOKS = 300
"""At the processes, in a run; at most one every two seconds, at least one every half minute."""
WORD_SECONDS = 30.0
AMPLE = Limits(requests_per_minute=10_000_000, tokens_per_minute=1_000_000_000, concurrency=10_000)
FEW_KEPT = 200


@dataclass(frozen=True)
class Keys:
    """An asker's, an operator's, and one that nobody has."""

    main: str
    operator: str

    @property
    def by_kind(self) -> dict[str, str]:
        """As requests name them."""
        return {"main": self.main, "unknown": f"{self.main[:-4]}0000"}


def main(arguments: list[str] | None = None) -> int:
    """Soak; returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the cluster is to end with it
    console = Console(width=None if sys.stdout.isatty() else 150)
    artifact = _tiny() if options.tiny else make_models().int8
    workspace = _fresh_workspace()
    keys = _make_keys(workspace)
    os.environ[KEY_VARIABLE] = keys.operator
    config = _config(options.tiny)
    with ray_session(num_cpus=2):
        endpoint = deploy_model(config, artifact, workspace)
        try:
            steering = Steering(endpoint, artifact, workspace, config, keys.main)
            findings = soak(steering, keys, options)
        finally:
            shutdown_endpoint(endpoint)
    print_findings(findings, console)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "clients": options.clients,
        "tiny": options.tiny,
        **findings.as_json(),
    }
    options.output.write_text(json.dumps(report, indent=1, default=str))
    print(f"written to {options.output}")
    return 1 if findings.violations else 0


def soak(steering: Steering, keys: Keys, options: argparse.Namespace) -> Findings:
    """Load, events and eyes, for so many hours."""
    findings = Findings(options.hours)
    seconds = 3600 * options.hours
    if steering.config.retrieval:
        steering.add_documents()
    mix = Mix(
        steering.endpoint.name,
        max_tokens=(2, 40),
        long_words=60 if options.tiny else 300,
        collection=COLLECTION if steering.config.retrieval else None,
        blocked_word=BLOCKED_WORD,
    )
    place = urlsplit(steering.endpoint.url)
    load = SteadyLoad(mix, (str(place.hostname), int(place.port or 80)), keys.by_kind, options.clients, 11)
    watch = Watch(min(max(seconds / LOOKS, 2.0), 30.0), _figures(steering, keys))
    every = options.every or min(max(seconds / EVENTS_IN_A_RUN, EVENT_SECONDS[0]), EVENT_SECONDS[1])
    progress = _Progress(options.hours)
    with watch, load:
        _run_phases(steering.events(), every, seconds, findings, lambda: progress.say(load, watch, findings))
        if not load.goes_on:
            findings.faults.append("the clients ended before their time; what is above says why")
    findings.outcomes, findings.figures = load.outcomes, dict(watch.figures)
    findings.trends, findings.too_short = trends(watch.samples), too_short(watch.samples)
    return findings


def _run_phases(
    events: Iterator[Event], every: float, seconds: float, findings: Findings, tick: Callable[[], None]
) -> None:
    """A quiet phase, then one event a phase; the last is quiet again."""
    began = time.monotonic()
    end = began + seconds

    def wait(until: float) -> None:
        while time.monotonic() < until:
            tick()
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))

    wait(min(began + every, end))
    findings.phases.append(Phase("as deployed", began, time.monotonic(), 0.0))
    while end - time.monotonic() > every:
        name, happen = next(events)
        started = time.monotonic()
        try:
            happen()
        except (HeliostatError, httpx.HTTPError, RuntimeError, AssertionError) as error:
            findings.faults.append(f"{name}: {type(error).__name__}: {error}")
        took = time.monotonic() - started
        wait(min(max(started + every, time.monotonic() + every / 4), end))
        findings.phases.append(Phase(name, started, time.monotonic(), took))
    started = time.monotonic()
    wait(end)
    findings.phases.append(Phase("at the end", started, time.monotonic(), 0.0))


def _config(tiny: bool) -> ServeConfig:
    """Everything a gateway has; with the tiny model all but what needs an embedder."""
    semantic = SemanticCacheConfig(enabled=not tiny, max_entries=FEW_KEPT)
    exact = CacheConfig().exact.model_copy(update={"max_entries": FEW_KEPT})
    return ServeConfig(
        name="soaked",
        port=0,
        engine=OpenVINOEngineConfig(num_threads=1),
        resources=Resources(num_cpus=0.25),
        guard=guard_against(BLOCKED_WORD),
        cache=CacheConfig(exact=exact, semantic=semantic),
        retrieval=None if tiny else RetrievalConfig(),
        access=AccessConfig(audit=AuditConfig(max_file_bytes=2**20, kept_files=3)),
        canary=CanaryConfig(min_requests=1_000_000),  # events decide about canaries here, not times
        startup_timeout_seconds=300,
    )


def _tiny() -> Artifact:
    """A model of nothing, exported on the spot."""
    from tests.serving.test_serving_deploy import publish_quantized
    from tests.small_models import exported, small_llama

    folder = cache_folder() / "serving-soak-tiny"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "exported").mkdir(parents=True)
    model = exported(small_llama(folder / "model"), folder / "exported", "int8")
    return publish_quantized(Workspace.resolve(str(folder / "workspace")), model, "tiny")


def _fresh_workspace() -> Workspace:
    """The embedder stays; keys, collections and the audit log of the last run go."""
    workspace = Workspace.resolve(str(cache_folder() / "serving-soak-workspace"))
    for name in ("gateway", "collections", "deployments"):
        shutil.rmtree(Path(workspace.storage.root) / name, ignore_errors=True)
    return workspace


def _make_keys(workspace: Workspace) -> Keys:
    store = KeyStore(workspace.storage)
    asker, _ = store.create(KeyScope(name=f"asker-{secrets.token_hex(2)}", tenant="soak", limits=AMPLE))
    operator, _ = store.create(KeyScope(name="operator", tenant="ops", routes=("admin", "metrics")))
    return Keys(asker, operator)


def _figures(steering: Steering, keys: Keys) -> dict[str, Callable[[], float]]:
    """What else may grow: logs, the audit log, the series of the metrics."""
    import ray

    logs = Path(ray._private.worker.global_worker.node.get_session_dir_path()) / "logs"
    audit = Path(steering.workspace.storage.uri("gateway"))

    def series() -> float:
        headers = {"authorization": f"Bearer {keys.operator}"}
        try:
            text = httpx.get(f"{steering.endpoint.url}/metrics", headers=headers, timeout=30).text
        except httpx.HTTPError:
            return float("nan")
        return float(len(text.splitlines()))

    return {
        "bytes of Ray's logs": lambda: _size(logs),
        "bytes of the audit log": lambda: _size(audit),
        "lines of metrics": series,
    }


def _size(folder: Path) -> float:
    return float(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


class _Progress:
    """A word now and then: how far, how long still, and how it goes."""

    def __init__(self, hours: float) -> None:
        self._began = time.monotonic()
        self._seconds = 3600 * hours
        self._said = 0.0

    def say(self, load: SteadyLoad, watch: Watch, findings: Findings) -> None:
        """Once in `WORD_SECONDS`."""
        now = time.monotonic()
        if now - self._said < WORD_SECONDS:
            return
        self._said = now
        gone = now - self._began
        lately = [each for each in load.outcomes[-20_000:] if each.sent > now - WORD_SECONDS]
        wrong = sum(each.verdict in ("failed", "broken") for each in load.outcomes)
        memory = ", ".join(f"{role} {size / 2**20:.0f}" for role, size in watch.bytes_by_role().items())
        phase = findings.phases[-1].name if findings.phases else "as deployed"
        print(
            f"{100 * gone / self._seconds:3.0f} %, {max(0.0, self._seconds - gone) / 60:.1f} min left; "
            f"behind '{phase}': {len(load.outcomes)} requests, {len(lately) / WORD_SECONDS:.1f}/s, "
            f"{wrong} wrong, {len(findings.faults)} faults; MB: {memory}",
            flush=True,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serving_soak", description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--every", type=float, help="seconds between events; twelve in a run, if not said")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, for trying this out")
    parser.add_argument("--output", type=Path, default=cache_folder() / "serving-soak.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
