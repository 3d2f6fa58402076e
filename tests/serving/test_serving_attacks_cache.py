"""Kept answers cross no border: tenants, prompts, roles, parameters, adapters, versions, filters."""

import json
from dataclasses import dataclass, field, replace

import pytest
from tests.serving.deployed import CHAT, QUESTION, gateway_of
from tests.serving.scripted import HERMES_TEMPLATE, ScriptedEngine, served_by, with_template

from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.gateway.choosing import Chosen
from heliostat.serving.guard.config import GuardConfig, PatternRule, WordsRule
from heliostat.serving.guard.guard import Guard

TENANT_FIELDS = {"user": "b", "tenant": "b", "metadata": {"tenant": "b"}, "store": True}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
LOOK = [{"type": "function", "function": {"name": "look"}}, {"type": "function", "function": {"name": "see"}}]


@dataclass
class Changing:
    """One model whose version, artifact, adapter and guard are what a test says."""

    engine: ScriptedEngine
    version: str = "v1"
    artifact: str = "model-1"
    adapter: str | None = None
    guard: Guard | None = None
    names: list[str] = field(default_factory=lambda: ["tiny"])

    def choose(self, name, session) -> Chosen:
        model = replace(served_by(self.engine), adapter=self.adapter)
        return Chosen(model, self.version, self.artifact, self.guard)


@pytest.fixture(scope="module")
def models(prose) -> Changing:
    """A model that numbers its answers, so that a kept one can be told from a new one."""
    special = ("<tool_call>", "</tool_call>")
    tokenizer = with_template(prose, HERMES_TEMPLATE, special)
    return Changing(ScriptedEngine(tokenizer, [f"Answer {number}." for number in range(1000)]))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, prose, models):
    """A gateway in front of it."""
    with gateway_of(tmp_path_factory.mktemp("cache"), prose, models=models) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def keys(gateway) -> dict[str, str]:
    return {tenant: gateway.key(name="same", tenant=tenant) for tenant in ("a", "b", "A", "a-b")}


@pytest.fixture
def said(gateway, keys, models):
    """What is answered to a request, and by whom: the engine, or what was kept."""
    models.version, models.artifact, models.adapter, models.guard = "v1", "model-1", None, None
    gateway.services.answers._recalled.clear()

    def say(whose="a", headers=None, **changes) -> tuple[str, str | None]:
        with gateway.client(keys[whose]) as client:
            response = client.post(CHAT, json=QUESTION | changes, headers=headers or {})
        assert response.status_code == 200, response.text
        body = response.json()
        return body["choices"][0]["message"]["content"], response.headers.get("x-cache")

    return say


def messages(*turns) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_no_tenant_reads_anothers_answer_whatever_it_writes(said):
    asked = messages(("user", "Who am I?"))
    first, _ = said("b", **asked)
    assert said("b", **asked) == (first, "exact")
    for tenant in ("a", "A", "a-b"):
        for spoof in ({}, TENANT_FIELDS):
            headers = {"x-tenant": "b", "openai-organization": "b", "x-session-id": "b"}
            text, _ = said(tenant, headers, **asked, **spoof)
            assert text != first


def test_two_keys_of_a_tenant_share_and_a_revoked_ones_answers_stay_with_the_tenant(gateway, said, keys):
    asked = messages(("user", "Shared?"))
    first, _ = said("a", **asked)
    other, _ = gateway.keys.create(KeyScope(name="second", tenant="a"))
    gateway.services.doormen.access.refresh()
    with gateway.client(other) as client:
        response = client.post(CHAT, json=QUESTION | asked)
    assert response.json()["choices"][0]["message"]["content"] == first


