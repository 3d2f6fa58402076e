"""The serving benchmark's own arithmetic and its load generator."""

import asyncio
import json
import math
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.bars import judge
from tests.bench.serving_bars import BARS, IN_PROCESS, OURS, bar_figures, cores_for, percentile
from tests.bench.serving_engines import figures_of, rotated
from tests.bench.serving_inputs import Prompts
from tests.bench.serving_load import Events, Load, Sample, parse_head, run_load, text_in
from tests.bench.serving_processes import SideFailed
from tests.bench.serving_sides import Cell, CellRun, Target, checked
from tests.bench.serving_usage import Meter, ProcessTree

CELL = Cell(streams=2, prompt_tokens=8, max_tokens=4, prompts=("a", "b"))
STREAM = (
    b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
    b": a comment\n\n"
    b'data: {"choices":[{"delta":{"content":"x"}}]}\r\n\r\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":4}}\n\n'
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_however_the_bytes_are_cut(cuts):
    events = Events()
    found = [
        data
        for begin, end in pairwise([0, *sorted(cuts), len(STREAM)])
        for data in events.feed(STREAM[begin:end])
    ]
    assert found == Events().feed(STREAM)
    assert [data[-6:] for data in found] == [b't"}}]}', b'x"}}]}', b's":4}}', b"[DONE]"]


def test_an_events_lines_of_data_are_joined():
    assert Events().feed(b"event: x\ndata: 1\ndata:2\nid: 3\n\ndata: ") == [b"1\n2"]


@pytest.mark.parametrize(
    ("chunk", "has"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"content": "a"}}]}, True),
        ({"choices": [{"text": " b"}]}, True),
        ({"choices": []}, False),
        ({"choices": [{"message": {"content": "c"}}]}, True),
    ],
)
def test_the_first_text_is_the_models_and_not_a_role(chunk, has):
    assert text_in(chunk) is has


def test_a_head_is_read_without_regard_to_case():
    head = b"HTTP/1.1 429 Too Many\r\nContent-Type: text/event-stream; charset=utf-8\r\nX-A: b: c\r\n\r\n"
    assert parse_head(head) == (429, {"content-type": "text/event-stream; charset=utf-8", "x-a": "b: c"})
    with pytest.raises(ValueError, match="unpack"):
        parse_head(b"nonsense\r\n\r\n")


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def answer(content_type: bytes, body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    length = b"" if b"Transfer-Encoding: chunked" in headers else b"Content-Length: %d\r\n" % len(body)
    lines = b"".join(header + b"\r\n" for header in headers)
    return (
        b"HTTP/1.1 "
        + status
        + b"\r\nContent-Type: "
        + content_type
        + b"\r\n"
        + length
        + lines
        + b"\r\n"
        + body
    )


async def ask(replies: list[list[bytes]], load_of) -> tuple[list[Sample], list[bytes]]:
    """A server that gives each connection its replies and then closes it; what it was asked."""
    asked: list[bytes] = []

    async def serve(reader, writer):
        for reply in replies.pop(0):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            asked.append(head + await reader.readexactly(length))
            writer.write(reply)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        samples = await run_load(load_of(port))
    return samples, asked


def load_of(count: int, streams: int = 1, noted: str = ""):
    bodies = [{"prompt": str(number)} for number in range(count)]
    return lambda port: Load("127.0.0.1", port, ["/v1/x"], bodies, streams, noted=noted, timeout_seconds=5)


def test_a_streamed_answer_is_timed_and_its_usage_counted():
    pieces = [STREAM[at : at + 30] for at in range(0, len(STREAM), 30)]
    reply = answer(b"text/event-stream", chunked(*pieces), b"Transfer-Encoding: chunked")
    (sample,), (asked,) = asyncio.run(ask([[reply]], load_of(1)))
    assert (sample.prompt_tokens, sample.completion_tokens, sample.status) == (8, 4, 200)
    assert sample.error == ""
    assert sample.sent <= sample.first <= sample.ended
    assert asked.startswith(b"POST /v1/x HTTP/1.1\r\n")
    assert asked.endswith(b'{"prompt": "0"}')


def test_a_connection_is_kept_and_one_that_the_server_closed_is_no_failure():
    body = json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 4}}).encode()
    reply = answer(b"application/json", body, b"X-Cache: exact; 1")
    samples, asked = asyncio.run(ask([[reply, reply], [reply]], load_of(3, noted="X-Cache")))
    assert [sample.error for sample in samples] == ["", "", ""]
    assert {sample.noted for sample in samples} == {"exact; 1"}
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer(b"application/json", b'{"error":1}', status=b"429 No"), '429: {"error":1}'),
        (answer(b"text/event-stream", STREAM[:60]), "without [DONE]"),
        (answer(b"text/event-stream", b'data: {"error": {"message": "gone"}}\n\n'), "gone"),
        (answer(b"application/json", b"{")[:-1], "IncompleteRead"),
        (b"", "IncompleteRead"),
    ],
)
def test_what_goes_wrong_is_said_in_the_sample(reply, says):
    (sample,), _ = asyncio.run(ask([[reply]], load_of(1)))
    assert says in sample.error


def sample(sent: float, first: float, ended: float, tokens: int = 4) -> Sample:
    return Sample(sent, first, ended, 8, tokens, status=200)


def test_rates_span_the_first_request_to_the_last_answer():
    row = figures_of(CellRun((sample(10, 11, 12), sample(11, 11.5, 14)), cpu_seconds=2.0, peak_bytes=5))
    assert row["tokens_per_second"] == 2.0
    assert row["requests_per_second"] == 0.5
    assert row["first_seconds"] == [1, 0.5]
    assert row["cpu_seconds_per_token"] == 0.25


