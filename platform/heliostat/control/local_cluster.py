"""A real Ray cluster on this machine, of one node or several, to try things out; with the autoscaler too.

Its record is in the person's state folder, so that another process, or the next one after a crash, finds it
and can end it. There is at most one at a time for each person.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from heliostat.control.auth_token import DEFAULT_PATH
from heliostat.control.local_nodes import (
    HOST,
    LocalSettings,
    Ports,
    autoscaler_environment,
    choose_ports,
    environment,
    head_command,
    node_types,
    scaling_file,
    store_bytes_each,
    worker_command,
)
from heliostat.control.node_types import NodeType, told_node_types
from heliostat.control.nodes import read_nodes
from heliostat.control.own_processes import OwnProcess, end_processes, members
from heliostat.control.ray_api import RayApi
from heliostat.errors import ClusterError, ConfigError
from heliostat.records import Record, now

RECORD_NAME = "local-cluster.json"
_POLL_SECONDS = 0.3


class LocalCluster(Record):
    """A cluster that was started here. `ready` is False for one whose start did not come to its end."""

    address: str
    gcs_address: str
    token_path: str
    folder: str
    """Ray's own files; gone with the cluster."""
    mark: str
    processes: tuple[OwnProcess, ...] = ()
    """One for each node that was started here, the head first; each leads a session of its own."""
    nodes: int
    node_types: tuple[NodeType, ...] = ()
    """With the autoscaler: what it may start."""
    workspace: str | None
    started_at: datetime
    ready: bool = False

    @property
    def alive(self) -> bool:
        """Whether its head still runs."""
        return bool(self.processes) and self.processes[0].alive

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the nodes; each is the id of its session and process group, too."""
        return tuple(each.pid for each in self.processes)

    def environment(self) -> dict[str, str]:
        """What a shell or a process sets to work with it. The token is named by its file only."""
        return {
            "RAY_API_SERVER_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": self.token_path,
        }

    def stop(self) -> None:
        """End its processes, and only those, and remove its files and its record."""
        with _lock():
            _end(self)


def start_local_cluster(
    nodes: int = 1,
    cpus_per_node: int | None = None,
    autoscale: bool = False,
    workspace: str | None = None,
    settings: LocalSettings | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> LocalCluster:
    """Start a cluster and return when all its nodes are there; with `autoscale` only the head is started, and
    up to `nodes` - 1 others come when work waits for them. Interrupted or failed, it leaves nothing behind.

    Raises:
        ConfigError: what is asked for makes no sense.
        ClusterError: one runs already, or Ray does not start; says where its log is.
    """
    settings = settings or LocalSettings()
    _check(nodes, cpus_per_node, autoscale)
    with _lock():
        left = _recorded()
        if left is not None and left.ready and left.alive:
            raise ClusterError(
                f"a local cluster runs already at {left.address}; use that, or end it with "
                "'heliostat cluster down local'"
            )
        if left is not None:
            tell("ending what is left of a local cluster that did not end well")
            _end(left)
        ports = choose_ports(settings.port)
        if ports.dashboard != settings.port:
            tell(f"port {settings.port} is taken; the dashboard is on {ports.dashboard}")
        folder = _fresh_folder(settings.folder)
        try:
            cluster = LocalCluster(
                address=f"http://{HOST}:{ports.dashboard}",
                gcs_address=f"{HOST}:{ports.gcs}",
                token_path=str(_token_file(folder)),
                folder=str(folder),
                mark=secrets.token_hex(16),
                nodes=nodes,
                workspace=_absolute(workspace),
                started_at=now(),
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return _Start(cluster, ports, cpus_per_node, autoscale, settings).run()


def find_local_cluster() -> LocalCluster | None:
    """The local cluster that runs; None when none does."""
    found = _recorded()
    return found if found is not None and found.ready and found.alive else None


def known_node_types(address: str) -> tuple[NodeType, ...]:
    """What the cluster at an address may grow to, where this machine knows: its own local cluster; else what
    HELIOSTAT_NODE_TYPES says; empty when neither does."""
    found = find_local_cluster()
    return found.node_types if found is not None and found.address == address else told_node_types()


def stop_local_cluster() -> LocalCluster | None:
    """End the local cluster, also one left half started; returns what it was, None when there is none.

    Raises:
        ClusterError: another process is just starting or ending it.
    """
    with _lock():
        found = _recorded()
        if found is not None:
            _end(found)
        return found


class _Start:
    """One start, from the first process to the last node."""

    def __init__(
        self,
        cluster: LocalCluster,
        ports: Ports,
        cpus_per_node: int | None,
        autoscale: bool,
        settings: LocalSettings,
    ) -> None:
        self.cluster, self.ports, self.autoscale, self.settings = cluster, ports, autoscale, settings
        self.folder = Path(cluster.folder)
        self.cpus = cpus_per_node or _share_of_cpus(cluster.nodes)
        self.store = store_bytes_each(cluster.nodes)
        self.deadline = time.monotonic() + settings.start_seconds
        token = Path(cluster.token_path)
        self.environment = environment(cluster.mark, self.folder, token, cluster.workspace, ports)

    def run(self) -> LocalCluster:
        try:
            self._start_head()
            # One after the other: two that start together choose the same names for their sockets.
            for number in range(1, 1 if self.autoscale else self.cluster.nodes):
                command = worker_command(self.ports, self.cpus, self.store, self.folder / f"n{number}")
                self._start(f"node-{number}", command, self.environment)
                self._wait(number + 1)
            self._save(ready=True)
        except BaseException:
            _end(self.cluster)
            raise
        return self.cluster

    def _start_head(self) -> None:
        cpus = self.settings.head_cpus if self.settings.head_cpus is not None else self.cpus
        more, scaling = {}, None
        if self.autoscale:
            types = node_types(self.cluster.nodes, cpus, self.cpus)
            self._save(node_types=types)
            more, scaling = autoscaler_environment(types), self.folder / "autoscaler.json"
            idle = self.settings.idle_seconds
            scaling.write_text(scaling_file(types, self.ports, self.store, idle, self.folder))
        command = head_command(self.ports, cpus, self.store, scaling)
        self._start("head", command, self.environment | more)
        self._wait(1)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._save(processes=(*self.cluster.processes, OwnProcess.of(process.pid)))

    def _save(self, **changes: object) -> None:
        self.cluster = self.cluster.model_copy(update=changes)
        _write(self.cluster)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _wait(self, count: int) -> None:
        """Until so many nodes are there and jobs are taken."""
        while True:
            try:
                with RayApi(self.cluster.address) as api:
                    api.check_version()
                    api.jobs()
                    if sum(node.alive for node in read_nodes(api)) >= count:
                        return
                why = f"not all of its {count} nodes came up"
            except ClusterError as error:
                why = str(error)
            if not all(each.alive for each in self.cluster.processes):
                raise ClusterError(f"Ray did not start: {self._last_words()}")
            if time.monotonic() > self.deadline:
                raise ClusterError(f"Ray did not start in {self.settings.start_seconds:.0f} s: {why}")
            time.sleep(_POLL_SECONDS)

    def _last_words(self) -> str:
        names = ("head", *(f"node-{number}" for number in range(1, self.cluster.nodes)))
        ended = [n for n, each in zip(names, self.cluster.processes, strict=False) if not each.alive]
        lines = [line for name in ended for line in _lines(self._log(name))]
        return " / ".join(lines[-3:]) or "it said nothing"


def _lines(path: Path) -> list[str]:
    return [" ".join(line.split()) for line in path.read_text(errors="replace").splitlines() if line.strip()]


def _check(nodes: int, cpus_per_node: int | None, autoscale: bool) -> None:
    if nodes < 1 or (cpus_per_node is not None and cpus_per_node < 1):
        raise ConfigError("a local cluster has at least one node, and each node one CPU")
    if autoscale and nodes < 2:
        raise ConfigError("--autoscale with one node leaves nothing to scale; give --nodes 2 or more")
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        raise ConfigError("RAY_AUTH_MODE=disabled is set, and a local cluster asks for a token; unset it")


def _fresh_folder(place: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="heliostat-", dir=place))
    except OSError as error:
        raise ClusterError(f"{place}: the cluster's files cannot be kept there: {error.strerror}") from None


def _share_of_cpus(nodes: int) -> int:
    """Nodes of one machine share its processors; each has two at least, so that a stage and a worker fit."""
    there = os.cpu_count() or 1
    return there if nodes == 1 else max(2, there // nodes)


def _absolute(workspace: str | None) -> str | None:
    if workspace is None or "://" in workspace:
        return workspace
    return str(Path(workspace).expanduser().resolve())


def _token_file(folder: Path) -> Path:
    """The file with the token that this person's commands send, made when there is none; nobody else may read
    it."""
    value = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if value:
        path = folder / "token"
    else:
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT_PATH).expanduser().resolve()
        value = secrets.token_hex(32)
    try:
        if not path.is_file() or not path.read_text().strip():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(value)
        path.chmod(0o600)
    except OSError as error:
        raise ClusterError(f"{path}: the token cannot be kept there: {error.strerror}") from None
    return path


def state_folder() -> Path:
    """Where records of this person's own things on this machine are kept."""
    root = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(root).expanduser() / "heliostat"


@contextlib.contextmanager
def _lock(patience_seconds: float = 20.0) -> Iterator[None]:
    """One process at a time starts or ends the local cluster; the system frees it when that process ends."""
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + patience_seconds
    with (folder / "local-cluster.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        "another process is starting or ending the local cluster; try again when it is done"
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield


def _recorded() -> LocalCluster | None:
    try:
        return LocalCluster.model_validate_json((state_folder() / RECORD_NAME).read_text())
    except (FileNotFoundError, ValidationError):
        return None


def _write(cluster: LocalCluster) -> None:
    path = state_folder() / RECORD_NAME
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(cluster.model_dump_json(indent=2))
    fresh.replace(path)


def _end(cluster: LocalCluster) -> None:
    end_processes(cluster.mark, cluster.processes)
    shutil.rmtree(cluster.folder, ignore_errors=True)
    found = _recorded()
    if found is not None and found.mark == cluster.mark:
        (state_folder() / RECORD_NAME).unlink(missing_ok=True)


def count_processes(cluster: LocalCluster) -> int:
    """How many processes of it run."""
    return len(members(cluster.mark, cluster.processes))
