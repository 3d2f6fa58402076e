"""Ray on three hosts, started by the scripts in cluster/ as a person would, and a laptop.

Each host has its own home, its own processes and its own /tmp/ray. They share the cluster's token, the
authority that signed their certificates, and a folder. The laptop is on another network, where only the head
is, and sees that folder only where it is said to.
"""

import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.two_hosts import HEALTH, Host, add_cable, make_bridge, plug_in

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
HEAD_OUTSIDE = "10.79.0.1"
ADDRESS = f"http://{HEAD_OUTSIDE}:8265"
"""Where the laptop finds the head."""
START_SECONDS = 120


@dataclass
class ThreeHosts:
    """A head without processors of its own for work, and two workers with one each."""

    head: Host
    workers: tuple[Host, Host]
    tables: Host
    """Where Redis is, which keeps the head's tables."""
    laptop: Host
    folder: Path

    @property
    def workspace(self) -> Path:
        """On the shared folder, as all hosts name it."""
        return self.folder / "shared" / "heliostat"

    @property
    def kept(self) -> Path:
        """The same folder as it is named here."""
        return self.folder / "server" / "heliostat"

    def home(self, host: Host) -> Path:
        """A host's home."""
        return self.folder / host.namespace

    def environment(self, host: Host) -> dict[str, str]:
        """What a shell on this host has."""
        plain = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        return plain | {"HOME": str(self.home(host)), "PATH": f"{BIN}:{os.environ['PATH']}"}

    def start_tables(self) -> None:
        """Redis, with a password that stands in no command."""
        password = secrets.token_hex(16)
        (self.home(self.tables) / "redis.conf").write_text(
            f'bind {self.tables.address}\nrequirepass {password}\nsave ""\ndir {self.home(self.tables)}\n'
        )
        (self.home(self.head) / "redis-password").write_text(password)
        command: list[str | Path] = ["redis-server", self.home(self.tables) / "redis.conf"]
        self.tables.start(command, self.environment(self.tables), self.folder / "redis.log")
        deadline = time.monotonic() + START_SECONDS
        while "Ready to accept connections" not in self.log("redis"):
            assert time.monotonic() < deadline, self.log("redis")
            time.sleep(0.1)

    def start_head(self) -> None:
        """As README says; a dashboard that is to be reached without ssh listens outside."""
        command: list[str | Path] = [ROOT / "cluster" / "start_head.sh", self.head.address, *_limits(cpus=0)]
        command += ["--dashboard-host", HEAD_OUTSIDE]
        environment = self._ray_environment(self.head)
        if (password := self.home(self.head) / "redis-password").exists():
            environment["RAY_REDIS_ADDRESS"] = f"{self.tables.address}:6379"
            environment["RAY_REDIS_PASSWORD"] = password.read_text()
        self.head.start(command, environment, self.folder / "head.log")

    def start_workers(self) -> None:
        """With the head's token, which start_head.sh has made."""
        for number, host in enumerate(self.workers, start=1):
            self.copy_token(host)
            command: list[str | Path] = [ROOT / "cluster" / "start_worker.sh", self.head.address]
            command += _limits(cpus=1)
            host.start(command, self._ray_environment(host), self.folder / f"worker-{number}.log")

    def make_certificates(self) -> None:
        """An authority on the head, which signs for each host; its key is left nowhere else."""
        made = self.home(self.head) / ".heliostat" / "tls"
        for host in (self.head, *self.workers):
            own = self.home(host) / ".heliostat" / "tls"
            own.mkdir(parents=True, exist_ok=True)
            if host is not self.head:
                for name in ("ca.crt", "ca.key"):
                    (own / name).write_bytes((made / name).read_bytes())
            script = [ROOT / "cluster" / "make_certificate.sh", host.address]
            subprocess.run(host.command(script), env=self.environment(host), check=True, capture_output=True)
            if host is not self.head:
                (own / "ca.key").unlink()

    def copy_token(self, host: Host) -> None:
        """Bring the head's token to another machine."""
        deadline = time.monotonic() + START_SECONDS
        found = self.home(self.head) / ".ray" / "auth_token"
        while not (found.exists() and found.stat().st_size == 64):
            assert time.monotonic() < deadline, self.log("head")
            time.sleep(0.1)
        copy = self.home(host) / ".ray" / "auth_token"
        copy.parent.mkdir(exist_ok=True)
        copy.touch(mode=0o600)
        copy.write_text(found.read_text())

    def kill_head(self) -> None:
        """All that runs on the head at once, without a word: as when its machine loses power."""
        while pids := self.head.pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)

    def wait_for_nodes(self, count: int) -> None:
        """Until the head tells of so many nodes that are alive, and of what they have."""
        code = (
            "import sys; from heliostat.control.ray_api import RayApi; "
            f"nodes = RayApi('{ADDRESS}').rows('nodes'); "
            "sys.exit(sum(n['state'] == 'ALIVE' and bool(n['resources_total']) for n in nodes) != "
            f"{count})"
        )
        deadline = time.monotonic() + START_SECONDS
        while (asked := self.on_laptop([sys.executable, "-c", code])).returncode:
            assert time.monotonic() < deadline, asked.stderr[-2000:] + self.log("head")
            time.sleep(1)

    def laptop_environment(self) -> dict[str, str]:
        """The laptop's shell after README's two exports."""
        return self.environment(self.laptop) | {
            "PYTHONPATH": str(ROOT / "platform"),
            "RAY_API_SERVER_ADDRESS": ADDRESS,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.home(self.laptop) / ".ray" / "auth_token"),
        }

    def on_laptop(
        self, command: list[str | Path], share: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the laptop's shell, in the checkout; with `share` it sees the hosts' folder."""
        return subprocess.run(
            self.laptop.command(self._seeing(command, share)),
            cwd=ROOT,
            env=self.laptop_environment() | environment,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def begin_on_laptop(self, command: list[str | Path], log: str) -> subprocess.Popen:
        """Begin a command on the laptop that sees the hosts' folder."""
        seeing = self._seeing(command, share=True)
        return self.laptop.start(seeing, self.laptop_environment(), self.folder / f"{log}.log")

    def _seeing(self, command: list[str | Path], share: bool) -> list[str | Path]:
        return [*_mounting([self._share]), *command] if share else command

    def log(self, name: str) -> str:
        """The end of what a host printed."""
        return (self.folder / f"{name}.log").read_text()[-3000:]

    @property
    def _share(self) -> tuple[Path, Path]:
        return self.folder / "server", self.folder / "shared"

    def prepare(self, host: Host) -> None:
        """Give a host a home, processes of its own and /tmp/ray of its own, and the shared folder."""
        own = self.home(host) / "ray"
        own.mkdir(parents=True)
        mounts = _mounting([(own, Path("/tmp/ray")), self._share])
        host.inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *mounts]

    def _ray_environment(self, host: Host) -> dict[str, str]:
        return (
            self.environment(host)
            | HEALTH
            | {
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
                "GLOO_SOCKET_IFNAME": "eth0",
            }
        )


