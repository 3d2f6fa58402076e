"""Words and phrases looked for in a text, all of them in one pass (Aho, Corasick 1975)."""

from collections.abc import Iterable, Iterator

from heliostat.errors import ConfigError, StorageError
from heliostat.storage import split_uri
from heliostat.text.words import is_word_border

# Searched at a time, so that a very frequent word in a very long document does not fill the memory.
_BLOCK_CHARACTERS = 1 << 20


def phrase_keys(listed: Iterable[str]) -> dict[str, str]:
    """Phrases as they are looked for, without case and with single spaces; each with how it was spelt."""
    return {" ".join(phrase.casefold().split()): phrase for phrase in reversed(list(listed))}


def read_phrases(path: str, what: str) -> list[str]:
    """The lines of a text file that are not blank; `what` asks for them, and is named in errors.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or has no words.
    """
    storage, name = split_uri(path)
    try:
        content = storage.read_bytes(name).decode("utf-8-sig")
    except StorageError as error:
        raise ConfigError(f"{what}: {error}; correct the path, or take it out") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{what}: {path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    listed = [phrase for phrase in map(str.strip, content.splitlines()) if phrase]
    if not listed:
        raise ConfigError(f"{what}: {path}: has no words; give one word or phrase a line") from None
    return listed


class PhraseSearch:
    """All places of some phrases in a text; at least one phrase, by its key (see `phrase_keys`)."""

    def __init__(self, listed: dict[str, str], whole_words: bool = True) -> None:
        """With `whole_words` no phrase is found within another word; scripts without spaces have no such."""
        from ahocorasick_rs import AhoCorasick, Implementation

        # A DFA searches 2.5 times as fast as the default; its memory grows with the list, hence the limit.
        small = sum(map(len, listed)) <= 100_000
        implementation = Implementation.DFA if small else Implementation.ContiguousNFA
        self._automaton = AhoCorasick(list(listed), implementation=implementation)
        self.listed = listed
        self._whole_words = whole_words
        self._has_spaces = any(" " in phrase for phrase in listed)
        self._overlap = max(map(len, listed)) - 1

    def prepared(self, text: str) -> str:
        """The text as it is searched; what UTF-8 cannot hold becomes a question mark."""
        text = text.casefold()
        if self._has_spaces:
            text = " ".join(text.split())
        return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")

    def matches(self, text: str) -> Iterator[tuple[int, int]]:
        """Where phrases stand in a prepared text, in order. Of two that overlap only the first counts, and of
        those that start together the longest."""
        done = 0
        for start, end in self._occurrences(text):
            if start >= done:
                done = end
                yield start, end

    def mentioned(self, text: str) -> set[str]:
        """The phrases that stand in a text, as they were spelt, also those within others."""
        text = self.prepared(text)
        return {self.listed[phrase] for phrase in {text[slice(*span)] for span in self._occurrences(text)}}

    def _occurrences(self, text: str) -> Iterator[tuple[int, int]]:
        for begin in range(0, len(text), _BLOCK_CHARACTERS):
            block = text[begin : begin + _BLOCK_CHARACTERS + self._overlap]
            found = self._automaton.find_matches_as_indexes(block, overlapping=True)
            # What starts in the next block is found there.
            spans = [(begin + start, begin + end) for _, start, end in found if start < _BLOCK_CHARACTERS]
            for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
                if not self._whole_words or _stands_alone(text, start, end):
                    yield start, end


def _stands_alone(text: str, start: int, end: int) -> bool:
    return is_word_border(text, start) and is_word_border(text, end)
