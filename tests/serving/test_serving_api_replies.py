"""From an engine's tokens to what a client receives: whole answers and streams, in OpenAI's shapes."""

import asyncio
import json
from dataclasses import dataclass, replace

import pytest
from tests.serving.scripted import (
    HERMES_TEMPLATE,
    ScriptedEngine,
    events_of,
    prose_tokenizer,
    served_by,
    with_template,
)

from heliostat.errors import ServingError
from heliostat.serving.api import responses
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.api.event_stream import first_of
from heliostat.serving.api.interleave import interleave
from heliostat.serving.api.orders import prepare
from heliostat.serving.api.plain_answers import (
    detokenize_body,
    embedding_body,
    embedding_prompts,
    model_card,
    model_list,
    tokenize_body,
)
from heliostat.serving.api.reply import Reply, Transcript
from heliostat.serving.api.text_requests import (
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]
ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = "Grüße 🎉 日本, and so on."
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "日本"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return with_template(prose_tokenizer(tmp_path_factory.mktemp("prose")), HERMES_TEMPLATE)


def job_of(engine, prompt=None, **changes):
    """A chat job, or a completion job of a prompt."""
    model = served_by(engine)
    if prompt is None:
        return prepare(ChatCompletionRequest.parse(ASKED | changes), model)
    return prepare(CompletionRequest.parse({"model": "tiny", "prompt": prompt} | changes), model)


async def answered(engine, prompt=None, **changes) -> dict:
    """A whole answer, checked against its description."""
    reply = Reply(job_of(engine, prompt, **changes))
    body = json.loads(await reply.whole(reply.generate()))
    shape = responses.ChatCompletion if prompt is None else responses.Completion
    shape.model_validate(body, strict=True)
    return body


async def streamed(engine, prompt=None, **changes) -> list:
    """A stream's events, checked against their description."""
    reply = Reply(job_of(engine, prompt, stream=True, **changes))
    data = b"".join([event async for event in reply.events(*await first_of(reply.generate()))])
    events = events_of(data)
    shape = responses.ChatCompletionChunk if prompt is None else responses.Completion
    for event in events:
        if event != "[DONE]" and "error" not in event:
            shape.model_validate(event, strict=True)
    return events


def texts_of(events, count=1) -> list[str]:
    """The text of each choice of a stream."""
    texts = [""] * count
    for event in events:
        for choice in event["choices"] if isinstance(event, dict) and "choices" in event else ():
            texts[choice["index"]] += choice.get("text") or choice.get("delta", {}).get("content") or ""
    return texts


def reasons_of(events, count=1) -> list:
    reasons = [None] * count
    for event in events:
        for choice in event["choices"] if isinstance(event, dict) and "choices" in event else ():
            assert reasons[choice["index"]] is None  # nothing comes behind the finish reason
            reasons[choice["index"]] = choice["finish_reason"]
    return reasons


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_stream_and_a_whole_answer_say_the_same(tokenizer, size):
    for prompt in (None, "Say"):
        engine = ScriptedEngine(tokenizer, [TEXT], size)
        body = await answered(engine, prompt)
        choice = body["choices"][0]
        assert (choice.get("text") or choice["message"]["content"]) == TEXT
        assert choice["finish_reason"] == "stop"
        events = await streamed(engine, prompt, stream_options={"include_usage": True})
        assert (texts_of(events), reasons_of(events)) == ([TEXT], ["stop"])
        assert (events[-1], events[-2]["choices"], events[-2]["usage"]) == ("[DONE]", [], body["usage"])
        assert all("\ufffd" not in text for text in texts_of(events))


async def test_choices_of_a_stream_come_mixed_each_with_its_index(tokenizer):
    engine = ScriptedEngine(tokenizer, ["First one", "Second", ""])
    events = await streamed(engine, n=3, stream_options={"include_usage": True})
    assert texts_of(events, 3) == ["First one", "Second", ""]
    assert reasons_of(events, 3) == ["stop"] * 3
    roles = [choice["delta"].get("role") for event in events[:3] for choice in event["choices"]]
    assert roles == ["assistant"] * 3
    order = [choice["index"] for event in events[3:-2] for choice in event["choices"]]
    assert order != sorted(order)
    body = await answered(ScriptedEngine(tokenizer, ["First one", "Second", ""]), n=3)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["First one", "Second", ""]
    assert body["usage"] == events[-2]["usage"]
    assert body["usage"]["completion_tokens"] == 3 + sum(
        len(tokenizer.encode(text)) for text in ("First one", "Second")
    )


