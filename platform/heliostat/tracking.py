"""Runs, metrics and model versions: a thin face on MLflow, and TensorBoard event files beside each run.

mlflow is imported inside the functions: it takes two seconds, and `heliostat --help` must not wait for it.
"""

import json
import logging
import math
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from heliostat.databases import PATIENCE, SHARED, AddressError, connect_once
from heliostat.errors import TrackingError
from heliostat.records import Run, Status
from heliostat.text.concealing import without_secrets
from heliostat.workspace import Workspace

EXPERIMENT = "heliostat"
METRICS_FILE = "metrics.jsonl"
RESUMED = "resumed"
"""In that file, with the first step behind an interruption."""
SQLITE = "sqlite:///"
SERVER_TIMEOUT_SECONDS = 5.0
METRICS_IN_ONE_BATCH = 1000
"""What MLflow takes at once."""
ASK_AGAIN_SECONDS = 30.0
"""After which a store that is away is asked again; a silent one holds a run up for five seconds each time."""
CAUGHT_UP_AT_ONCE = 200
"""Steps that MLflow missed, handed in with those of one report: training waits meanwhile."""
_MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""With MLflow's own a run stood still for six minutes, and longer, when its server had gone."""
logger = logging.getLogger(__name__)


class Tracker:
    """Writes runs and their metrics to one MLflow store."""

    def __init__(self, uri: str, at_once: bool = True) -> None:
        """Connect to a store, `at_once` or when it is first used; creating a new SQLite store takes some
        seconds, once.

        Raises:
            TrackingError: nothing answers at the URI.
        """
        self.uri = uri
        if at_once:
            self._client  # noqa: B018 the property connects

    @cached_property
    def _client(self) -> Any:
        return connect(self.uri)

    @classmethod
    def of(cls, workspace: Workspace) -> "Tracker":
        """The tracker of a workspace: $MLFLOW_TRACKING_URI, else SQLite in the workspace."""
        return cls(tracking_uri(workspace))

    def start(self, run: Run, parent: str | None = None) -> str:
        """Open a run under its own name, or again after an interruption; returns MLflow's run id.

        With `parent`, MLflow's id of another run, it is a child of that.

        Raises:
            TrackingError: as all methods do, when the store refuses.
        """
        with self._in_one_line() as client:
            run_id = run.tracking_run_id
            if run_id:
                client.update_run(run_id, status="RUNNING")
            else:
                run_id = _create_run(client, run, parent)
        return run_id

    def log(self, run_id: str, metrics: dict[str, float], step: int = 0) -> None:
        """Write one step's metrics in one batch."""
        self.log_steps(run_id, {step: metrics})

    def log_steps(self, run_id: str, rows: dict[int, dict[str, float]]) -> None:
        """Write several steps' metrics, each by its step, in as few batches as the store takes."""
        from mlflow.entities import Metric

        at = int(time.time() * 1000)
        entries = [Metric(name, value, at, step) for step, row in rows.items() for name, value in row.items()]
        with self._in_one_line() as client:
            for first in range(0, len(entries), METRICS_IN_ONE_BATCH):
                client.log_batch(run_id, entries[first : first + METRICS_IN_ONE_BATCH])

    def finish(self, run_id: str, status: Status) -> None:
        """Close a run."""
        with self._in_one_line() as client:
            client.set_terminated(run_id, {"stopped": "KILLED"}.get(status, status.upper()))

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """A metric's (step, value) pairs in order of steps; a step logged twice keeps its last value."""
        with self._in_one_line() as client:
            points = client.get_metric_history(run_id, metric)
        return sorted({point.step: point.value for point in points}.items())

    @contextmanager
    def _in_one_line(self) -> Iterator[Any]:
        client = self._client
        check_reachable(self.uri)
        with refusals_in_one_line(self.uri):
            yield client


