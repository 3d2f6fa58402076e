"""An engine in a child process, seen by its parent: what it says, refuses, breaks and leaves behind."""

import asyncio
import sys
from contextlib import suppress

import psutil
import pytest
from tests.serving.asking import collect, collect_all

from heliostat.errors import ServingError
from heliostat.serving.engines.child import ChildEngine
from heliostat.serving.engines.interface import Capabilities, SamplingParameters, TokenLogprob

pytestmark = pytest.mark.anyio
GREEDY = SamplingParameters(max_tokens=12, temperature=0)
CHILD = """
import json, os, socket, subprocess, sys
lines = socket.socket(fileno=int(sys.argv[1])).makefile("rw")
def say(**what): lines.write(json.dumps(what) + "\\n"); lines.flush()
say(ready=True, max_context_tokens=33)
for line in lines:
    asked = json.loads(line)
    if "load" in asked:
        say(reply=asked["reply"], error="no such folder" if asked["folder"] == "bad" else None)
    elif "add" in asked:
        what = asked["prompt_ids"][0]
        if what == 0: os._exit(3)
        if what == 1: lines.write("nonsense\\n"); lines.flush()
        if what == 2: say(refused=[asked["add"], "too long"])
        if what == 3:
            tokens = [[asked["add"], [7, 8], "length", [[-0.5, [[7, -0.5]]], [-1.5, []]]]]
            say(step=1, tokens=tokens, kv_cache_usage=0.25)
        if what == 5:
            other = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
            say(step=1, tokens=[[asked["add"], [other.pid], None, []]], kv_cache_usage=0)
            os._exit(3)
"""


@pytest.fixture
async def child(tmp_path):
    """A process that speaks the engines' language, whatever it is asked."""
    (tmp_path / "child.py").write_text(CHILD)
    engine = ChildEngine(Capabilities(), 10, 60)
    await engine.connect([sys.executable, str(tmp_path / "child.py"), "folder", "{}"], {}, "no")
    yield engine
    await engine.close()


async def test_a_child_says_how_long_a_context_it_takes(child):
    assert child.max_context_tokens == 33


async def test_tokens_come_with_their_logprobs_and_the_engines_state(child):
    ids, reason, logprobs = await collect_all(child, [3], GREEDY)
    assert (ids, reason) == ([7, 8], "length")
    assert logprobs == [TokenLogprob(-0.5, ((7, -0.5),)), TokenLogprob(-1.5)]
    assert (child.stats().kv_cache_usage, child.stats().num_generated_tokens) == (0.25, 2)


async def test_a_refusal_ends_one_request_and_no_more(child):
    with pytest.raises(ServingError, match="refused the request: too long"):
        await collect(child, [2], GREEDY)
    assert await collect(child, [3], GREEDY)


async def test_a_child_that_ends_takes_its_requests_along(child):
    waiting = asyncio.create_task(collect(child, [4], GREEDY))
    await asyncio.sleep(0.05)
    with pytest.raises(ServingError, match="process ended with code 3"):
        await collect(child, [0], GREEDY)
    with pytest.raises(ServingError, match="process ended with code 3"):
        await waiting
    with pytest.raises(ServingError, match="process ended with code 3"):
        await child.load_adapter("late", "good")


async def test_what_a_child_started_ends_with_it(child):
    deltas = child.generate([5], GREEDY, "starting")
    (started,) = (await anext(deltas)).token_ids
    with pytest.raises(ServingError, match="process ended with code 3"):
        await anext(deltas)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(started).wait(10)
    assert not psutil.pid_exists(started)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_nonsense_of_a_child_fails_its_requests_and_leaves_none_waiting(child):
    with pytest.raises(ServingError, match="not understood"):
        await asyncio.wait_for(collect(child, [1], GREEDY), 10)
    with pytest.raises(ServingError, match="not understood"):
        await child.check_health()


async def test_an_adapter_that_does_not_load_is_an_error_and_the_engine_goes_on(child):
    await child.load_adapter("one", "good")
    with pytest.raises(ServingError, match="no such folder"):
        await child.load_adapter("two", "bad")
    await child.unload_adapter("one")
    assert await collect(child, [3], GREEDY)
