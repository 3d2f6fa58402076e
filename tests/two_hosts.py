"""Hosts on this machine: network namespaces behind one bridge, an address in each; two of them with a raylet.

Needs root and iproute2. Cutting a host off is taking its cable out: nothing is closed, packets just stop.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PORT = 6479
RAY = Path(sys.executable).with_name("ray")
# A host that says nothing for four seconds is gone; Ray's own default is some twenty.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}


def available() -> bool:
    """Whether this machine lets us make network namespaces."""
    if os.geteuid() != 0:
        return False
    name = f"hs{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


@dataclass
class Host:
    """One of the hosts: its namespace, its end of the cable, its address."""

    namespace: str
    cable: str
    address: str
    processes: list[subprocess.Popen] = field(default_factory=list)
    inside: list[str | Path] = field(default_factory=list)
    """What a command is begun with to have more than the network to itself."""

    def command(self, command: list[str | Path]) -> list[str | Path]:
        """The command that runs another one on this host."""
        return ["ip", "netns", "exec", self.namespace, *self.inside, *command]

    def start(self, command: list[str | Path], environment: dict[str, str], log: Path) -> subprocess.Popen:
        """Run a command on this host, in a process group of its own."""
        with log.open("ab") as stream:
            process = subprocess.Popen(
                self.command(command),
                env=environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def pids(self) -> list[int]:
        """The processes that run on this host."""
        found = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True)
        return [int(line) for line in found.stdout.split()]

    def cut_off(self) -> None:
        """Take the cable out."""
        _ip("link", "set", self.cable, "down")


@dataclass
class TwoHosts:
    """A Ray cluster of a head and one more host, one processor each."""

    head: Host
    other: Host
    environment: dict[str, str]
    folder: Path

    def run_on_head(self, command: list[str | Path]) -> subprocess.Popen:
        """A driver on the head, joined to the cluster."""
        return self.head.start(command, self.environment, self.folder / "driver.log")

    def join(self) -> None:
        """Start Ray on the other host."""
        command = [RAY, "start", "--block", "--num-cpus=1", f"--node-ip-address={self.other.address}"]
        command += [f"--address={self.head.address}:{PORT}"]
        self.other.start(command, _without_address(self.environment), self.folder / "other.log")

    def node_id(self, host: Host) -> str:
        """Ray's name of a host. Ray would guess it by files that here all hosts have in common."""
        found = f"[each['NodeID'] for each in ray.nodes() if each['NodeManagerAddress'] == '{host.address}']"
        (answer,) = ask_ray(self.head, self.environment, f"print(*{found})").stdout.split()
        return answer


@contextmanager
def neighbour() -> Iterator[tuple[Host, str]]:
    """A host beside this machine, and the address at which that reaches this one."""
    tag = secrets.token_hex(3)
    here = "10.78.0.1"
    with ExitStack() as stack:
        bridge = make_bridge(stack, tag)
        _ip("addr", "add", f"{here}/16", "dev", bridge)
        host = plug_in(stack, f"h1{tag}", bridge, "10.78.1.2")
        yield host, here


@contextmanager
def two_hosts(folder: Path) -> Iterator[TwoHosts]:
    """Make the hosts, start Ray on both, and leave nothing behind."""
    tag = secrets.token_hex(3)
    with ExitStack() as stack:
        bridge = make_bridge(stack, tag)
        hosts = [plug_in(stack, f"h{number}{tag}", bridge, f"10.77.{number}.2") for number in (1, 2)]
        environment = (
            os.environ
            | HEALTH
            | {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
                "RAY_ADDRESS": f"{hosts[0].address}:{PORT}",
                "GLOO_SOCKET_IFNAME": "eth0",
            }
        )
        started = ["start", "--block", "--num-cpus=1", f"--node-ip-address={hosts[0].address}"]
        head = [RAY, *started, "--head", f"--port={PORT}", "--include-dashboard=false"]
        hosts[0].start(head, _without_address(environment), folder / "head.log")
        _wait_for(hosts[0], environment, 1)
        both = TwoHosts(hosts[0], hosts[1], environment, folder)
        both.join()
        _wait_for(hosts[0], environment, 2)
        yield both


def make_bridge(stack: ExitStack, tag: str) -> str:
    """A network without hosts yet; it goes with the stack."""
    name = f"hb{tag}"
    _ip("link", "add", name, "type", "bridge")
    stack.callback(_ip, "link", "del", name)
    _ip("link", "set", name, "up")
    return name


def plug_in(stack: ExitStack, name: str, bridge: str, address: str) -> Host:
    """A new host on a network. With the stack its processes end, then it goes."""
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "del", name)
    _ip("-n", name, "link", "set", "lo", "up")
    host = Host(name, f"v{name}", address)
    add_cable(host, bridge, "eth0", host.cable, address)
    stack.callback(end_processes, host)
    return host


def add_cable(host: Host, bridge: str, device: str, cable: str, address: str) -> None:
    """Put a host on a network, on one more if it is on one already."""
    _ip("link", "add", cable, "type", "veth", "peer", "name", device, "netns", host.namespace)
    _ip("link", "set", cable, "master", bridge, "up")
    _ip("-n", host.namespace, "addr", "add", f"{address}/16", "dev", device)
    _ip("-n", host.namespace, "link", "set", device, "up")


def _without_address(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}


def ask_ray(host: Host, environment: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    """Run some Python on a host, joined to the cluster: from here the hosts cannot be reached."""
    joined = "import ray, sys, logging; ray.init(log_to_driver=False, logging_level=logging.ERROR); "
    command = ["ip", "netns", "exec", host.namespace, sys.executable, "-c", joined + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _wait_for(host: Host, environment: dict[str, str], nodes: int) -> None:
    """Until so many nodes are alive."""
    code = f"sys.exit(sum(node['Alive'] for node in ray.nodes()) < {nodes})"
    deadline = time.monotonic() + 90
    while ask_ray(host, environment, code).returncode:
        assert time.monotonic() < deadline, f"{nodes} hosts did not come up"
        time.sleep(1)


def end_processes(host: Host) -> None:
    """End what we started on this host, and what that has started there."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in host.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 10
        while host.pids() and time.monotonic() < deadline:
            time.sleep(0.2)
    for process in host.processes:
        process.wait()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