class MetricWriter:
    """Where a training run's metrics go, step by step: MLflow, TensorBoard, and a plain file for progress.

    Used from one process only: the training controller's. A resumed run repeats the steps behind its last
    checkpoint; what was written of them before is replaced, so that each step stands once. The first step
    of each resumption bears `RESUMED` in the plain file. A run does not wait for MLflow: steps that it did
    not take are handed in later, by a resumed run too.
    """

    def __init__(
        self,
        tracker: Tracker,
        tracking_run_id: str,
        folder: Path,
        tell: Callable[[str], None] = logger.warning,
    ) -> None:
        """`folder` is the run's folder on this machine; the writers open at the first step. `tell` hears when
        MLflow goes away and comes back."""
        folder.mkdir(parents=True, exist_ok=True)
        self._tracker = tracker
        self._run_id = tracking_run_id
        self._folder = folder
        self._tell = tell
        self._board: Any = None
        self._last_step = 0
        self._owed_from = 0
        """Where in the plain file the steps begin that MLflow lacks: it may be away for days of them."""
        self._known: set[int] = set()
        """Steps behind that which it has, from an earlier attempt."""
        self._away_until: float | None = None

    def write(self, rows: dict[int, dict[str, float]]) -> None:
        """Record some steps' metrics, each by its step; what is no number stands in the plain file only."""
        first = min(rows)
        resumed = first if first > 1 and (self._board is None or first <= self._last_step) else None
        if self._board is None or first <= self._last_step:
            self._open(first)
        self._last_step = max(rows)
        with (self._folder / METRICS_FILE).open("a") as stream:
            for step, row in rows.items():
                mark = {RESUMED: 1.0} if step == resumed else {}
                stream.write(json.dumps({"step": step, "time": time.time(), **row, **mark}) + "\n")
        if self._away_until is None or time.monotonic() >= self._away_until:
            self._hand_in(len(rows) + CAUGHT_UP_AT_ONCE)
        for step, row in rows.items():
            for name, value in _finite(row).items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what TensorBoard's writer still holds; without this its last second may be lost. What is
        written later counts as resumed."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def catch_up(self) -> None:
        """Hand in what MLflow has not of the written steps; `tell` hears where it does not answer."""
        try:
            self._tracker.log_steps(self._run_id, self._missed(read_metrics(self._folder)))
        except TrackingError as error:
            self._tell(f"{error}; {self._folder / METRICS_FILE} has the steps that MLflow lacks")

    def _hand_in(self, most: int) -> None:
        with (self._folder / METRICS_FILE).open("rb") as stream:
            stream.seek(self._owed_from)
            lines = list(islice(stream, most))
            num_left = sum(1 for _ in stream) if self._away_until is not None else 0
        entries = {int(row["step"]): _finite(row) for row in parse_metrics(b"".join(lines).decode())}
        try:
            owed = {step: row for step, row in entries.items() if step not in self._known}
            self._tracker.log_steps(self._run_id, owed)
        except TrackingError as error:
            if self._away_until is None:
                self._tell(f"{error}; training goes on, and hands in what MLflow missed when it answers")
            self._away_until = time.monotonic() + ASK_AGAIN_SECONDS
            return
        if self._away_until is not None:
            self._tell(f"MLflow answers again, and gets the {len(owed) + num_left} step(s) that it missed")
        self._away_until = None
        self._owed_from += sum(map(len, lines))
        self._known -= entries.keys()

    def _missed(self, written: list[dict[str, float]]) -> dict[int, dict[str, float]]:
        if not written:
            return {}
        known = {step for step, _ in self._tracker.history(self._run_id, "loss")}
        return {int(row["step"]): _finite(row) for row in written if row["step"] not in known}

    def _open(self, first_step: int) -> None:
        from tensorboardX import SummaryWriter

        if self._board is not None:
            self._board.close()
        # flush_secs, because flush() leaves behind what the writer's own thread has not taken up yet; the
        # suffix, because a file opened again within the same second would replace the first.
        self._board = SummaryWriter(
            logdir=str(self._folder / "tensorboard"),
            purge_step=first_step,
            flush_secs=1,
            filename_suffix=f".{time.time_ns()}",
        )
        kept = [entry for entry in read_metrics(self._folder) if entry["step"] < first_step]
        lines = [json.dumps(entry) + "\n" for entry in kept]
        rewritten = self._folder / f"{METRICS_FILE}.rewritten"
        rewritten.write_text("".join(lines))
        rewritten.replace(self._folder / METRICS_FILE)
        steps = [int(entry["step"]) for entry in kept]
        try:
            known = set(steps) - self._missed(kept).keys()
        except TrackingError:  # a step that is handed in twice stands there once
            known = set()
        num_first = next((place for place, step in enumerate(steps) if step not in known), len(steps))
        self._owed_from = sum(map(len, lines[:num_first]))
        self._known = known.intersection(steps[num_first:])


