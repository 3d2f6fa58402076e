"""Ten thousand requests of all kinds from two hundred clients: behind them the gateway holds what it held."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict

import httpx
import pytest
from tests.bench.serving_processes import free_port, wait_for
from tests.serving.echo_gateway import EchoSpec
from tests.serving.mixed_load import Kind, Mix, Outcome, ask_all

from heliostat.serving.access.config import Limits
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CLIENTS = 200
FIRST, ALL = 2_000, 10_000
ALLOWED_SHARE, ALLOWED_BYTES = 0.05, 4 * 2**20
KEPT_FOR_A_MINUTE = "heliostat.serving.gateway.metrics._Ended"
"""For the figures of the last minute; 4,096 at most."""
A_CLIENT_LEFT_IN_A_BURST = "socket.send() raised exception.\n"
"""asyncio's words, where five events leave within the turn in which their client's end was read."""
OURS = ("heliostat.", "uvicorn.", "starlette.", "_asyncio.", "httptools.", "uvloop.")
FORBIDDEN = "abracadabra"


class Gateway:
    """The process, and what it says that it holds."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def held(self) -> dict:
        """Once it is at rest: its last connections are closed a moment behind the clients' ends."""
        deadline = time.monotonic() + 20
        before = self._ask()
        while True:
            time.sleep(0.5)
            now = self._ask()
            if (now["tasks"], now["descriptors"]) == (before["tasks"], before["descriptors"]):
                return now
            assert time.monotonic() < deadline, now["tasks"]
            before = now

    def _ask(self) -> dict:
        print(file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@pytest.fixture
def keys(workspace) -> dict[str, str]:
    """One that may ask for as much as it likes; one that is nobody's; one that has asked enough."""
    store = KeyStore(workspace.storage)
    ample = Limits(requests_per_minute=10_000_000, tokens_per_minute=1_000_000_000, concurrency=10_000)
    main, _ = store.create(KeyScope(name="main", tenant="a", limits=ample))
    few, _ = store.create(KeyScope(name="few", tenant="b", limits=Limits(requests_per_minute=1)))
    return {"main": main, "limited": few, "unknown": main[:-4] + "0000"}


@pytest.fixture
def place(workspace, tiny_model_folder, tiny_encoder, keys, tmp_path):
    port = free_port()
    spec = EchoSpec(
        name="tiny",
        tokenizer=str(tiny_model_folder),
        embedder=str(tiny_encoder),
        workspace=workspace.storage.root,
        port=port,
        kept_answers=100,
        collections=True,
        blocked_word=FORBIDDEN,
        over_channel=True,
        piece_tokens=4,
        pause_seconds=0.01,
        counts=True,
    )
    command = [sys.executable, "-m", "tests.serving.echo_gateway", json.dumps(asdict(spec))]
    log = tmp_path / "gateway.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process, log)
        yield port, Gateway(process), log
    finally:
        process.terminate()
        process.wait(30)


def fill_a_collection(port: int, key: str) -> None:
    documents = [{"id": str(number), "text": f"light mirror {number}"} for number in range(50)]
    url = f"http://127.0.0.1:{port}/v1/collections/manual/documents"
    added = httpx.post(url, json={"documents": documents}, headers={"authorization": f"Bearer {key}"})
    assert added.json()["num_documents"] == 50


def a_mix() -> Mix:
    mix = Mix("tiny", (4, 32), 150, collection="manual", blocked_word=FORBIDDEN, leaves_after=(0.0, 0.4))
    beyond_the_echo = ("schema", "tools", "unknown model")
    kinds = [kind for kind in mix.kinds if kind.name not in beyond_the_echo]
    mix.kinds = (*kinds, Kind("over its limit", mix.chat, 2, status=429, key="limited"))
    return mix


def own(held: dict) -> Counter:
    """Its objects of classes that a request makes."""
    found = {name: count for name, count in held["objects"].items() if name.startswith(OURS)}
    assert found.pop(KEPT_FOR_A_MINUTE) <= 4096
    return Counter(found)


def test_ten_thousand_requests_leave_behind_what_two_thousand_did(place, keys):
    port, gateway, log = place
    fill_a_collection(port, keys["main"])
    mix, outcomes = a_mix(), list[Outcome]()

    def ask(count: int) -> dict:
        shares = [count // CLIENTS] * CLIENTS
        outcomes.extend(asyncio.run(ask_all(mix, ("127.0.0.1", port), keys, shares, len(outcomes))))
        return gateway.held()

    first_minute = time.time() // 60
    at_first = ask(CLIENTS)
    began = time.monotonic()
    between = ask(FIRST - CLIENTS)
    at_last = ask(ALL - FIRST)
    last_minute = time.time() // 60
    seconds = time.monotonic() - began
    for held in (at_first, between, at_last):
        figures = {name: held[name] for name in ("bytes", "descriptors", "threads", "series", "kept")}
        print(figures | {"objects": sum(held["objects"].values())}, dict(held["tasks"]))
    print(f"{ALL} requests in {seconds:.0f} s:", Counter(outcome.verdict for outcome in outcomes))
    grown = own(at_last) - own(between)
    print("grown:", grown.most_common(12))

    wrong = [outcome for outcome in outcomes if outcome.verdict not in ("ok", "left")]
    assert [(each.kind, each.error) for each in wrong if each.kind != "over its limit"] == []
    assert len(wrong) <= 1 + last_minute - first_minute  # in each it may ask once
    assert len(outcomes) == ALL
    assert sum(outcome.verdict == "left" for outcome in outcomes) > ALL / 50
    assert between["kept"] == at_last["kept"] == {"exact": 100, "semantic": 100}
    assert at_last["tasks"] == at_first["tasks"]
    assert at_last["descriptors"] <= at_first["descriptors"]
    assert at_last["series"] == between["series"]
    assert sum(grown.values()) < 100, grown.most_common(12)
    allowed = between["bytes"] * (1 + ALLOWED_SHARE) + ALLOWED_BYTES
    assert at_last["bytes"] < allowed, (between["bytes"], at_last["bytes"])
    assert log.read_text().replace(A_CLIENT_LEFT_IN_A_BURST, "") == ""