def test_a_run_counts_only_when_every_answer_is_whole():
    whole = (sample(0, 1, 2), sample(0, 1, 2))
    assert checked(CELL, CellRun(whole, 0, 0)).samples == whole
    for bad, says in (
        ((sample(0, 1, 2, tokens=3), whole[0]), "3 tokens, not 4"),
        ((Sample(0, 1, 1, error="503: full"), whole[0]), "503: full"),
        (whole[:1], "1 answers to 2"),
    ):
        with pytest.raises(SideFailed, match=says):
            checked(CELL, CellRun(bad, 0, 0))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_enough_do_not_exceed(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_percentiles_of_little_and_nothing():
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([float(value) for value in range(1, 101)], 0.99) == 99
    assert math.isnan(percentile([], 0.5))


def row(side: str, speed: float = 0, part: str = "engines", **more) -> dict:
    return {
        "part": part,
        "side": side,
        "streams": 16,
        "prompt_tokens": 128,
        "tokens_per_second": speed,
        "first_seconds": [],
        **more,
    }


def test_vllm_is_judged_by_its_faster_precision():
    rows = [row(OURS, 200), row("vllm", 80), row("vllm bf16", 120)]
    assert bar_figures(rows) == {"vllm_128": pytest.approx(200 / 120)}
    assert bar_figures(rows[:2]) == {"vllm_128": pytest.approx(200 / 80)}


def test_a_side_that_was_not_measured_has_no_figure_and_no_verdict():
    assert bar_figures([row(OURS, 200)]) == {}
    assert bar_figures([row("naive", 16)]) == {}
    verdicts = judge(bar_figures([row(OURS, 200), row("naive", 16)]), bars=BARS)
    assert [(verdict.name, verdict.cleared) for verdict in verdicts] == [("naive_128", True)]


def test_throughput_is_the_median_of_the_repeats_at_sixteen_streams():
    rows = [row(OURS, speed) for speed in (10, 300, 200)] + [row(IN_PROCESS, 210), row(OURS, 999, streams=32)]
    assert bar_figures(rows) == {"in_process_128": pytest.approx(200 / 210)}


def test_the_first_token_is_compared_by_the_difference():
    def first(side, streams, times):
        return row(side, part="first_token", streams=streams, first_seconds=times)

    rows = [
        first(OURS, 1, [0.030, 0.050, 0.040]),
        first(IN_PROCESS, 1, [0.031]),
        first(OURS, 8, [0.1] * 19 + [0.2]),
        first(IN_PROCESS, 8, [0.09] * 19 + [0.5]),
    ]
    figures = bar_figures(rows)
    assert figures["first_token_1"] == pytest.approx(9)
    assert figures["first_token_8"] == pytest.approx(10)


def qps(requests_per_second: float, p99: float, cpu: float) -> dict:
    return {
        "requests_per_second": requests_per_second,
        "whole_seconds": [p99],
        "cpu_seconds_per_request": cpu,
    }


@pytest.mark.parametrize(
    ("rows", "cores"),
    [
        ([qps(10, 0.2, 0.1), qps(20, 0.6, 0.1)], 10),  # what is reached too late does not count
        ([qps(25, 0.5, 0.08)], 4),
        ([qps(25, 0.5, 0.12)], 6),  # the work of 50 requests does not fit into four cores
        ([qps(3, 0.51, 0.1)], None),
        ([], None),
    ],
)
def test_cores_are_computed_from_what_was_reached_within_the_limit(rows, cores):
    assert cores_for(rows, cores=2) == cores


@given(st.integers(1, 7), st.integers(0, 20))
def test_every_side_has_its_turn_in_every_order(count, by):
    names = [str(number) for number in range(count)]
    assert sorted(rotated(names, by)) == names
    assert next(rotated(names, by)) == names[by % count]


def test_prompts_have_their_length_and_none_comes_twice(tiny_tokenizer):
    words = Path(__file__).read_text().split()
    chosen = random.Random(0)
    texts = [" ".join(chosen.choices(words, k=200)) for _ in range(20)]
    prompts = Prompts(tiny_tokenizer, texts)
    taken = prompts.take(10, 32) + prompts.take(5, 64)
    assert [len(tiny_tokenizer.encode(prompt)) for prompt in taken] == [32] * 10 + [64] * 5
    assert len(set(taken)) == 15
    with pytest.raises(ValueError, match="used up"):
        prompts.take(10_000, 32)


def test_each_server_is_asked_in_its_own_words():
    plain = Target("h", 1).load(CELL)
    assert plain.bodies[0] == {
        "model": "smollm2",
        "prompt": "a",
        "max_tokens": 4,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chat = Target("h", 1, "/v1/chat/completions", extra={"stream": False}).load(CELL)
    assert chat.bodies[1]["messages"] == [{"role": "user", "content": "b"}]
    assert chat.bodies[1]["stream"] is False
    query = Target("h", 1, "/generate", in_query=True).load(Cell(1, 8, 4, ("a&b c",)))
    assert query.paths == ["/generate?max_tokens=4&prompt=a%26b%20c"]


@pytest.mark.heavy
def test_a_meter_sees_the_work_and_memory_of_what_a_process_started():
    import subprocess
    import sys

    work = "import time\nheld = bytearray(60_000_000)\nend = time.time() + 4\nwhile time.time() < end: pass\n"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    process = subprocess.Popen([sys.executable, "-c", code])
    with Meter(ProcessTree(process.pid)) as meter:
        process.wait(30)
    assert meter.peak_bytes > 60_000_000
