"""Asks a gateway through LiteLLM, in LiteLLM's own environment; prints what came of each scene as JSON.

Arguments: the base URL, the key, the scenes.
"""

import asyncio
import json
import sys
import time
from typing import Literal

import litellm
import openai
from pydantic import BaseModel

BASE_URL, KEY, *SCENES = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "Weather in 日本?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Weather(BaseModel):
    """What the weather is."""

    sky: Literal["sunny", "cloudy"]
    warm: bool


def options(model: str = "tiny", **changes) -> dict:
    values = {"model": f"openai/{model}", "messages": MESSAGES, "api_base": BASE_URL, "api_key": KEY}
    return values | {"temperature": 0, "max_tokens": 24, "num_retries": 0} | changes


def completion() -> dict:
    answer = litellm.completion(**options())
    (choice,) = answer.choices
    return {
        "text": choice.message.content,
        "finish_reason": choice.finish_reason,
        "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens],
        "model": answer.model,
    }


def stream() -> dict:
    chunks = list(litellm.completion(**options(), stream=True, stream_options={"include_usage": True}))
    rebuilt = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    return {
        "num_chunks": len(chunks),
        "text": rebuilt.choices[0].message.content,
        "usage": [rebuilt.usage.prompt_tokens, rebuilt.usage.completion_tokens, rebuilt.usage.total_tokens],
    }


def asynchronous() -> dict:
    async def ask() -> dict:
        whole = await litellm.acompletion(**options())
        chunks = [chunk async for chunk in await litellm.acompletion(**options(), stream=True)]
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return {"whole": whole.choices[0].message.content, "streamed": streamed}

    return asyncio.run(ask())


def text_completion() -> str:
    asked = options() | {"prompt": "The weather", "model": "text-completion-openai/tiny"}
    del asked["messages"]
    return litellm.text_completion(**asked).choices[0].text


def logprobs() -> list:
    answer = litellm.completion(**options(logprobs=True, top_logprobs=2))
    return [[entry.token, entry.logprob] for entry in answer.choices[0].logprobs.content]


def response_format() -> dict:
    answer = litellm.completion(**options(response_format=Weather, max_tokens=60))
    return Weather.model_validate_json(answer.choices[0].message.content).model_dump()


def tools() -> dict:
    asked = options("caller", tools=[TOOL], max_tokens=200)
    message = litellm.completion(**asked).choices[0].message
    (call,) = message.tool_calls
    answered = [*MESSAGES, message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    then = litellm.completion(**asked | {"messages": answered}).choices[0].message
    return {
        "call": [call.function.name, json.loads(call.function.arguments)],
        "text": message.content,
        "then": then.content,
    }


def tools_streamed() -> dict:
    chunks = list(litellm.completion(**options("caller", tools=[TOOL], max_tokens=200), stream=True))
    message = litellm.stream_chunk_builder(chunks).choices[0].message
    return {
        "calls": [[c.function.name, json.loads(c.function.arguments)] for c in message.tool_calls],
        "text": message.content,
    }


def forced_tool() -> list[str]:
    choice = {"type": "function", "function": {"name": "weather"}}
    asked = options("tools", tools=[TOOL], tool_choice=choice, max_tokens=200)
    return [call.function.name for call in litellm.completion(**asked).choices[0].message.tool_calls]


def embedding() -> dict:
    made = litellm.embedding("openai/tiny", ["One text", "Another one"], api_base=BASE_URL, api_key=KEY)
    floats = litellm.embedding(
        "openai/tiny", "One text", api_base=BASE_URL, api_key=KEY, encoding_format="float"
    )
    return {
        "vectors": [entry["embedding"] for entry in made.data],
        "floats": floats.data[0]["embedding"],
        "prompt_tokens": made.usage.prompt_tokens,
    }


def refusals() -> dict:
    long = [{"role": "user", "content": "Weather in 日本? " * 300}]
    asked = {
        "key": options(api_key="sk-none"),
        "model": options("nothing"),
        "context": options(messages=long),
        "value": options(temperature=3),
        "filter": options("guarded"),
        "embedding": {
            "model": "openai/tiny",
            "input": "Weather? " * 300,
            "api_base": BASE_URL,
            "api_key": KEY,
        },
    }
    return {name: refused(values) for name, values in asked.items()}


def limited() -> dict:
    litellm.completion(**options())
    return refused(options())


def refused(values: dict) -> dict:
    ask = litellm.completion if "messages" in values else litellm.embedding
    try:
        ask(**values)
    except openai.OpenAIError as error:
        headers = getattr(getattr(error, "response", None), "headers", {})
        return {
            "kinds": [base.__name__ for base in type(error).__mro__],
            "status": getattr(error, "status_code", None),
            "retry_after": headers.get("retry-after"),
        }
    return {}


def router() -> dict:
    values = options()
    parameters = {name: values[name] for name in ("model", "api_base", "api_key")}
    routes = [{"model_name": "ours", "litellm_params": parameters}]
    began = time.monotonic()
    answer = litellm.Router(model_list=routes, num_retries=2).completion(
        "ours", MESSAGES, temperature=0, max_tokens=24
    )
    return {"text": answer.choices[0].message.content, "seconds": time.monotonic() - began}


print(json.dumps({scene: globals()[scene]() for scene in SCENES}))