async def test_prompts_and_echoes_of_completions(tokenizer):
    engine = ScriptedEngine(tokenizer, [" one", " two"])
    body = await answered(engine, ["A", "B"], echo=True)
    assert [choice["text"] for choice in body["choices"]] == ["A one", "B two"]
    events = await streamed(ScriptedEngine(tokenizer, [" one", " two"]), ["A", "B"], echo=True)
    assert texts_of(events, 2) == ["A one", "B two"]


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("stop", ["日本", "so", ["xyz", " 🎉"]])
async def test_a_stop_string_cuts_and_counts_alike_however_tokens_come(tokenizer, size, stop):
    engine = ScriptedEngine(tokenizer, [TEXT], size)
    body = await answered(engine, stop=stop)
    cut = TEXT[: TEXT.find(stop if isinstance(stop, str) else stop[-1])]
    assert body["choices"][0]["message"]["content"] == cut
    assert body["choices"][0]["finish_reason"] == "stop"
    single = await answered(ScriptedEngine(tokenizer, [TEXT], 1), stop=stop)
    assert body["usage"] == single["usage"]
    assert body["usage"]["completion_tokens"] < len(tokenizer.encode(TEXT))


async def test_a_stop_string_frees_the_engine(tokenizer):
    engine = ScriptedEngine(tokenizer, [TEXT])
    await answered(engine, stop="日")
    assert engine.left == [engine.asked[0][2]]


async def test_a_stop_that_never_ends_is_text(tokenizer):
    body = await answered(ScriptedEngine(tokenizer, ["go STO"]), stop="STOP")
    assert body["choices"][0]["message"]["content"] == "go STO"


