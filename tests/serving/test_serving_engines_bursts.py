"""Which requests share a step behind idleness or an answer's end: the loop of OpenVINO's process."""

import socket
import threading
from types import SimpleNamespace

import orjson
import pytest
from openvino_genai import GenerationFinishReason

from heliostat.serving.engines import openvino_process
from heliostat.serving.engines.openvino_process import Lines, PipelineLoop
from heliostat.serving.engines.patience import Patience

PROMPT = [1, 2, 3]
LONG_SECONDS = 60


class ScriptedPipeline:
    """Gives every request two tokens, one in each step that the test lets it make."""

    def __init__(self) -> None:
        self.batching = self
        self.running: list[SimpleNamespace] = []
        self.begun: list[int] = []
        self.may_step = threading.Semaphore(0)
        self.has_begun = threading.Semaphore(0)

    @property
    def is_idle(self) -> bool:
        return not self.running

    def check_prompt(self, prompt_ids) -> None:
        pass

    def put_on(self, adapter) -> None:
        pass

    def add(self, number, prompt_ids, config):
        handle = SimpleNamespace(unread=0, left=2)
        handle.can_read = lambda: handle.unread > 0
        handle.read = lambda: self._read(handle)
        self.running.append(handle)
        return handle

    def step(self) -> None:
        self.begun.append(len(self.running))
        self.has_begun.release()
        assert self.may_step.acquire(timeout=LONG_SECONDS)
        for handle in self.running:
            handle.unread, handle.left = 1, handle.left - 1
        self.running = [handle for handle in self.running if handle.left]

    def get_metrics(self):
        return SimpleNamespace(cache_usage=0.0)

    @staticmethod
    def _read(handle):
        handle.unread = 0
        reason = GenerationFinishReason.NONE if handle.left else GenerationFinishReason.LENGTH
        return {0: SimpleNamespace(generated_ids=[7], finish_reason=reason)}


@pytest.fixture
def scripted(monkeypatch):
    """A loop at work in a thread, its pipeline, and a function that sends it requests."""
    monkeypatch.setattr(openvino_process, "TOGETHER_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(openvino_process, "generation_config", lambda _: SimpleNamespace(logprobs=0))
    pipeline, (ours, theirs) = ScriptedPipeline(), socket.socketpair()
    loop = PipelineLoop(pipeline, Lines(theirs), max_num_seqs=8, max_step_tokens=2 * len(PROMPT))
    thread = threading.Thread(target=loop.run)
    thread.start()

    def send(request_id: str) -> None:
        message = {"add": request_id, "prompt_ids": PROMPT, "parameters": {}, "adapter": None}
        ours.sendall(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    yield pipeline, send, ours
    for _ in range(10):
        pipeline.may_step.release()
    ours.shutdown(socket.SHUT_WR)
    thread.join(timeout=LONG_SECONDS)
    assert not thread.is_alive()
    ours.close()
    theirs.close()


def begins(pipeline) -> None:
    assert pipeline.has_begun.acquire(timeout=LONG_SECONDS)


def ends(pipeline, ours) -> None:
    """Let the step that has begun end, and see its tokens."""
    pipeline.may_step.release()
    assert b'"tokens":[[' in ours.recv(1 << 16)


def makes(pipeline, ours, num_steps: int) -> None:
    for _ in range(num_steps):
        begins(pipeline)
        ends(pipeline, ours)


def test_one_that_comes_alone_never_waits(scripted):
    pipeline, send, ours = scripted
    for request_id in "abc":
        send(request_id)
        makes(pipeline, ours, 2)
    assert pipeline.begun == [1] * 6


def test_the_first_of_several_waits_for_the_others_once_some_came_like_that(scripted):
    pipeline, send, ours = scripted
    came_during_the_first_step(pipeline, send, ours)
    send("c")
    send("d")
    makes(pipeline, ours, 2)
    send("e")  # these two did, too
    send("f")
    makes(pipeline, ours, 2)
    assert pipeline.begun == [1, 2, 1, 2, 2, 2, 2]


def test_who_waited_in_vain_is_the_last_to_wait(scripted, monkeypatch):
    pipeline, send, ours = scripted
    came_during_the_first_step(pipeline, send, ours)
    monkeypatch.setattr(openvino_process, "TOGETHER_SECONDS", 0.05)
    send("c")
    makes(pipeline, ours, 2)
    monkeypatch.setattr(openvino_process, "TOGETHER_SECONDS", LONG_SECONDS)
    send("d")
    makes(pipeline, ours, 2)
    assert pipeline.begun == [1, 2, 1, 1, 1, 1, 1]


def came_during_the_first_step(pipeline, send, ours) -> None:
    send("a")
    begins(pipeline)
    send("b")
    ends(pipeline, ours)
    makes(pipeline, ours, 2)


def test_a_step_waits_for_what_follows_an_answer_that_has_ended(scripted, monkeypatch):
    pipeline, send, ours = scripted
    monkeypatch.setattr(openvino_process, "NEXT_SECONDS", LONG_SECONDS)
    send("a")
    begins(pipeline)
    send("b")
    ends(pipeline, ours)
    makes(pipeline, ours, 1)
    send("c")  # a has ended, b goes on
    begins(pipeline)
    monkeypatch.setattr(openvino_process, "NEXT_SECONDS", 0)
    ends(pipeline, ours)
    makes(pipeline, ours, 1)
    assert pipeline.begun == [1, 2, 2, 1]


def test_a_step_waits_no_more_where_nothing_followed(scripted, monkeypatch):
    pipeline, send, ours = scripted
    monkeypatch.setattr(openvino_process, "NEXT_SECONDS", 0.01)
    came_during_the_first_step(pipeline, send, ours)
    monkeypatch.setattr(openvino_process, "NEXT_SECONDS", LONG_SECONDS)
    monkeypatch.setattr(openvino_process, "TOGETHER_SECONDS", 0)
    came_during_the_first_step(pipeline, send, ours)
    assert pipeline.begun == [1, 2, 1] * 2


def test_waits_in_vain_make_the_next_ones_rarer_and_one_that_pays_ends_that():
    patience, tried = Patience(most_skips=7), []
    for time in range(40):
        if patience.is_worth_it():
            tried.append(time)
            patience.learn(paid=False)
    assert tried == [0, 2, 6, 14, 22, 30, 38]
    for _ in range(6):
        assert not patience.is_worth_it()
    assert patience.is_worth_it()
    patience.learn(paid=True)
    assert patience.is_worth_it()