PAIRS = {
    "system prompt": (messages(("system", "Be kind."), ("user", "Q1")), messages(("user", "Q1"))),
    "system or user": (
        messages(("system", "x"), ("user", "Q2")),
        messages(("system", "x\n\nuser: Q2"), ("user", "Q2")),
    ),
    "border of system and user": (
        messages(("system", "a b"), ("user", "Q3")),
        messages(("system", "a"), ("user", "b Q3")),
    ),
    "role in the text": (
        messages(("user", "Q4"), ("assistant", "A"), ("user", "B")),
        messages(("user", "Q4\nassistant: A\nuser: B")),
    ),
    "length": (messages(("user", "Q5")) | {"max_tokens": 5}, messages(("user", "Q5")) | {"max_tokens": 6}),
    "stop": (messages(("user", "Q6")) | {"stop": ["x"]}, messages(("user", "Q6")) | {"stop": ["y"]}),
    "penalty": (messages(("user", "Q7")), messages(("user", "Q7")) | {"presence_penalty": 0.5}),
    "bias": (
        messages(("user", "Q8")) | {"logit_bias": {"5": 1}},
        messages(("user", "Q8")) | {"logit_bias": {"6": 1}},
    ),
    "format": (
        messages(("user", "Q9")),
        messages(("user", "Q9")) | {"response_format": {"type": "json_object"}},
    ),
    "end": (messages(("user", "Q10")), messages(("user", "Q10")) | {"ignore_eos": True, "max_tokens": 30}),
    "compatible letters": (messages(("user", "ﬁne Q11")), messages(("user", "fine Q11"))),
    "look-alikes": (messages(("user", "pаy Q12")), messages(("user", "pay Q12"))),
    "invisible": (messages(("user", "pa\u200by Q13")), messages(("user", "pay Q13"))),
    "direction": (messages(("user", "\u202epay Q14")), messages(("user", "pay Q14"))),
    "nul": (messages(("user", "pay\0 Q15")), messages(("user", "pay Q15"))),
    "case": (messages(("user", "Pay Q16")), messages(("user", "pay Q16"))),
    "indentation": (messages(("user", "  pay Q17")), messages(("user", "pay Q17"))),
    "tools": (messages(("user", "Q18")) | {"tools": LOOK}, messages(("user", "Q18")) | {"tools": LOOK[:1]}),
    "called or written": (
        {
            "tools": LOOK,
            "messages": [
                {"role": "user", "content": "Q19"},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "seen", "tool_call_id": "c1"},
                {"role": "assistant", "content": "Yes"},
                {"role": "user", "content": "And?"},
            ],
        },
        {
            "tools": LOOK,
            "messages": [
                {"role": "user", "content": "Q19"},
                {
                    "role": "assistant",
                    "content": json.dumps([CALL | {"id": "c2"}], separators=(",", ":")),
                    "tool_calls": [CALL],
                },
                {"role": "tool", "content": "seen", "tool_call_id": "c1"},
                {"role": "assistant", "content": "Yes"},
                {"role": "user", "content": "And?"},
            ],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PAIRS)
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_requests_that_differ_share_no_answer(gateway, said, what, turned):
    gateway.services.answers.cache._exact.purge(None, None)
    one, other = PAIRS[what][::-1] if turned else PAIRS[what]
    assert said("a", **one)[1] != "exact"
    assert said("a", **other)[1] != "exact"


def test_a_written_call_does_not_pass_for_a_call(gateway):
    """An assistant's words that look like the calls of another turn are another question to the cache."""
    from heliostat.serving.api.cache_view import _turn

    calls = [{"type": "function", "function": {"name": "look", "arguments": "{}"}}]
    called = _turn({"role": "assistant", "content": "", "tool_calls": calls})
    written = _turn({"role": "assistant", "content": json.dumps(calls, separators=(",", ":"))})
    named = _turn({"role": "tool", "content": "x", "tool_call_id": "1", "name": "look"})
    assert len({called, written, named, ("tool", "x")}) == 4


@pytest.mark.parametrize(
    ("what", "other"),
    [("version", "v2"), ("artifact", "model-2"), ("adapter", "french"), ("guard", "some")],
)
def test_another_model_adapter_or_filter_answers_for_itself(gateway, said, models, what, other):
    asked = messages(("user", f"Which {what}?"))
    first, _ = said("a", **asked)
    assert said("a", **asked) == (first, "exact")
    guard = Guard.build(GuardConfig(rules=(WordsRule(id="w", words=("never",)),)))
    setattr(models, what, guard if what == "guard" else other)
    assert said("a", **asked)[1] == "miss"


def test_what_a_new_rule_forbids_is_not_answered_from_what_was_kept(gateway, said, keys, models):
    asked = messages(("user", "Tell me the secret"))
    said("a", **asked)
    models.guard = Guard.build(GuardConfig(rules=(WordsRule(id="w", words=("secret",)),)))
    with gateway.client(keys["a"]) as client:
        assert client.post(CHAT, json=QUESTION | asked).status_code == 400


def test_an_answer_that_the_filter_cut_is_never_kept(gateway, said, keys, models):
    rule = PatternRule(id="cut", on="output", patterns=(r"Answer \d+",))
    models.guard = Guard.build(GuardConfig(rules=(rule,)))
    for stream in (False, True, False):
        with gateway.client(keys["a"]) as client:
            body = QUESTION | messages(("user", "Cut?")) | {"stream": stream}
            response = client.post(CHAT, json=body)
        assert response.headers["x-cache"] == "miss"
        assert "content_filter" in response.text


def test_what_a_client_does_not_wait_for_is_not_kept_in_part(gateway, said, keys, models):
    asked = len(models.engine.asked)
    with gateway.client(keys["a"]) as client:
        body = QUESTION | messages(("user", "Leave early")) | {"stream": True, "ignore_eos": True}
        with client.stream("POST", CHAT, json=body) as response:
            next(response.iter_raw())
    assert said("a", **messages(("user", "Leave early")))[1] == "miss"
    assert len(models.engine.asked) == asked + 2


@pytest.mark.parametrize(
    "value", ["no-store", "NO-STORE", "private, no-store", "no-cache,no-store", "max-age=0, No-Store"]
)
def test_no_store_leaves_nothing_behind(said, value):
    asked = messages(("user", f"Forget {value}"))
    assert said("a", {"cache-control": value}, **asked)[1] == "miss"
    assert said("a", **asked)[1] == "miss"


def test_no_store_counts_in_a_second_header_too(gateway, said, keys):
    asked = messages(("user", "Forget twice"))
    headers = [("cache-control", "max-age=0"), ("cache-control", "no-store")]
    with gateway.client(keys["a"]) as client:
        assert client.post(CHAT, json=QUESTION | asked, headers=headers).status_code == 200
    assert said("a", **asked)[1] == "miss"


@pytest.mark.parametrize("value", ["no-cache", "No-Cache", "no-cache, max-age=5"])
def test_no_cache_reads_nothing(said, value):
    asked = messages(("user", f"Anew {value}"))
    first, _ = said("a", **asked)
    second, kind = said("a", {"cache-control": value}, **asked)
    assert (kind, second != first) == ("miss", True)


def test_no_proxy_is_told_to_keep_an_answer(gateway, keys):
    """What may be kept is for one tenant: a shared cache in front must not."""
    with gateway.client(keys["a"]) as client:
        for stream in (False, True):
            response = client.post(CHAT, json=QUESTION | {"stream": stream})
            assert not {"etag", "expires", "last-modified"} & set(response.headers)
            assert response.headers.get("cache-control") in (None, "no-cache", "no-store")
