"""The dashboard as a process of its own: the real command, reached over HTTP and over websockets."""

import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from tests.processes import end
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0
STREAM = "/_stcore/stream"


@dataclass(frozen=True)
class Served:
    """Where it answers, its workspace, what it prints, and its process."""

    url: str
    workspace: Path
    log: Path
    process: subprocess.Popen
    certificate: Path | None = None

    @property
    def netloc(self) -> str:
        return self.url.partition("://")[2]

    def client(self, local_address: str | None = None, **options) -> httpx.Client:
        """A browser of its own, with the headers of a page of this server."""
        trust = ssl.create_default_context(cafile=str(self.certificate)) if self.certificate else True
        transport = httpx.HTTPTransport(verify=trust, local_address=local_address)
        headers = {"Origin": self.url} | options.pop("headers", {})
        return httpx.Client(base_url=self.url, transport=transport, headers=headers, timeout=60, **options)

    @contextmanager
    def logged_in(self, name: str, password: str) -> Iterator[httpx.Client]:
        """A browser in which somebody has logged in."""
        with self.client() as client:
            answer = log_in(client, name, password)
            assert answer.status_code == 303, answer.text
            yield client

    def stream(self, client: httpx.Client | None = None, **options) -> ClientConnection:
        """The websocket that pages live on, with a browser's cookies."""
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items()) if client else ""
        headers = ({"Cookie": cookies} if cookies else {}) | options.pop("headers", {})
        options = {"origin": self.url, "max_size": None, "open_timeout": 30} | options
        return connect(f"ws://{self.netloc}{STREAM}", additional_headers=headers, **options)


@contextmanager
def served(
    folder: Path, *arguments: str, certificate: Path | None = None, told: dict[str, str] | None = None
) -> Iterator[Served]:
    """`heliostat dashboard` on a free port until the block ends; it starts no cluster, unless it is `told` so
    in its environment."""
    log, workspace = folder / "log", folder / "workspace"
    command = ["dashboard", "--port", "0", "--no-browser", "--workspace", str(workspace), *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "heliostat.cli", *command],
            cwd=ROOT, env=environment(folder) | (told or {}),
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield Served(_url(process, log), workspace, log, process, certificate)
    finally:
        end(process)


def environment(home: Path) -> dict[str, str]:
    """A shell's in which nothing of Heliostat's or Ray's is set."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HELIOSTAT_", "XDG_", "MLFLOW_"))
    }
    return kept | {
        "HOME": str(home),
        "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
        "PYTHONUNBUFFERED": "1",
        "HELIOSTAT_DASHBOARD_NO_CLUSTER": "1",
    }


def user(workspace: Path, *words: str, password: str = "") -> subprocess.CompletedProcess:
    """`heliostat dashboard user ...`, the password on standard input."""
    command = [sys.executable, "-m", "heliostat.cli", "dashboard", "user", *words]
    return subprocess.run(
        [*command, "--workspace", str(workspace)],
        env=environment(workspace), input=f"{password}\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def log_in(client: httpx.Client, name: str, password: str, where: str = "/login") -> httpx.Response:
    """Fill in the form and send it."""
    token = form_token(client.get(where).text)
    return client.post(where, data={"token": token, "name": name, "password": password})


def form_token(page: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found, page
    return found.group(1)


def run_page(stream: ClientConnection, page: str, query: str = "", click: str = "") -> list[ForwardMsg]:
    """Have a page's script run, as the browser asks for it; `click` is the id of a button. All it draws."""
    asked = BackMsg()
    asked.rerun_script.query_string = query
    asked.rerun_script.page_name = page
    if click:
        asked.rerun_script.widget_states.widgets.add(id=click, trigger_value=True)
    stream.send(asked.SerializeToString())
    return drawn(stream)


def drawn(stream: ClientConnection, seconds: float = 60.0) -> list[ForwardMsg]:
    """What a script draws until it has ended."""
    messages: list[ForwardMsg] = []
    deadline = time.monotonic() + seconds
    while not (messages and messages[-1].WhichOneof("type") == "script_finished"):
        message = ForwardMsg()
        message.ParseFromString(stream.recv(timeout=deadline - time.monotonic()))
        messages.append(message)
    return messages


def seconds_until_closed(stream: ClientConnection, patience: float = 30.0) -> float:
    """How long the server keeps a websocket open on which the page sends nothing."""
    began = time.monotonic()
    try:
        while True:
            stream.recv(timeout=patience)
    except ConnectionClosed:
        return time.monotonic() - began


def buttons(messages: list[ForwardMsg]) -> dict[str, str]:
    """The buttons on a page: label -> id."""
    elements = [message.delta.new_element for message in messages]
    return {one.button.label: one.button.id for one in elements if one.WhichOneof("type") == "button"}


def lines(messages: list[ForwardMsg]) -> list[str]:
    """The plain texts on a page."""
    elements = [message.delta.new_element for message in messages]
    return [one.text.body for one in elements if one.WhichOneof("type") == "text"]


def _url(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = re.search(r"The dashboard is at (https?://\S+)", log.read_text())
        if found:
            url = found.group(1)
            _wait_for_health(url, process, log, deadline)
            return url
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _wait_for_health(url: str, process: subprocess.Popen, log: Path, deadline: float) -> None:
    with httpx.Client(verify=False) as client:
        while True:
            try:
                client.get(f"{url}/healthz", timeout=5)
                return
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
