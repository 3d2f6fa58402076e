"""Token ids several times faster than a tokenizer gives them, and the same ids.

A byte-level BPE tokenizer does two things: a pattern splits the text into pieces, and neighbours merge inside
each piece. tiktoken does the same with less bookkeeping. It is the short cut where that is proved:

pieces   Before a text is trusted to the short cut, both pattern engines are asked about each character in
         it, class by class (letters, numbers, white space). Over equal classes a pattern has equal pieces.
merges   tiktoken joins any neighbours that make a token, a tokenizer only the pairs on its list. Where a
         token's bytes, alone, become that token, there is one way to it: other neighbours that would make
         it never stand there, for they would have stood there when it was alone. A token that is not made
         of its own bytes alone is made nowhere, and gets no rank.

All else goes to the tokenizer itself: a text with an added token, with a character whose bytes are not all in
the vocabulary or that the engines see differently, or with thousands of blanks in a row; and every text when
the tokenizer is of another kind. Nothing here starts a thread or keeps a text.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np

TEXTS_PER_CALL = 256
BLANKS_IN_A_ROW = 4096
"""tiktoken's engine overflows at some hundred thousand blanks in a row; twice this many are never risked."""
_SLICE = (
    256 * BLANKS_IN_A_ROW
)  # characters looked at together: 4 MiB of code points, whatever the text's size

_GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # tokenizers' ByteLevel
)
# The same behind a step that sets every digit apart: a run of blanks ends in front of a digit as at the end.
_GPT2_DIGITS_PATTERN = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
_CLASS = re.compile(r"\\[pP]\{\^?[^}]*\}|\\[pP][A-Z]|\\[sSdDwW]")

_UNSEEN, _ODD, _BLANK, _PROVED = range(4)

# What the short cut must get right before it is used; added tokens and whole tokens are tried besides.
SAMPLE = (
    "",
    " ",
    "Hello world",
    "The quick  brown   fox\n\n  jumps\tover\t\tthe lazy dog. ",
    "don't we'll I've they're he'd I'm it's 's'some 'tis IT'S o'clock \t's\n'll",
    "for (int i = 0; i < 10_000; ++i) { x[i] *= 3.14e-10; }  // ok\r\n\treturn -1;",
    "def f(a, b=None):\n    '''Doc.'''\n    return {**a, 'b': b}\n\n\n\nclass C: ...",
    "1 22 333 4444 55555 1234567890 3.14 1,000,000 0x1F 2024-01-31T12:00:00Z a1b2c3",
    "   leading, trailing   \n \n\t\n  mixed \t \n blank lines \r\n\r\n ends ",
    "你好，世界！我们在测试分词。没有空格的中文句子，以及数字123和English混排。",
    "　全角空格　和「引号」、《书名》……——标点。ＡＢＣ１２３",
    "日本語のテキスト、한국어 텍스트, ภาษาไทย, हिन्दी में पाठ, Ελληνικά, кириллица",
    "العربية مع ٣٤٥ أرقام, עברית, e\u0301 cafe\u0301 café naïve ½ ² Ⅷ ª ⓐ",
    "😀👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 ❤️ ☃ → ∑ € £ © ™ “quotes” ‘single’ — – … ¿¡",
    "https://example.com/a?b=c&d=%20#e user@example.com C:\\dir\\file.txt ~/.bashrc",
    "!!!??? ... --- === *** ### $$$ %%% ^^^ &&& ((())) [[[]]] <<<>>> ~~~ ``` |||",
    "\u00a0\u2003\u2028x\u200b\ufeff\u202ertl\u0085\x0b\x0c \x00\x04\x1c\x7f",
    "a" * 300 + " " * 300 + "b" + "\n" * 50 + "-" * 100 + "中" * 100,
)


