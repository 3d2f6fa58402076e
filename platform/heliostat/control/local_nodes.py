"""How the nodes of a local cluster are started: commands, environment, the autoscaler's file. Starts nothing.

All goes through Ray's own command line, in processes of their own, so that this one never joins a cluster.
"""

import json
import os
import random
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from heliostat.control.node_types import NodeType
from heliostat.control.own_processes import MARK_VARIABLE
from heliostat.errors import ClusterError
from heliostat.ray_session import ENVIRONMENT, NODE_TYPES_VARIABLE
from heliostat.records import Record

HOST = "127.0.0.1"
DASHBOARD_PORT = 8265
TRAIN_GROUP = "train"
HEAD_TYPE = "ray.head.default"
"""Ray's provider for nodes on one machine knows the head's type by this name."""
HEAD_ID = "f" * 51 + "00000"
PROVIDER = "heliostat.local_provider.OneMachineProvider"
"""By name, for it imports Ray. For its own Ray would look for a file that its wheel does not have."""
_NO_COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
)
"""Ray wants these lists of every cluster, also where nothing is set up over SSH."""
KEPT_FROM_JOBS = ("HELIOSTAT_ALERT_WEBHOOK",)
"""Secrets of whoever starts the cluster, which no job on it needs."""
LEAST_STORE_BYTES = 150_000_000
MOST_STORE_BYTES = 2_000_000_000


class Ports(Record):
    """The ports that the head's services listen on."""

    gcs: int
    dashboard: int
    client: int
    autoscaler_metrics: int
    dashboard_metrics: int


class LocalSettings(Record):
    """What is seldom changed about a local cluster. `None` is found out."""

    port: int = DASHBOARD_PORT
    """The dashboard's; when it is taken, the next that is free."""
    head_cpus: int | None = None
    """None: as many as each of the others has."""
    idle_seconds: float = 60.0
    """After so long without work the autoscaler takes a node away."""
    start_seconds: float = 120.0
    """How long the start may take."""
    folder: Path = Path("/tmp")
    """Where Ray's files go, in a folder of their own; a short path, for that of a socket may not be long."""


def choose_ports(wanted: int) -> Ports:
    """Free ports, the dashboard's the first from `wanted` on.

    Raises:
        ClusterError: none is free.
    """
    dashboard = next((port for port in range(wanted, wanted + 100) if is_free(port)), None)
    if dashboard is None:
        raise ClusterError(f"ports {wanted} to {wanted + 99} are all taken; give another with --port")
    others: set[int] = set()
    while len(others) < 4:
        port = random.randrange(20000, 32000)  # below those the system hands out by itself
        if port != dashboard and is_free(port):
            others.add(port)
    gcs, client, autoscaler, metrics = sorted(others)
    return Ports(
        gcs=gcs, dashboard=dashboard, client=client, autoscaler_metrics=autoscaler, dashboard_metrics=metrics
    )


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def environment(
    mark: str, folder: Path, token_path: Path, workspace: str | None, ports: Ports
) -> dict[str, str]:
    """What the nodes and everything on them inherit. The token is in it by its file's path only."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and name not in KEPT_FROM_JOBS
    }
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    told = {"HELIOSTAT_WORKSPACE": workspace} if workspace else {}
    return {
        **inherited,
        **ENVIRONMENT,
        **kept,
        **told,
        MARK_VARIABLE: mark,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        "RAY_TMPDIR": str(folder),
        # There is no other machine to move work to, and a person waits for the end.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "AUTOSCALER_METRIC_PORT": str(ports.autoscaler_metrics),
        "DASHBOARD_METRIC_PORT": str(ports.dashboard_metrics),
    }


def autoscaler_environment(types: tuple[NodeType, ...]) -> dict[str, str]:
    """What the head needs besides when nodes come and go, and what its jobs must know of them."""
    told = {each.name: {"resources": each.resources, "most": each.most} for each in types}
    return {
        NODE_TYPES_VARIABLE: json.dumps(told),
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_NODE_TYPE_NAME": HEAD_TYPE,
    }


def head_command(ports: Ports, num_cpus: int, store_bytes: int, scaling: Path | None) -> list[str]:
    """Starts the head; it stays in the foreground of its process."""
    command = [
        *_start(num_cpus, store_bytes),
        *("--head", "--node-ip-address", HOST, "--port", str(ports.gcs)),
        *("--dashboard-host", HOST, "--dashboard-port", str(ports.dashboard)),
        *("--ray-client-server-port", str(ports.client)),
    ]
    return command + (["--autoscaling-config", str(scaling)] if scaling else [])


def worker_command(ports: Ports, num_cpus: int, store_bytes: int, folder: Path) -> list[str]:
    """Starts another node, which writes to a folder of its own: in one, a node that comes unpacks a job's
    files over those that others use. GPUs are the head's: two nodes would give each out twice."""
    where = ["--address", f"{HOST}:{ports.gcs}", "--temp-dir", str(folder)]
    return [*_start(num_cpus, store_bytes), *where, "--num-gpus", "0"]


def node_types(nodes: int, head_cpus: int, num_cpus: int) -> tuple[NodeType, ...]:
    """What an autoscaled local cluster may have: the head, and a group for training that starts empty."""
    return (
        NodeType(name=HEAD_TYPE, resources={"CPU": head_cpus}, fewest=1, most=1),
        NodeType(name=TRAIN_GROUP, resources={"CPU": num_cpus}, fewest=0, most=nodes - 1),
    )


def scaling_file(
    types: tuple[NodeType, ...], ports: Ports, store_bytes: int, idle_seconds: float, folder: Path
) -> str:
    """The autoscaler's file, as JSON."""
    config: dict[str, object] = {
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in _NO_COMMANDS},
        "cluster_name": "local",
        "max_workers": sum(each.most or 0 for each in types if each.name != HEAD_TYPE),
        "upscaling_speed": 100,
        "idle_timeout_minutes": idle_seconds / 60,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "gcs_address": f"{HOST}:{ports.gcs}",
            "folder": str(folder),
        },
        "head_node_type": HEAD_TYPE,
        "available_node_types": {each.name: _type(each, store_bytes) for each in types},
    }
    return json.dumps(config, indent=2)


def store_bytes_each(nodes: int) -> int:
    """Shared memory for objects on each node: a fifth of the machine's memory between them, within bounds."""
    share = int(psutil.virtual_memory().total * 0.2 / nodes)
    return max(LEAST_STORE_BYTES, min(MOST_STORE_BYTES, share))


def _type(kind: NodeType, store_bytes: int) -> Mapping[str, object]:
    head = kind.name == HEAD_TYPE
    resources = {name: int(amount) for name, amount in kind.resources.items()}
    return {
        "resources": resources if head else {**resources, "object_store_memory": store_bytes},
        "node_config": {},
        "min_workers": 0 if head else kind.fewest,
        "max_workers": 0 if head else kind.most,
    }


def _start(num_cpus: int, store_bytes: int) -> list[str]:
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *("--num-cpus", str(num_cpus), "--object-store-memory", str(store_bytes)),
        *("--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"),
    ]
