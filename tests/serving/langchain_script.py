"""Asks a gateway through LangChain, in LangChain's own environment; prints what came of each scene as JSON.

Arguments: the base URL, the key, the scenes.
"""

import asyncio
import json
import sys
from typing import Literal

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

BASE_URL, KEY, *SCENES = sys.argv[1:]
QUESTION = "Weather in 日本?"


class Weather(BaseModel):
    """What the weather is."""

    sky: Literal["sunny", "cloudy"]
    warm: bool


@tool
def weather(city: Literal["日本", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def chat(model: str = "tiny", **options) -> ChatOpenAI:
    return ChatOpenAI(
        **{"model": model, "base_url": BASE_URL, "api_key": KEY, "temperature": 0, "max_retries": 0}
        | {"max_tokens": 24}
        | options
    )


def invoke() -> dict:
    answer = chat().invoke(QUESTION)
    return {
        "text": answer.content,
        "usage": answer.usage_metadata,
        "finish_reason": answer.response_metadata["finish_reason"],
        "model": answer.response_metadata["model_name"],
    }


def stream() -> dict:
    chunks = list(chat(stream_usage=True).stream(QUESTION))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return {"texts": [chunk.content for chunk in chunks], "usage": whole.usage_metadata}


def batch() -> list[str]:
    return [answer.content for answer in chat().batch([QUESTION, "And there?", QUESTION])]


def asynchronous() -> dict:
    async def ask() -> dict:
        client = chat()
        whole = await client.ainvoke(QUESTION)
        streamed = [chunk.content async for chunk in client.astream(QUESTION)]
        return {"whole": whole.content, "streamed": "".join(streamed)}

    return asyncio.run(ask())


def logprobs() -> dict:
    answer = chat(logprobs=True, top_logprobs=2).invoke(QUESTION)
    return {"text": answer.content, "entries": answer.response_metadata["logprobs"]["content"]}


def json_schema() -> dict:
    return (
        chat(max_tokens=60)
        .with_structured_output(Weather, method="json_schema")
        .invoke(QUESTION)
        .model_dump()
    )


def json_schema_streamed() -> dict:
    streamed = chat(max_tokens=60).with_structured_output(Weather, method="json_schema").stream(QUESTION)
    return list(streamed)[-1].model_dump()


def json_mode() -> dict:
    asked = chat("json", max_tokens=60).with_structured_output(Weather, method="json_mode")
    return asked.invoke(f"{QUESTION} Answer in JSON.").model_dump()


def function_calling() -> dict:
    return (
        chat("tools", max_tokens=60)
        .with_structured_output(Weather, method="function_calling")
        .invoke(QUESTION)
        .model_dump()
    )


def forced_tool() -> dict:
    bound = chat("tools", max_tokens=60).bind_tools([weather], tool_choice="any")
    return {"names": [call["name"] for call in bound.invoke(QUESTION).tool_calls]}


def tools() -> dict:
    bound = chat("caller", max_tokens=200).bind_tools([weather])
    messages = [HumanMessage(QUESTION)]
    asked = bound.invoke(messages)
    (call,) = asked.tool_calls
    messages += [asked, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    return {
        "call": [call["name"], call["args"]],
        "text": asked.content,
        "then": bound.invoke(messages).content,
    }


def tools_streamed() -> dict:
    bound = chat("caller", max_tokens=200).bind_tools([weather])
    chunks = list(bound.stream(QUESTION))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return {"calls": [[call["name"], call["args"]] for call in whole.tool_calls], "text": whole.content}


def embeddings() -> dict:
    # Left alone, LangChain sends ids of OpenAI's vocabulary, which mean something else to every other model.
    client = OpenAIEmbeddings(model="tiny", base_url=BASE_URL, api_key=KEY, check_embedding_ctx_length=False)
    return {
        "documents": client.embed_documents(["One text", "Another one"]),
        "query": client.embed_query("One text"),
    }


def refusals() -> dict:
    asked = {
        "key": lambda: chat(api_key="sk-none").invoke(QUESTION),
        "model": lambda: chat("nothing").invoke(QUESTION),
        "context": lambda: chat().invoke(QUESTION * 300),
        "value": lambda: chat(temperature=3).invoke(QUESTION),
    }
    return {name: refused(ask) for name, ask in asked.items()}


def refused(ask) -> list[str]:
    try:
        ask()
    except openai.OpenAIError as error:
        return [base.__name__ for base in type(error).__mro__]
    return []


print(json.dumps({scene: globals()[scene]() for scene in SCENES}))
