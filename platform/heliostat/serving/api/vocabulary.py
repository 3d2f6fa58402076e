"""A tokenizer's tokens as bytes: what streamed text and logprobs are made from.

Byte-level tokenizers (GPT-2's kind: Llama 3, Qwen, SmolLM ...) spell each byte with a printable character, so
a token's bytes are known without its neighbours. The mapping is GPT-2's `bytes_to_unicode`.
"""

import json
import re
from functools import cached_property
from typing import Any, Protocol
from weakref import WeakKeyDictionary, proxy

_FALLBACK_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_START = "▁"


class Decoder(Protocol):
    """The part of a transformers tokenizer that turns ids into text."""

    def decode(self, token_ids: list[int], **options: bool) -> str:
        """Turn ids into text."""


def _byte_alphabet() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(hidden)
    }


_BYTES = _byte_alphabet()


class Vocabulary:
    """One tokenizer's tokens. Whoever uses it holds the tokenizer, which it must not keep alive by itself."""

    def __init__(self, tokenizer: Any) -> None:
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._tokenizer = proxy(tokenizer)
        self._known: dict[int, bytes] = {}
        self._size = len(tokenizer) if hasattr(tokenizer, "__len__") else None
        self.shown = _ShownBytes(self)

    @property
    def size(self) -> int | None:
        """How many ids there are, if the tokenizer tells."""
        return self._size

    @cached_property
    def byte_level(self) -> bool:
        """Whether a text's bytes are those of its tokens, one after the other."""
        decoder = getattr(self._backend, "decoder", None)
        return decoder is not None and json.loads(decoder.__getstate__()).get("type") == "ByteLevel"

    @cached_property
    def special(self) -> frozenset[int]:
        """Tokens that mark things and are no text."""
        if self._backend is None:
            return frozenset(getattr(self._tokenizer, "all_special_ids", ()))
        added = self._backend.get_added_tokens_decoder()
        return frozenset(token for token, entry in added.items() if entry.special)

    def id_of(self, token: str) -> int | None:
        """The id of a token that is in the vocabulary as a whole."""
        if self._backend is None:
            return None
        found: int | None = self._backend.token_to_id(token)
        return found

    def decode(self, token_ids: list[int]) -> str:
        """The text of ids, without special tokens."""
        if self._backend is not None:
            text: str = self._backend.decode(token_ids, skip_special_tokens=True)
            return text
        return str(
            self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def bytes_of(self, token: int) -> bytes:
        """The bytes a token stands for, special ones by their name; b"" for an id that is no token."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._find_bytes(token)
        return found

    def name_of(self, token: int) -> str:
        """A token as text; one that is no whole character in OpenAI's way: `bytes:\\xe6\\x97`."""
        spelled = self.bytes_of(token)
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

    def _find_bytes(self, token: int) -> bytes:
        if self._backend is None:
            return self.decode([token]).encode()
        spelling: str | None = self._backend.id_to_token(token)
        if spelling is None:
            return b""
        if self.byte_level:
            return _from_byte_alphabet(spelling)
        if fallback := _FALLBACK_BYTE.fullmatch(spelling):
            return bytes([int(fallback[1], 16)])
        if _WORD_START in spelling:
            return spelling.replace(_WORD_START, " ").encode()
        text: str = self._backend.decode([token], skip_special_tokens=False)
        return text.encode()


class _ShownBytes(dict[int, bytes]):
    """The bytes of each token that is text, filled as they are met; special tokens have none."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def __missing__(self, token: int) -> bytes:
        special = token in self._vocabulary.special
        found = self[token] = b"" if special else self._vocabulary.bytes_of(token)
        return found


def _from_byte_alphabet(spelling: str) -> bytes:
    """The bytes of a token; one with characters beyond the alphabet was added as it reads."""
    try:
        return bytes([_BYTES[character] for character in spelling])
    except KeyError:
        return spelling.encode()


_VOCABULARIES: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The tokenizer's vocabulary, made once as long as the tokenizer lives."""
    found = _VOCABULARIES.get(tokenizer)
    if found is None:
        found = _VOCABULARIES[tokenizer] = Vocabulary(tokenizer)
    return found
