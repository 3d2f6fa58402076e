"""However many people look, Ray is asked as if it were one: pages read what one collector wrote down."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import httpx
import pytest
import websockets
from served import STREAM, Served, served
from small_studies import add_run
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from tests.control.own_cluster import own_cluster

from heliostat.control.local_cluster import LocalCluster
from heliostat.storage import Storage
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.heavy]
VIEWERS = 50
SECONDS = 30.0
COMES_AFTER_SECONDS = 0.3
"""People come one after the other: fifty at the same moment would be a test of two cores."""
POLL_SECONDS = 2.0
RUN = "train-0123456789ab"
LIVE = (("home", ""), ("runs", ""), ("run", f"run={RUN}"), ("endpoints", ""), ("cluster", ""))
"""Pages that draw themselves anew while one looks."""


@dataclass
class Counting:
    """A server before Ray's dashboard that notes what it is asked for."""

    address: str = ""
    asked: list[str] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def since(self, start: int) -> Counter[str]:
        """How often each thing was asked for since so many questions had come."""
        with self.lock:
            return Counter(self.asked[start:])


@contextmanager
def counting(target: str) -> Iterator[Counting]:
    """Every request goes on to `target`, and its answer back."""
    counts = Counting()
    client = httpx.Client(base_url=target, timeout=60)

    class Passing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            with counts.lock:
                counts.asked.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept = {k: v for k, v in self.headers.items() if k.lower() in ("authorization", "content-type")}
            answer = client.request(self.command, self.path, headers=kept, content=body)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_DELETE = _pass

        def log_message(self, *_: object) -> None:
            """No line for each."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    counts.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield counts
    finally:
        server.shutdown()
        server.server_close()
        client.close()


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[LocalCluster]:
    """A real Ray of one node."""
    with own_cluster(tmp_path_factory.mktemp("head"), 1, port=23000) as cluster:
        yield cluster


@pytest.fixture
def place(tmp_path, head) -> Path:
    """A home with the cluster's token, and in it a workspace with a run at work."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(Path(head.token_path).read_text())
    add_run(Workspace(Storage.at(tmp_path / "workspace")), RUN, "running", config={"max_steps": 100})
    rows = [{"step": step, "time": 1e9 + step, "loss": 1 / step} for step in range(1, 50)]
    metrics = tmp_path / "workspace" / "runs" / RUN / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


async def look(dashboard: Served, page: str, query: str, until: float) -> int:
    """Open a page as a browser does, and draw its live parts anew as it asks for; how often that was done."""
    done, parts = 0, {}
    hash_of_page = ""
    origin = f"ws://{dashboard.netloc}{STREAM}"
    async with websockets.connect(origin, origin=dashboard.url, max_size=None, open_timeout=60) as stream:
        await stream.send(_asking(page, query))
        while time.monotonic() < until:
            due = min((at for at, _ in parts.values()), default=until)
            try:
                answer = await asyncio.wait_for(stream.recv(), max(0.0, min(due, until) - time.monotonic()))
            except TimeoutError:
                for part, (at, every) in list(parts.items()):
                    if at <= time.monotonic():
                        await stream.send(_asking(page, query, part, hash_of_page))
                        parts[part] = time.monotonic() + every, every
                continue
            message = ForwardMsg.FromString(answer)
            kind = message.WhichOneof("type")
            if kind == "new_session":
                hash_of_page = message.new_session.page_script_hash
            elif kind == "auto_rerun":
                every = message.auto_rerun.interval
                parts[message.auto_rerun.fragment_id] = time.monotonic() + every, every
            elif kind == "script_finished":
                done += message.script_finished == ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY
    return done


def _asking(page: str, query: str, part: str = "", hash_of_page: str = "") -> bytes:
    asked = BackMsg()
    asked.rerun_script.query_string = query
    if part:
        asked.rerun_script.fragment_id = part
        asked.rerun_script.is_auto_rerun = True
        asked.rerun_script.page_script_hash = hash_of_page
    else:
        asked.rerun_script.page_name = "" if page == "home" else page
    return asked.SerializeToString()


def seconds_of(viewers: int) -> float:
    """How long it takes until all have come and looked for a while."""
    return SECONDS + viewers * COMES_AFTER_SECONDS


def watch(dashboards: list[Served], viewers: int) -> list[int]:
    """So many people look for a while; how often each one's page was drawn anew."""

    async def come_and_look(number: int, until: float) -> int:
        await asyncio.sleep(number * COMES_AFTER_SECONDS)
        return await look(dashboards[number % len(dashboards)], *LIVE[number % len(LIVE)], until)

    async def all_of_them() -> list[int]:
        until = time.monotonic() + seconds_of(viewers)
        return list(await asyncio.gather(*(come_and_look(number, until) for number in range(viewers))))

    return asyncio.run(all_of_them())


def polls(counts: Counting, dashboards: list[Served], viewers: int) -> Counter[str]:
    """What Ray is asked for while so many look, each of whom sees a page that lives."""
    start = len(counts.asked)
    drawn = watch(dashboards, viewers)
    print(f"{viewers} viewer(s): {sum(drawn)} times a live part was drawn anew")
    assert min(drawn) >= 2, drawn
    return counts.since(start)


def too_many(asked: Counter[str], seconds: float) -> dict[str, int]:
    """What was asked for more often than every two seconds."""
    return {target: count for target, count in asked.items() if count > seconds / POLL_SECONDS + 1}


def wait_until_asked(counts: Counting) -> None:
    deadline = time.monotonic() + 60
    while not counts.asked:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.lengthy
@pytest.mark.timeout(400)
def test_fifty_viewers_cost_ray_what_one_does(head, place):
    with counting(head.address) as counts, served(place, "--address", counts.address) as dashboard:
        wait_until_asked(counts)
        one = polls(counts, [dashboard], 1)
        fifty = polls(counts, [dashboard], VIEWERS)
    print(f"asked for in a minute by 1 and by {VIEWERS} viewers:")
    for target in sorted(one | fifty):
        shares = one[target] / seconds_of(1), fifty[target] / seconds_of(VIEWERS)
        print(f"{60 * shares[0]:>6.1f}{60 * shares[1]:>6.1f}  {target}")
    assert one["GET /api/jobs/"] > 0
    assert too_many(one, seconds_of(1)) == {}
    assert too_many(fifty, seconds_of(VIEWERS)) == {}
    assert fifty.keys() <= one.keys(), "nothing is asked for a viewer's sake"


@pytest.mark.lengthy
@pytest.mark.timeout(400)
def test_two_dashboards_on_one_workspace_ask_once(head, place):
    other = place / "other"
    other.mkdir()
    (other / "workspace").symlink_to(place / "workspace")
    (other / ".ray").symlink_to(place / ".ray")
    with (
        counting(head.address) as counts,
        served(place, "--address", counts.address) as first,
        served(other, "--address", counts.address) as second,
    ):
        wait_until_asked(counts)
        both = polls(counts, [first, second], 10)
    assert both["GET /api/jobs/"] > 0
    assert too_many(both, seconds_of(10)) == {}
