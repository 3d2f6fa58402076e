"""Pieces of the API's tests that need no weights: small tokenizers, an engine that says what it is told."""

import json
from dataclasses import dataclass, field

from small_models import save_tokenizer

from heliostat.serving.api.answering import ServedModel
from heliostat.serving.engines.interface import Capabilities, TokenDelta, TokenLogprob

EVERYTHING = Capabilities(
    max_top_logprobs=20,
    penalties=True,
    repetition_penalty=True,
    min_p=True,
    logit_bias=True,
    grammar=True,
    adapters=True,
    embeddings=True,
)
TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% for call in message.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HERMES_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "Answer with <tool_call>.<|im_end|>\n{% endif %}" + TURNS
)


def prose_tokenizer(folder):
    """The tiny model's tokenizer: byte-level, its chat template without tools."""
    from transformers import AutoTokenizer

    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def with_template(tokenizer, template, special=()):
    """A copy with another template, and more special tokens."""
    import copy

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def word_tokenizer():
    """SentencePiece's kind: words begin with a mark, other characters are bytes, one token each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [
        "<unk>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *"abcdefgh",
        "▁a",
        "▁b",
        "ab",
        "▁ab",
    ]
    backend = Tokenizer(
        models.BPE(
            {token: place for place, token in enumerate(tokens)},
            [("▁", "a"), ("▁", "b"), ("a", "b"), ("▁a", "b")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


@dataclass
class ScriptedEngine:
    """Answers each request with the next script: a text, in deltas of `size` tokens, then its end token.

    A script may also be a list of token ids. Remembers what it was asked, and which requests were left early.
    """

    tokenizer: object
    scripts: list
    size: int = 1
    capabilities: Capabilities = EVERYTHING
    fault: Exception | None = None
    asked: list = field(default_factory=list)
    left: list = field(default_factory=list)

    async def generate(self, prompt_ids, parameters, request_id, adapter=None):
        script = self.scripts[len(self.asked) % len(self.scripts)]
        self.asked.append((list(prompt_ids), parameters, request_id, adapter))
        ids = (
            self.tokenizer.encode(script, add_special_tokens=False)
            if isinstance(script, str)
            else list(script)
        )
        ids = [*ids, self.tokenizer.eos_token_id]
        reason = "stop" if len(ids) <= parameters.max_tokens else "length"
        ids = ids[: parameters.max_tokens]
        try:
            for start in range(0, len(ids), self.size):
                part = tuple(ids[start : start + self.size])
                last = start + self.size >= len(ids)
                if self.fault and last:
                    raise self.fault
                yield TokenDelta(part, reason if last else None, self._logprobs(part, parameters))
        except GeneratorExit:
            self.left.append(request_id)
            raise

    async def embed(self, prompts):
        return [[0.6, 0.8] for _ in prompts]

    async def check_health(self):
        return None

    @staticmethod
    def _logprobs(part, parameters):
        if parameters.logprobs is None:
            return ()
        return tuple(
            TokenLogprob(-0.5, tuple((token + other, -0.5 - other) for other in range(parameters.logprobs)))
            for token in part
        )


def served_by(engine, **changes) -> ServedModel:
    values = {
        "id": "tiny",
        "created": 1,
        "tokenizer": engine.tokenizer,
        "engine": engine,
        "max_context_tokens": 2000,
        "max_output_tokens": 1000,
        "default_max_tokens": 500,
    }
    return ServedModel(**(values | changes))


def events_of(data: bytes) -> list:
    """The decoded events of a stream; the last one is "[DONE]"."""
    blocks = data.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    found = [block.removeprefix("data: ") for block in blocks]
    return [event if event == "[DONE]" else json.loads(event) for event in found]
