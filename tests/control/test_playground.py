"""Conversations with endpoints: streamed, timed, side by side, ended early; refusals in one line."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import pytest
from tests.serving.deployed import gateway_of
from tests.serving.in_process import FixedModels
from tests.serving.scripted import ScriptedEngine, prose_tokenizer, served_by

from heliostat.control.gateway_key import GatewayKey
from heliostat.control.playground import Answer, Asked, Sampling, SideBySide
from heliostat.errors import ConfigError, ServingError

HELLO = ({"role": "user", "content": "Hello"},)
SCRIPT = "A mirror follows the sun, and <b>many</b> mirrors have one focus."


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    return prose_tokenizer(tmp_path_factory.mktemp("prose"))


@pytest.fixture(scope="module")
def engines(prose) -> dict[str, ScriptedEngine]:
    return {"tiny": ScriptedEngine(prose, [SCRIPT]), "long": ScriptedEngine(prose, ["and on " * 2000])}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, prose, engines):
    models = FixedModels(
        *(
            served_by(engine, id=name, max_context_tokens=20_000, max_output_tokens=15_000)
            for name, engine in engines.items()
        )
    )
    with gateway_of(tmp_path_factory.mktemp("playground"), prose, models=models) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(gateway) -> GatewayKey:
    return GatewayKey(gateway.key("chatter"), "test")


def asked(gateway, model: str = "tiny", messages=HELLO, **sampling) -> Asked:
    return Asked(base_url=f"{gateway.url}/v1", model=model, messages=messages, sampling=Sampling(**sampling))


def test_text_comes_as_it_is_written_and_is_timed(gateway, key, engines):
    system = {"role": "system", "content": "Be brief"}
    answer = Answer(asked(gateway, messages=(system, *HELLO), temperature=0.5, seed=3), key)
    pieces = list(answer)
    assert len(pieces) > 5
    assert "".join(pieces) == answer.text == SCRIPT
    speed = answer.speed
    assert 0 < speed.first_token_seconds < 5
    assert speed.tokens_per_second > 0
    assert speed.completion_tokens > 5
    assert (speed.finish_reason, speed.version) == ("stop", "v1")
    parameters = engines["tiny"].asked[-1][1]
    assert (parameters.temperature, parameters.seed) == (0.5, 3)


def test_closing_an_answer_ends_the_request_at_the_gateway(gateway, key, engines):
    answer = Answer(asked(gateway, "long", max_tokens=10_000), key)
    texts = iter(answer)
    assert "".join(islice(texts, 3))
    answer.close()
    assert len(list(texts)) < 5_000
    assert answer.closed
    _wait_until_left(engines["long"], 1)
    texts = iter(Answer(asked(gateway, "long", max_tokens=10_000), key))
    next(texts)
    texts.close()  # as when whoever iterates goes away
    _wait_until_left(engines["long"], 2)


def _wait_until_left(engine, times: int) -> None:
    deadline = time.monotonic() + 10
    while len(engine.left) < times:
        assert time.monotonic() < deadline, "the gateway goes on generating for nobody"
        time.sleep(0.01)


def test_three_answer_side_by_side_and_one_may_fail(gateway, key, engines):
    answers = [Answer(asked(gateway, name), key) for name in ("tiny", "nobody", "tiny")]
    with SideBySide(answers) as side:
        pieces = [piece for piece in side.pieces() if piece]
    assert {piece.place for piece in pieces if piece.ended} == {0, 1, 2}
    (error,) = [piece.error for piece in pieces if piece.error]
    assert "nobody" in error
    assert "\n" not in error
    assert answers[0].text == answers[2].text == SCRIPT


def test_leaving_ends_all_that_go_on(gateway, key, engines):
    before = len(engines["long"].left)
    began = set()
    with SideBySide([Answer(asked(gateway, "long", max_tokens=10_000), key) for _ in range(2)]) as side:
        for piece in side.pieces():
            began |= {piece.place} if piece else set()
            if len(began) == 2:
                break
    _wait_until_left(engines["long"], before + 2)


def test_an_answer_that_has_not_begun_can_be_closed_at_once():
    """Somebody listens and says nothing, as while a replica is brought up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        answer = Answer(Asked(base_url=url, model="tiny", messages=HELLO))
        started = time.monotonic()
        with SideBySide([answer]) as side:
            assert next(side.pieces()) is None
            connection, _ = silent.accept()
        assert time.monotonic() - started < 2
        connection.settimeout(5)
        while connection.recv(65536):
            pass  # to its end: the other side has gone
        assert answer.closed
        assert not answer.over


def test_more_than_three_are_too_many(gateway):
    with pytest.raises(ConfigError, match="from 1 to 3"):
        SideBySide([Answer(asked(gateway))] * 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": None}, "HELIOSTAT_API_KEY"),
        ({"model": "nobody"}, "nobody"),
        ({"messages": ()}, "messages"),
        ({"base_url": "http://127.0.0.1:1/v1"}, "no answer"),
        ({"base_url": "no address"}, "no answer"),
    ],
)
def test_refusals_are_one_line(gateway, key, change, message):
    given = change.pop("key", key)
    with pytest.raises(ServingError, match=message) as refusal:
        list(Answer(asked(gateway).model_copy(update=change), given))
    assert "\n" not in str(refusal.value)
    assert key.value not in str(refusal.value)


class AtOnce(BaseHTTPRequestHandler):
    """Sends a whole answer as one event, as an engine does whose short answer is ready in one go."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        events = (
            {"choices": [{"delta": {"content": "all of it"}, "finish_reason": None}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 60}},
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


def test_an_answer_in_one_piece_has_a_speed_too():
    with ThreadingHTTPServer(("127.0.0.1", 0), AtOnce) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        answer = Answer(Asked(base_url=url, model="tiny", messages=HELLO, sampling=Sampling()))
        assert list(answer) == ["all of it"]
        server.shutdown()
    speed = answer.speed
    assert speed.completion_tokens == 60
    assert speed.tokens_per_second == pytest.approx(60 / speed.first_token_seconds)