class FastEncoder:
    """Encodes plain text as its tokenizer would, by the short cut where that is proved to be the same."""

    def __init__(self, tokenizer: Any, short_cut: "ShortCut | None", reason: str) -> None:
        """Made by `of`."""
        self._tokenizer = tokenizer
        self._short_cut = short_cut
        self.path = "tiktoken" if short_cut else "tokenizer"
        """`tiktoken`, or `tokenizer` where all texts go to the tokenizer itself."""
        self.reason = reason
        """Why there is no short cut; empty when there is one."""
        self.num_fast = 0
        """Texts that took the short cut so far."""
        self.num_slow = 0
        """Texts that went to the tokenizer itself so far."""

    @classmethod
    def of(cls, tokenizer: Any) -> "FastEncoder":
        """The encoder for a transformers tokenizer; takes about a second for 50,000 tokens."""
        try:
            short_cut = ShortCut.of(tokenizer)
        except ValueError as reason:
            return cls(tokenizer, None, str(reason))
        encoder = cls(tokenizer, short_cut, "")
        sample = [*SAMPLE, *(f"a {token}b\n{token} " for token in short_cut.added)]
        exact = encoder._encode_exactly(sample)
        if all(np.array_equal(*pair) for pair in zip(encoder.encode_batch(sample), exact, strict=True)):
            encoder.num_fast = encoder.num_slow = 0
            return encoder
        return cls(tokenizer, None, "tiktoken gave other ids on the sample")

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, int32, as `tokenizer(texts, add_special_tokens=False)` gives them."""
        found: dict[int, np.ndarray] = {}
        if self._short_cut:
            for position, text in enumerate(texts):
                if self._short_cut.takes(text):
                    found[position] = self._short_cut.encode(text)
        rest = [position for position in range(len(texts)) if position not in found]
        exact = self._encode_exactly([texts[position] for position in rest])
        found.update(zip(rest, exact, strict=True))
        self.num_fast += len(texts) - len(rest)
        self.num_slow += len(rest)
        return [found[position] for position in range(len(texts))]

    def _encode_exactly(self, texts: list[str]) -> list[np.ndarray]:
        arrays: list[np.ndarray] = []
        for start in range(0, len(texts), TEXTS_PER_CALL):
            batch = texts[start : start + TEXTS_PER_CALL]
            encoded = self._tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
            arrays += [np.array(ids, dtype=np.int32) for ids in encoded]
        return arrays


@dataclass(frozen=True)
class ShortCut:
    """A tokenizer's ids by way of tiktoken, and which texts it may be used for."""

    added: tuple[str, ...]
    """Texts of the added tokens. They are found before the pattern is: a matter for the tokenizer."""
    added_starts: tuple[str, ...]
    characters: "Characters"
    ranked: Callable[[str], list[int]]
    ids: np.ndarray
    """The token id of each rank."""
    wants_nfc: bool

    @classmethod
    def of(cls, tokenizer: Any) -> "ShortCut":
        """Build and prove it.

        Raises:
            ValueError: the tokenizer is of a kind that this does not cover; says which.
        """
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer")
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        wants_nfc = _wants_nfc(rules["normalizer"])
        pattern, digits_apart = _pattern_of(rules["pre_tokenizer"])
        ranks, ids = ranks_of(tokenizer.backend_tokenizer, rules)
        added = tuple(token["content"] for token in rules["added_tokens"])
        return cls(
            added=added,
            added_starts=tuple(sorted({token[:2] for token in added})),
            characters=Characters(pattern, digits_apart, _missing_bytes(ids), wants_nfc),
            ranked=_encoding(pattern, ranks).encode_ordinary,
            ids=ids,
            wants_nfc=wants_nfc,
        )

    def takes(self, text: str) -> bool:
        """Whether the short cut is proved for this text."""
        if any(start in text for start in self.added_starts) and any(token in text for token in self.added):
            return False
        if self.wants_nfc and not unicodedata.is_normalized("NFC", text):
            return False
        return self.characters.trusts(text)

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int32, of a text that `takes` accepts."""
        return np.asarray(self.ids[np.array(self.ranked(text), dtype=np.int64)])


class Characters:
    """Which characters two pattern engines put into the same classes. It learns as characters turn up."""

    def __init__(self, pattern: str, digits_apart: bool, missing: bytes, wants_nfc: bool) -> None:
        """For texts split by `pattern`; `missing` are the bytes that no token stands for."""
        classes = set(_CLASS.findall(pattern)) | {r"\s"}
        if "(?i" in pattern:
            classes.add("(?i:[a-z])")
        self._classes = sorted(classes)
        self._pattern = pattern
        self._digits_apart = digits_apart
        self._missing = frozenset(missing)
        self._wants_nfc = wants_nfc
        self._verdicts = np.full(0x110000, _UNSEEN, dtype=np.uint8)
        self._learn(np.arange(128))

    def trusts(self, text: str) -> bool:
        """Whether all characters of the text are proved, and it has no huge run of blanks."""
        for start in range(0, len(text), _SLICE):
            data = text[start : start + _SLICE].encode("utf-32-le", "surrogatepass")
            points = np.frombuffer(data, dtype=np.uint32)
            verdicts = self._verdicts[points]
            if verdicts.min() == _UNSEEN:
                self._learn(np.unique(points[verdicts == _UNSEEN]))
                verdicts = self._verdicts[points]
            if verdicts.min() == _ODD:
                return False
            blocks = len(verdicts) // BLANKS_IN_A_ROW
            rows = verdicts[: blocks * BLANKS_IN_A_ROW].reshape(blocks, BLANKS_IN_A_ROW)
            if (rows == _BLANK).all(axis=1).any():
                return False
        return True

    def _learn(self, points: np.ndarray) -> None:
        surrogate = (points >= 0xD800) & (points < 0xE000)
        self._verdicts[points[surrogate]] = _ODD
        characters = [chr(point) for point in points[~surrogate].tolist()]
        odd = self._odd(characters)
        for character in characters:
            usual = _BLANK if character.isspace() else _PROVED
            self._verdicts[ord(character)] = _ODD if character in odd else usual

    def _odd(self, characters: list[str]) -> set[str]:
        together = "".join(characters)
        odd = {character for character in characters if not self._missing.isdisjoint(character.encode())}
        for name in self._classes:
            odd |= _tokenizers_find(name, together) ^ _tiktoken_finds(name, together)
        odd |= set(characters) - _tiktoken_finds(self._pattern, together)  # it would leave these out
        if self._digits_apart:
            odd |= _digits_apart_in(together) ^ _tiktoken_finds(r"\p{N}", together)
        if self._wants_nfc:  # a character newer than Python's tables may compose in newer ones
            odd |= {character for character in characters if unicodedata.category(character) == "Cn"}
        return odd


def ranks_of(backend: Any, rules: dict[str, Any]) -> tuple[dict[bytes, int], np.ndarray]:
    """tiktoken's ranks for the merges of a `tokenizers.Tokenizer`, and the token id of each rank.

    `rules` is its tokenizer.json. An id of -1 is that of a byte that no token stands for.

    Raises:
        ValueError: the model is not plain byte-level BPE, or its merges are not in an order of tokens.
    """
    model = rules["model"]
    if model["type"] != "BPE":
        raise ValueError(f"the model is {model['type']}, not BPE")
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ValueError("the BPE model has dropout, or marks on parts of words")
    alphabet, vocabulary = byte_alphabet(), model["vocab"]
    tokens = list(_tokens_with_rank(backend, rules))
    if not set(alphabet) >= set("".join(tokens)):
        raise ValueError("the vocabulary is not byte-level")
    to_bytes = {ord(character): byte for byte, character in enumerate(alphabet)}
    ranks = {bytes([byte]): byte for byte in range(256)}
    for rank, token in enumerate(tokens, start=256):
        ranks[token.translate(to_bytes).encode("latin-1")] = rank
    ids = [vocabulary.get(character, -1) for character in alphabet]
    return ranks, np.array(ids + [vocabulary[token] for token in tokens], dtype=np.int32)


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies, as GPT-2's encoder chose them."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def _tokens_with_rank(backend: Any, rules: dict[str, Any]) -> Iterator[str]:
    """The tokens that merges make, in the order of their merges."""
    model = rules["model"]
    vocabulary, whole_words = model["vocab"], bool(model.get("ignore_merges"))
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    products = [left + right for left, right in pairs]
    made = dict.fromkeys(products)
    if sum(1 for _ in groupby(products)) != len(made):
        raise ValueError("the merges of a token are not side by side")
    if whole_words:  # a piece that is a token becomes it, whether merges lead there or not
        backend = _with_merges_alone(rules)
        known = {*byte_alphabet(), *(token["content"] for token in rules["added_tokens"])}
        made |= dict.fromkeys(token for token in vocabulary if token not in known)
    listed, tokenize = set(pairs), backend.model.tokenize
    for token in made:
        parts = tokenize(token)
        if len(parts) == 1 and parts[0].id == vocabulary[token]:
            yield token
        elif whole_words:
            cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
            if any(a in vocabulary and b in vocabulary and (a, b) not in listed for a, b in cuts):
                raise ValueError("a token that merges do not make has parts that tiktoken would join")
            yield token


def _with_merges_alone(rules: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps({**rules, "model": {**rules["model"], "ignore_merges": False}}))


def _missing_bytes(ids: np.ndarray) -> bytes:
    return bytes(np.flatnonzero(ids[:256] < 0).tolist())


def _wants_nfc(normalizer: Mapping[str, Any] | None) -> bool:
    if normalizer is None or normalizer == {"type": "NFC"}:
        return normalizer is not None
    raise ValueError(f"the normalizer {normalizer['type']} is not covered")


def _pattern_of(pre_tokenizer: Mapping[str, Any] | None) -> tuple[str, bool]:
    """The pattern that splits a text, and whether a step in front of it sets each digit apart."""
    steps = [pre_tokenizer] if pre_tokenizer else []
    if steps and steps[0]["type"] == "Sequence":
        steps = list(steps[0]["pretokenizers"])
    kinds = [step["type"] for step in steps]
    if kinds and kinds[-1] == "ByteLevel" and not steps[-1]["add_prefix_space"]:
        own_pattern = steps[-1].get("use_regex", True)
        if kinds == ["ByteLevel"] and own_pattern:
            return _GPT2_PATTERN, False
        if kinds == ["Digits", "ByteLevel"] and own_pattern and steps[0]["individual_digits"]:
            return _GPT2_DIGITS_PATTERN, True
        if kinds == ["Split", "ByteLevel"] and not own_pattern:
            return _split_pattern(steps[0]), False
    raise ValueError(f"the pre-tokenizer {' + '.join(kinds) or 'none'} is not covered")


def _split_pattern(step: Mapping[str, Any]) -> str:
    pattern = step["pattern"].get("Regex")
    if pattern is None or step["behavior"] != "Isolated" or step["invert"] or "[:" in pattern:
        raise ValueError("the pre-tokenizer Split is not by a pattern that is covered")
    return str(pattern)


def _encoding(pattern: str, ranks: dict[bytes, int]) -> Any:
    import tiktoken

    return tiktoken.Encoding("short-cut", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


@cache
def _byte_encoding(pattern: str) -> Any:
    return _encoding(pattern, {bytes([byte]): byte for byte in range(256)})


def _tiktoken_finds(pattern: str, characters: str) -> set[str]:
    """The characters that tiktoken's engine finds: what a pattern does not match, it leaves out."""
    return set(bytes(_byte_encoding(pattern).encode_ordinary(characters)).decode())


def _tokenizers_find(name: str, characters: str) -> set[str]:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    found = Split(Regex(name), "removed", invert=True).pre_tokenize_str(characters)
    return set("".join(piece for piece, _ in found))


def _digits_apart_in(characters: str) -> set[str]:
    from tokenizers.pre_tokenizers import Digits

    between_letters = "a" + "a".join(characters) + "a"
    pieces = Digits(individual_digits=True).pre_tokenize_str(between_letters)
    return {piece for piece, _ in pieces if len(piece) == 1} - {"a"}