@contextmanager
def three_hosts(folder: Path) -> Iterator[ThreeHosts]:
    """Make the hosts and the laptop, start Ray, and leave nothing behind."""
    tag = secrets.token_hex(3)
    Path("/tmp/ray").mkdir(exist_ok=True)
    for name in ("server", "shared"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        inside, outside = make_bridge(stack, f"i{tag}"), make_bridge(stack, f"o{tag}")
        head, one, two, tables = (
            plug_in(stack, f"h{number}{tag}", inside, f"10.77.{number}.2") for number in range(1, 5)
        )
        add_cable(head, outside, "eth1", f"w{tag}", HEAD_OUTSIDE)
        laptop = plug_in(stack, f"l{tag}", outside, "10.79.0.2")
        hosts = ThreeHosts(head, (one, two), tables, laptop, folder)
        for host in (head, one, two, tables):
            hosts.prepare(host)
        hosts.home(laptop).mkdir()
        hosts.make_certificates()
        hosts.start_tables()
        hosts.start_head()
        hosts.copy_token(laptop)
        hosts.start_workers()
        hosts.wait_for_nodes(3)
        yield hosts


def _mounting(mounts: list[tuple[Path, Path]]) -> list[str | Path]:
    """What a command is begun with to see folders at other places; nothing else sees them there."""
    each = [f"mount --bind {shlex.quote(str(source))} {shlex.quote(str(place))}" for source, place in mounts]
    return ["sh", "-c", "; ".join(["set -e", *each, 'exec "$@"']), "sh"]


def _limits(cpus: int) -> list[str | Path]:
    return ["--num-cpus", str(cpus), "--object-store-memory", "200000000"]
