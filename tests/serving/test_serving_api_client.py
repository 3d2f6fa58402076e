"""OpenAI's own client against the API: what it sends is understood, and what it receives it can read."""

import httpx
import openai
import pytest
from tests.serving.in_process import FixedModels
from tests.serving.scripted import HERMES_TEMPLATE, ScriptedEngine, prose_tokenizer, served_by, with_template

from heliostat.serving.gateway.app import build_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]
MESSAGES = [{"role": "user", "content": "Weather in 日本?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = 'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "日本"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return with_template(prose_tokenizer(tmp_path_factory.mktemp("prose")), HERMES_TEMPLATE)


@pytest.fixture
async def ask(tokenizer):
    """A function that has OpenAI's client ask an engine with the given script."""
    clients = []

    def asker(*scripts):
        gateway = build_gateway(FixedModels(served_by(ScriptedEngine(tokenizer, list(scripts)))))
        http = httpx.AsyncClient(transport=httpx.ASGITransport(gateway))
        client = openai.AsyncOpenAI(
            api_key="none", base_url="http://localhost/v1", http_client=http, max_retries=0
        )
        clients.append(client)
        return client.chat.completions

    yield asker
    for client in clients:
        await client.close()


async def test_a_conversation_with_tools_goes_through_to_its_end(ask):
    chat = ask(CALL, "It is sunny.")
    first = await chat.create(model="tiny", messages=MESSAGES, tools=[TOOL])
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "日本"}')
    answered = [
        *MESSAGES,
        first.choices[0].message,  # as it came
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    second = await chat.create(model="tiny", messages=answered, tools=[TOOL])
    assert second.choices[0].message.content == "It is sunny."


async def test_the_clients_own_stream_puts_calls_together(ask):
    async with ask(CALL).stream(model="tiny", messages=MESSAGES, tools=[TOOL]) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert call.function.arguments == '{"city": "日本"}'
    assert final.choices[0].message.content == "I look."


async def test_usage_logprobs_and_choices_reach_the_client(ask):
    stream = await ask("One", "Two").create(
        model="tiny",
        messages=MESSAGES,
        n=2,
        logprobs=True,
        top_logprobs=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage.completion_tokens > 2
    spelled = {0: b"", 1: b""}
    for chunk in chunks:
        for choice in chunk.choices:
            for entry in (choice.logprobs.content if choice.logprobs else None) or ():
                spelled[choice.index] += bytes(entry.bytes)
    assert spelled == {0: b"One", 1: b"Two"}


async def test_a_schema_of_the_clients_is_understood(ask):
    import pydantic

    class Person(pydantic.BaseModel):
        name: str

    made = await ask('{"name": "Ada"}').parse(model="tiny", messages=MESSAGES, response_format=Person)
    assert made.choices[0].message.parsed == Person(name="Ada")


async def test_a_refusal_is_the_clients_error(ask):
    with pytest.raises(openai.BadRequestError) as caught:
        await ask("Hi").create(model="tiny", messages=MESSAGES, temperature=3)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "temperature")