def _finite(row: dict[str, float]) -> dict[str, float]:
    """A step's metrics as MLflow takes them: no infinity, and nothing that is about the row."""
    about = ("step", "time", RESUMED)
    return {name: value for name, value in row.items() if name not in about and math.isfinite(value)}


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """A run's metrics in order of steps; a last line cut short by a crash is left out."""
    file = folder / METRICS_FILE
    if not file.exists():
        return []
    return parse_metrics(file.read_text())


def parse_metrics(text: str) -> list[dict[str, float]]:
    """The lines of a run's file of metrics."""
    entries = []
    for line in text.splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def tracking_uri(workspace: Workspace) -> str:
    """$MLFLOW_TRACKING_URI, else a SQLite file in the workspace.

    Raises:
        TrackingError: the workspace lies on an object store, where SQLite cannot be.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    if workspace.storage.remote:
        raise TrackingError(
            f"{workspace.storage.root}: an object store cannot hold mlflow.db; "
            "set MLFLOW_TRACKING_URI to a tracking server"
        )
    return f"{SQLITE}{workspace.storage.root}/mlflow.db"


def check_reachable(uri: str) -> None:
    """Ask a server for its health first: mlflow itself retries for minutes before it gives up.

    Raises:
        TrackingError: it does not answer.
    """
    if not uri.startswith(("http://", "https://")):
        return
    import httpx

    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # httpx's own words for a refusal, or for a URL that is none, repeat the URL with its password.
        why = str(error) if isinstance(error, httpx.TransportError) else type(error).__name__
        if isinstance(error, httpx.HTTPStatusError):
            why = f"HTTP {error.response.status_code}"
        raise TrackingError(
            f"no tracking server answers at {without_secrets(uri)} ({why}); "
            "start it with 'mlflow server', or unset MLFLOW_TRACKING_URI"
        ) from None


def connect(uri: str) -> Any:
    """MLflow's client of a store; a SQLite store that is not there is made.

    Raises:
        TrackingError: nothing answers there, or it cannot be used.
    """
    check_reachable(uri)
    return _client(uri)


@contextmanager
def refusals_in_one_line(uri: str) -> Iterator[None]:
    """Turn what a store says no to into one line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackingError(_refusal(uri, error)) from None


def _client(uri: str) -> Any:
    for name, value in (_MLFLOW_PATIENCE | PATIENCE).items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        for name in ("mlflow", "alembic"):  # or they narrate each table of a new store
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(
            logging.CRITICAL
        )  # prints tracebacks, then raises
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
                _make_sqlite_store(Path(uri.removeprefix(SQLITE)))
            if uri.startswith(SHARED):  # MLflow tries ten times, which takes it a hundred seconds
                connect_once(uri)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # ImportError: no driver
            raise TrackingError(_refusal(uri, error)) from None
        except AddressError as error:
            raise TrackingError(f"MLFLOW_TRACKING_URI {error}") from None
    return client


def _make_sqlite_store(file: Path) -> None:
    """A new store gets its name when it is whole: mlflow makes its tables in many steps, and cannot go on
    where it was killed between two of them."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as folder:
        made = Path(folder) / file.name
        store = SqlAlchemyStore(f"{SQLITE}{made}", str(file.parent / "mlruns"))
        store.engine.dispose()
        try:
            os.link(made, file)
        except FileExistsError:  # another process was first
            return
        except OSError:  # a file system without links
            made.replace(file)


def _create_run(client: Any, run: Run, parent: str | None) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    tags = {"heliostat.stage": run.stage, "heliostat.run": run.id, "mlflow.user": run.provenance.user}
    tags |= {"mlflow.parentRunId": parent} if parent else {}
    run_id = str(client.create_run(experiment_id, run_name=run.id, tags=tags).info.run_id)
    for key, value in _flatten(run.config).items():
        client.log_param(run_id, key, value)
    return run_id


def _refusal(uri: str, error: Exception) -> str:
    """What a store says, in one line; SQLAlchemy puts the database's own words behind some of its own."""
    shown = without_secrets(uri)
    lines = str(error).splitlines() or [type(error).__name__]
    reason = next((line for line in lines if re.match(r"\(\w+\.\w*Error\)", line)), lines[0])
    if "disk is full" in reason:
        reason = "the disk is full; free some space or choose another --workspace"
    return f"the tracking store at {shown} cannot be used: {reason}"


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value)[:500]
    return flat
