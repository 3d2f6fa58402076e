"""A folder's fast tokenizer as GGUF's fields: vocabulary, kinds of tokens, merges, special tokens, template.

Byte-level BPE only, cut by a pattern that llama.cpp knows by name: another one would give other ids.
"""

import json
from pathlib import Path
from typing import Any

from heliostat.errors import ModelError
from heliostat.models.gguf_layout import CONTROL_TOKEN, DIGITS_FIRST, PATTERNS, UNUSED_TOKEN, USER_TOKEN
from heliostat.models.loading import load_tokenizer
from heliostat.models.safety import TOKENIZER_NAME

NORMAL_TOKEN = 1
ROLES = ("bos", "eos", "unk", "pad")


def check_tokenizer(folder: Path) -> str:
    """The name by which llama.cpp knows how this tokenizer cuts text.

    Raises:
        ModelError: it is of another kind.
    """
    rules = json.loads((folder / TOKENIZER_NAME).read_bytes())
    name = _pattern_name(rules)
    if rules["model"].get("type") != "BPE" or name is None:
        raise ModelError(
            f"{folder / TOKENIZER_NAME}: not a byte-level BPE tokenizer that llama.cpp knows (it knows the "
            f"cuts of {', '.join((*DIGITS_FIRST, *PATTERNS))}); leave the gguf step out"
        )
    return name


def add_tokenizer(writer: Any, folder: Path, vocab_size: int) -> None:
    """Write the tokenizer into a `gguf.GGUFWriter`; rows behind the vocabulary become unused tokens."""
    rules = json.loads((folder / TOKENIZER_NAME).read_bytes())
    tokenizer = load_tokenizer(folder)
    texts, kinds = _tokens(rules, vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(check_tokenizer(folder))
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([_merge(pair) for pair in rules["model"]["merges"]])
    for role in ROLES:
        identity = getattr(tokenizer, f"{role}_token_id")
        if identity is not None:
            getattr(writer, f"add_{role}_token_id")(identity)
    first = tokenizer("a").input_ids[0]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and first == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _tokens(rules: dict[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    by_id = {identity: (text, NORMAL_TOKEN) for text, identity in rules["model"]["vocab"].items()}
    for token in rules["added_tokens"]:
        by_id[token["id"]] = (token["content"], CONTROL_TOKEN if token["special"] else USER_TOKEN)
    filled = [by_id.get(row, (f"[PAD{row}]", UNUSED_TOKEN)) for row in range(max(vocab_size, 1 + max(by_id)))]
    return [text for text, _ in filled], [kind for _, kind in filled]


def _merge(pair: Any) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _pattern_name(rules: dict[str, Any]) -> str | None:
    pre = rules["pre_tokenizer"] or {}
    steps = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    kinds = [step.get("type") for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    if kinds == ["ByteLevel"] and steps[-1].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        pattern = steps[0]["pattern"].get("Regex")
        return next((name for name, known in PATTERNS.items() if known == pattern), None)
    return None
