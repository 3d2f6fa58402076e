"""Clients that stand in no environment of ours: a script for each, run by an interpreter of its own."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.peers import Peer, python_of
from tests.serving.in_process import FixedModels
from tests.serving.over_http import listening
from tests.serving.scripted import HERMES_TEMPLATE, ScriptedEngine, served_by, with_template

from heliostat.serving.access.config import AccessConfig, Limits
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.serving.guard.config import GuardConfig, WordsRule
from heliostat.serving.guard.guard import Guard
from heliostat.storage import Storage

LANGCHAIN = Peer(
    "langchain",
    ("langchain-openai==1.7.4", "langchain-core==1.8.3", "openai==3.57.0"),
    ("langchain-openai", "openai"),
)
LITELLM = Peer("litellm", ("litellm==1.110.2", "openai==3.57.0"), ("litellm", "openai"))
CALL = 'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "日本"}}\n</tool_call>'
CALLED_AND_ANSWERED = {"call": ["weather", {"city": "日本"}], "text": "I look.", "then": "It is sunny."}
CALLED_IN_A_STREAM = {"calls": [["weather", {"city": "日本"}]], "text": "I look."}
"""What every client makes of `CALL`, whole and streamed."""
NO_WEATHER = WordsRule(id="weather", on="input", action="block", words=("weather",))
SCRIPT_SECONDS = 120


class Endpoint:
    """A gateway that listens, with keys and limits. Its models: `tiny`, the real one; `tools`, the same with
    a template that shows tools; `caller`, which calls a tool and then reads its answer; `json`, which says
    an object; `guarded`, which must not be asked of the weather."""

    def __init__(self, folder: Path, model: ServedModel) -> None:
        storage = Storage.at(folder)
        self._keys = KeyStore(storage)
        self.key = self.key_with()
        self.services = Services(Doormen.of(AccessConfig(), loopback_only=True, storage=storage))
        tokenizer = with_template(model.tokenizer, HERMES_TEMPLATE)
        models = FixedModels(
            replace(model, id="tiny"),
            replace(model, id="tools", tokenizer=tokenizer),
            served_by(ScriptedEngine(tokenizer, [CALL, "It is sunny."]), id="caller"),
            served_by(ScriptedEngine(tokenizer, ['{"sky": "sunny", "warm": true}']), id="json"),
            replace(model, id="guarded"),
            guards={"guarded": Guard.build(GuardConfig(rules=(NO_WEATHER,)))},
        )
        self.application = build_gateway(models, services=self.services)
        self.base_url = ""

    def key_with(self, **limits: int) -> str:
        """A new key of these limits."""
        scope = KeyScope(name="client", tenant="acme", limits=Limits(**limits))
        return self._keys.create(scope)[0]

    async def run(self, peer: Peer, script: str, scenes: Sequence[str], key: str | None = None) -> dict:
        """What a client's script says of each scene."""
        python = await asyncio.to_thread(python_of, peer)
        self.services.doormen.access.refresh()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        process = await asyncio.create_subprocess_exec(
            python,
            "-P",
            Path(__file__).with_name(script),
            self.base_url,
            key or self.key,
            *scenes,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean | {"LITELLM_LOCAL_MODEL_COST_MAP": "true"},  # else it is fetched from afar
        )
        try:
            said, errors = await asyncio.wait_for(process.communicate(), SCRIPT_SECONDS)
        except TimeoutError:
            process.kill()
            raise
        assert process.returncode == 0, errors.decode()
        return json.loads(said.splitlines()[-1])  # LiteLLM prints advice in front


@asynccontextmanager
async def endpoint_at(folder: Path, model: ServedModel) -> AsyncIterator[Endpoint]:
    """An endpoint on a port of its own."""
    endpoint = Endpoint(folder, model)
    async with listening(endpoint.application) as port:
        endpoint.base_url = f"http://127.0.0.1:{port}/v1"
        yield endpoint
    endpoint.services.doormen.audit.close()