async def test_an_answer_cut_inside_a_character_ends_with_the_mark(tokenizer):
    count = len(tokenizer.encode("Grüße 🎉")) - 1
    body = await answered(ScriptedEngine(tokenizer, [TEXT]), max_tokens=count)
    assert body["choices"][0]["message"]["content"] == "Grüße \ufffd"
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_logprobs_spell_the_text_in_bytes(tokenizer, size):
    engine = ScriptedEngine(tokenizer, [TEXT], size)
    body = await answered(engine, logprobs=True, top_logprobs=2)
    content = body["choices"][0]["logprobs"]["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in content).decode() == TEXT
    assert {len(entry["top_logprobs"]) for entry in content} == {2}
    assert content[0]["logprob"] == content[0]["top_logprobs"][0]["logprob"] == -0.5
    events = await streamed(engine, logprobs=True, top_logprobs=2)
    parts = [event["choices"][0]["logprobs"] for event in events[:-1]]
    assert [entry for part in parts if part for entry in part["content"]] == content


async def test_logprobs_of_completions_say_where_each_token_begins(tokenizer):
    body = await answered(ScriptedEngine(tokenizer, [TEXT], 4), "Say", logprobs=1)
    found = body["choices"][0]["logprobs"]
    assert found["text_offset"][0] == 0
    assert found["text_offset"] == sorted(found["text_offset"])
    for token, begin in zip(found["tokens"], found["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert TEXT[begin:].startswith(token)


async def test_what_a_stop_string_cuts_off_has_no_logprobs(tokenizer):
    body = await answered(ScriptedEngine(tokenizer, ["one STOP two"], 1000), stop="STOP", logprobs=True)
    spelled = b"".join(bytes(entry["bytes"]) for entry in body["choices"][0]["logprobs"]["content"])
    assert spelled.decode().rstrip("S") == "one "


@dataclass
class Censor:
    """Holds back what may become a word, and blocks another."""

    held: str = ""
    blocked: str | None = None

    def push(self, text):
        self.held += text
        if "bomb" in self.held:
            self.blocked = "bomb"
            return ""
        self.held = self.held.replace("name", "[N]")
        keep = min(3, len(self.held))
        shown, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return shown

    def flush(self):
        return self.held


@pytest.mark.parametrize("size", [1, 1000])
async def test_an_output_filter_sees_all_text_before_the_client(tokenizer, size):
    reply = Reply(job_of(ScriptedEngine(tokenizer, ["my name is X"], size)))
    body = json.loads(await reply.whole(reply.generate(Censor)))
    assert body["choices"][0]["message"]["content"] == "my [N] is X"
    assert reply.blocked is None
    assert reply.transcripts[0] == Transcript("my [N] is X", body["usage"]["completion_tokens"], "stop")


async def test_a_blocked_answer_ends_there_and_frees_the_engine(tokenizer):
    engine = ScriptedEngine(tokenizer, ["take a bomb and run far away"])
    reply = Reply(job_of(engine, stream=True))
    data = [event async for event in reply.events(*await first_of(reply.generate(Censor)))]
    events = events_of(b"".join(data))
    assert "bomb" not in texts_of(events)[0]
    assert reasons_of(events) == ["content_filter"]
    assert (reply.blocked, engine.left) == ("bomb", [engine.asked[0][2]])


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_tool_calls_are_told_whole_and_in_a_stream(tokenizer, size):
    engine = ScriptedEngine(tokenizer, ["I look.\n" + CALL + CALL], size)
    choice = (await answered(engine, tools=[TOOL]))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    functions = [call["function"] for call in choice["message"]["tool_calls"]]
    assert functions == [{"name": "weather", "arguments": '{"city": "日本"}'}] * 2
    events = await streamed(engine, tools=[TOOL])
    calls: dict[int, str] = {}
    for event in events[:-1]:
        for piece in event["choices"][0]["delta"].get("tool_calls", ()):
            assert ("id" in piece) == (piece["index"] not in calls)
            calls[piece["index"]] = calls.get(piece["index"], "") + piece["function"]["arguments"]
    assert calls == {0: '{"city": "日本"}', 1: '{"city": "日本"}'}
    assert (texts_of(events), reasons_of(events)) == (["I look."], ["tool_calls"])


async def test_only_a_call_has_no_content(tokenizer):
    message = (await answered(ScriptedEngine(tokenizer, [CALL]), tools=[TOOL]))["choices"][0]["message"]
    assert message["content"] is None


async def test_without_tools_a_call_is_text(tokenizer):
    for changes in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        message = (await answered(ScriptedEngine(tokenizer, [CALL]), **changes))["choices"][0]["message"]
        assert (message["content"], "tool_calls" in message) == (CALL, False)


async def test_a_forced_call_is_read_from_the_grammars_json(tokenizer):
    engine = ScriptedEngine(tokenizer, ['[{"name": "weather", "arguments": {"city": "Rome"}}]'])
    choice = (await answered(engine, tools=[TOOL], tool_choice="required"))["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Rome"}'
    assert choice["finish_reason"] == "tool_calls"


async def test_special_tokens_that_mark_calls_are_read(tokenizer):
    template = HERMES_TEMPLATE.replace("<tool_call>", "[TOOL_CALLS]").replace("</tool_call>", "")
    mistral = with_template(tokenizer, template, special=["[TOOL_CALLS]"])
    engine = ScriptedEngine(mistral, ['[TOOL_CALLS][{"name": "weather", "arguments": {}}]'])
    (call,) = (await answered(engine, tools=[TOOL]))["choices"][0]["message"]["tool_calls"]
    assert len(call["id"]) == 9
    silent = await answered(engine)
    assert silent["choices"][0]["message"]["content"].startswith("[{")


async def test_a_known_answer_is_told_again_as_it_was(tokenizer):
    first = Reply(job_of(ScriptedEngine(tokenizer, [CALL]), tools=[TOOL]))
    body = json.loads(await first.whole(first.generate()))
    job = job_of(ScriptedEngine(tokenizer, ["other"]), tools=[TOOL])
    again = Reply(job)
    replayed = json.loads(await again.whole(again.replay(first.transcripts)))
    for told in (body, replayed):
        for call in told["choices"][0]["message"]["tool_calls"]:
            call["id"] = ""
    assert (replayed["choices"], replayed["usage"]) == (body["choices"], body["usage"])
    assert job.model.engine.asked == []


async def test_a_fault_in_a_stream_is_its_last_event(tokenizer):
    for fault in (ServingError("lost"), RefusedRequest("no", "policy", 403)):
        events = await streamed(ScriptedEngine(tokenizer, ["some text"], fault=fault))
        responses.ErrorBody.model_validate(events[-1], strict=True)
        assert "[DONE]" not in events


async def test_a_fault_before_the_first_token_is_raised(tokenizer):
    engine = ScriptedEngine(tokenizer, ["some text"], size=1000, fault=ServingError("lost"))
    for count in (1, 2):
        reply = Reply(job_of(engine, n=count, stream=True))
        with pytest.raises(ServingError, match="lost"):
            await first_of(reply.generate())


async def test_a_fault_of_one_choice_ends_the_others(tokenizer):
    engine = ScriptedEngine(tokenizer, ["a", "a much longer text"], fault=ServingError("lost"))
    reply = Reply(job_of(engine, n=2))
    with pytest.raises(ServingError, match="lost"):
        await reply.whole(reply.generate())
    assert engine.left == [f"{reply.id}-1"]


async def test_a_reader_that_leaves_ends_all_choices(tokenizer):
    engine = ScriptedEngine(tokenizer, [TEXT])
    reply = Reply(job_of(engine, n=3, stream=True))
    events = reply.events(*await first_of(reply.generate()))
    await anext(events)
    await anext(events)
    await events.aclose()
    assert sorted(engine.left) == [f"{reply.id}-{choice}" for choice in range(3)]


async def test_no_stream_is_read_ahead_of_its_reader():
    read = []

    async def source(name):
        for number in range(100):
            read.append(name)
            yield number

    mixed = interleave([source("a"), source("b")])
    for _ in range(4):
        await anext(mixed)
        await asyncio.sleep(0.001)
    assert len(read) <= 6
    await mixed.aclose()
    assert [item async for item in interleave([])] == []


async def test_a_fingerprint_names_what_answers(tokenizer):
    job = job_of(ScriptedEngine(tokenizer, ["Hi"]))
    reply = Reply(replace(job, model=replace(job.model, fingerprint="fp1")))
    body = json.loads(await reply.whole(reply.generate()))
    assert responses.ChatCompletion.model_validate(body).system_fingerprint == "fp1"


def test_vectors_are_numbers_or_little_endian_floats(tokenizer):
    import base64

    import numpy as np

    model = served_by(ScriptedEngine(tokenizer, []))
    bodies = {}
    for form in ("float", "base64"):
        asked = EmbeddingRequest.parse({"model": "tiny", "input": ["a", "b"], "encoding_format": form})
        prompts = embedding_prompts(asked, model)
        body = json.loads(embedding_body(asked, model, prompts, [[0.6, 0.8], [1.0, 0.0]]))
        responses.EmbeddingList.model_validate(body, strict=True)
        bodies[form] = [entry["embedding"] for entry in body["data"]]
    decoded = np.frombuffer(base64.b64decode(bodies["base64"][0]), "<f4")
    assert decoded == pytest.approx(bodies["float"][0])
    asked = EmbeddingRequest.parse({"model": "tiny", "input": "a", "dimensions": 1})
    with pytest.raises(RefusedRequest, match="vectors have 2"):
        embedding_body(asked, model, [[1]], [[0.6, 0.8]])


def test_text_and_conversations_are_tokenized_and_back(tokenizer):
    model = served_by(ScriptedEngine(tokenizer, []))
    asked = TokenizeRequest.parse({"model": "tiny", "prompt": TEXT, "return_token_strs": True})
    tokens = json.loads(tokenize_body(asked, model))
    responses.Tokens.model_validate(tokens, strict=True)
    assert tokens["count"] == len(tokens["tokens"]) == len(tokens["token_strs"])
    assert tokens["max_model_len"] == 2000
    back = DetokenizeRequest.parse({"model": "tiny", "tokens": tokens["tokens"]})
    assert json.loads(detokenize_body(back, model)) == {"prompt": TEXT}
    said = TokenizeRequest.parse(ASKED | {"tools": [TOOL]})
    job = job_of(ScriptedEngine(tokenizer, ["Hi"]), tools=[TOOL])
    assert json.loads(tokenize_body(said, model))["tokens"] == job.orders[0].prompt_ids
    with pytest.raises(RefusedRequest, match="beyond"):
        detokenize_body(DetokenizeRequest.parse({"model": "tiny", "tokens": [10**6]}), model)


def test_models_have_cards(tokenizer):
    model = served_by(ScriptedEngine(tokenizer, []))
    responses.ModelCard.model_validate(model_card(model), strict=True)
    responses.ModelList.model_validate(model_list([model]), strict=True)
