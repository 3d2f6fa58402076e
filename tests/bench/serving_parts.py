"""The parts about ourselves: the gateway alone, the cache, the filters, and requests a second."""

import time
from collections.abc import Sequence
from typing import Any

from tests.bench.serving_bars import OURS, percentile
from tests.bench.serving_echo import serve_echo
from tests.bench.serving_engines import Bench, attempted, figures_of
from tests.bench.serving_load import Load, Sample
from tests.bench.serving_processes import SideFailed
from tests.bench.serving_sides import Cell, HttpSide, send, serve_ours

CACHE_HEADER = "x-cache"
"""Its value begins with "exact" or "semantic" where an answer comes from the cache."""
ECHO_GATEWAYS = 2
ECHO_STREAMS = 4
ECHO_REQUESTS = 1000
EXACT_REQUESTS = 200
QPS_STREAMS = (1, 2, 4, 8, 16, 32)
QPS_PROMPT_TOKENS, QPS_MAX_TOKENS = 32, 16
GUARD_TEXTS, GUARD_TOKENS = 40, 1000
SAME_IN_OTHER_WORDS = (
    ("How do I reset my password?", "How can I reset my password?"),
    ("What is the capital of France?", "Tell me what the capital of France is."),
    ("How do I open a file in Python?", "How can I open a file in Python?"),
    ("What are your opening hours?", "What opening hours do you have?"),
    ("How do I cancel my subscription?", "How can I cancel my subscription?"),
    ("What does a compiler do?", "Tell me what a compiler does."),
    ("How do I sort a list in Python?", "How can I sort a list in Python?"),
    ("Where can I find my invoice?", "Where do I find my invoice?"),
    ("How do I install the app?", "How can I install the app?"),
    ("What is a binary search tree?", "Please tell me what a binary search tree is."),
)


def measure_gateway(bench: Bench, repeats: int) -> None:
    """Requests a second through everything but an engine, whole answers and streams; a gateway a core."""
    rows = []
    with attempted(bench, "echo"), serve_echo(bench.models, bench.log("echo"), ECHO_GATEWAYS) as side:
        bench.warm_up(side)
        time.sleep(10)  # the second gateway comes up behind the first
        bench.warm_up(side)
        for repeat in range(repeats):
            for stream in (False, True):
                asking = side.with_extra({} if stream else {"stream": False, "stream_options": None})
                prompts = tuple(bench.prompts.take(ECHO_REQUESTS, 32))
                row = figures_of(asking.run(Cell(ECHO_STREAMS, 32, QPS_MAX_TOKENS, prompts)))
                row |= {"part": "gateway", "side": "streamed" if stream else "whole", "repeat": repeat}
                row |= {"streams": ECHO_STREAMS, "prompt_tokens": 32}
                rows.append(row)
    bench.rows += rows
    whole = [row for row in rows if row["side"] == "whole"]
    if whole:
        slowest = min(whole, key=lambda row: row["requests_per_second"])
        times = [seconds for row in whole for seconds in row["whole_seconds"]]
        bars = {"echo_rate": slowest["requests_per_second"], "echo_p99": 1000 * percentile(times, 0.99)}
        bench.rows.append({"part": "gateway", "side": "bars", "bars": bars})


def measure_cache(bench: Bench, repeats: int) -> None:
    """How fast an answer is that the cache has."""
    exact: list[float] = []
    semantic: list[float] = []
    with attempted(bench, "echo"), serve_echo(bench.models, bench.log("echo")) as side:
        bench.warm_up(side)
        for repeat in range(repeats):
            (prompt,) = bench.prompts.take(1, 128)
            samples = _asked(side, [prompt] * (EXACT_REQUESTS + 1), f"Repeat {repeat}.")
            exact += _hits(samples[1:], "exact")
            _asked(side, [question for question, _ in SAME_IN_OTHER_WORDS], f"Repeat {repeat}.")
            again = _asked(side, [other for _, other in SAME_IN_OTHER_WORDS], f"Repeat {repeat}.")
            semantic += _hits(again, "semantic")
        if len(exact) < repeats * EXACT_REQUESTS:
            raise SideFailed(f"{len(exact)} of {repeats * EXACT_REQUESTS} repeated questions were exact hits")
        if len(semantic) < 2 * repeats:  # most such vectors stay below 0.95
            raise SideFailed(f"only {len(semantic)} questions in other words were semantic hits")
    for name, times in (("exact", exact), ("semantic", semantic)):
        if times:
            row = {"part": "cache", "side": name, "hits": len(times), "whole_seconds": times}
            bench.rows.append(row | {"bars": {f"{name}_p50": 1000 * percentile(times, 0.5)}})


def _asked(side: HttpSide, prompts: Sequence[str], system: str) -> list[Sample]:
    """One after the other, so that a time is that of one request. A system prompt has a cache of its own."""
    target = side.target
    asked = {"model": target.model, "max_tokens": 16, "temperature": 0, **target.extra}
    bodies: list[dict[str, Any] | None] = [
        {**asked, "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}]}
        for prompt in prompts
    ]
    samples = send(Load(target.host, target.port, [target.path], bodies, 1, target.headers, CACHE_HEADER))
    if error := next((sample.error for sample in samples if sample.error), ""):
        raise SideFailed(f"a request failed: {error}")
    return samples


def _hits(samples: Sequence[Sample], kind: str) -> list[float]:
    return [sample.ended - sample.sent for sample in samples if sample.noted.startswith(kind)]


def measure_guard(bench: Bench, repeats: int) -> None:
    """What the default rules cost: a request of 1,000 tokens, and a token of an answer."""
    from heliostat.serving.guard.config import GuardConfig
    from heliostat.serving.guard.guard import Guard

    guard = Guard.build(GuardConfig())
    per_request, per_chunk = [], []
    for _ in range(repeats):
        texts = bench.prompts.take(GUARD_TEXTS, GUARD_TOKENS)
        guard.review_input(texts[:2])  # compiled tables are made on first use
        started = time.perf_counter()
        for text in texts:
            guard.review_input([text])
        per_request.append(1000 * (time.perf_counter() - started) / len(texts) * 1000 / GUARD_TOKENS)
        num_chunks, spent = 0, 0.0
        for text in texts:
            chunks = [text[at : at + 4] for at in range(0, len(text), 4)]  # a token is some four characters
            output = guard.output()
            started = time.perf_counter()
            for chunk in chunks:
                output.push(chunk)
            output.flush()
            spent += time.perf_counter() - started
            num_chunks += len(chunks)
        per_chunk.append(1000 * spent / num_chunks)
    bars = {"guard_input": percentile(per_request, 0.5), "guard_chunk": percentile(per_chunk, 0.5)}
    bench.rows.append({"part": "guard", "side": OURS, "bars": bars})


def measure_qps(bench: Bench) -> None:
    """Short answers at rising concurrency: requests a second, p99, and what one costs."""
    with attempted(bench, OURS), serve_ours(bench.models, max(QPS_STREAMS), bench.log(OURS)) as running:
        bench.warm_up(running)
        for streams in QPS_STREAMS:
            count = max(64, 4 * streams)
            prompts = tuple(bench.prompts.take(count, QPS_PROMPT_TOKENS))
            cell = Cell(streams, QPS_PROMPT_TOKENS, QPS_MAX_TOKENS, prompts)
            bench.measure(running, {"part": "qps", "side": OURS, "repeat": 0}, cell)
