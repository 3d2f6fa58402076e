"""From an answer's text to its tool calls, while it comes."""

import re
import secrets
import string
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace

from heliostat.serving.api.answering import CallDelta, Ending, TextDelta
from heliostat.serving.api.call_reader import CallReader
from heliostat.serving.api.detokenize import overlap
from heliostat.serving.api.tool_syntax import ToolSyntax

_BARE_NAME = re.compile(r"([\w.-]{1,64})(?:\[ARGS\])?\s*(?=\{)")
_BARE_NAME_BEGUN = re.compile(r"[\w.-]{1,64}(?:\[(?:A(?:R(?:G(?:S\]?)?)?)?)?)?\s*")
_BETWEEN_CALLS = " \t\r\n],;"
_SHORT_ID_LENGTH = 9


class ToolCallParser:
    """One answer's text, cut into what is said and what is called.

    What looks like a call and is none is text. Where calls need no mark (Llama 3) only `names` are calls:
    other JSON is an answer. With `single` everything behind the first call is left out.
    """

    def __init__(self, syntax: ToolSyntax, names: Collection[str], single: bool = False) -> None:
        self._syntax = syntax
        self._names = frozenset(names)
        self._single = single
        self._text = ""  # not given out yet: outside of calls what may be a mark, inside what was not read
        self._raw = ""  # the whole block, as long as it may turn out to be no call
        self._inside = False
        self._skipping = False
        self._plain = False
        self._call: CallReader | None = None
        self._announced = False
        self._calls_in_block = 0
        self.num_calls = 0
        self.satisfied = False

    def push(self, text: str) -> tuple[str, list[CallDelta]]:
        """The text that is certainly said, and the pieces of calls."""
        self._text += text
        said, pieces = "", list[CallDelta]()
        progress = True
        while progress and not self.satisfied:
            before = self._state()
            if self._call:
                said += self._read_call(self._call, pieces)
            elif self._inside:
                said += self._read_block()
            else:
                said += self._read_outside()
            progress = before != self._state()
        return said, pieces

    def _state(self) -> tuple[int | bool, ...]:
        return len(self._text), self._inside, self._skipping, self._plain, self._call is None

    def flush(self) -> str:
        """What is left at the end: text that was held for a mark, or a call of which not even a name came."""
        if self.satisfied or self._announced:
            return ""
        if self._inside:
            return "" if self._calls_in_block and self._call is None else self._raw + self._text
        return self._text.rstrip() if self.num_calls else self._text

    def _read_outside(self) -> str:
        """Text up to the mark of a call; spaces in front of the mark are none of the text."""
        if self._plain:
            said, self._text = self._text, ""
            return said
        if not self._syntax.start:
            return self._read_beginning()
        mark = self._syntax.start
        place = self._text.find(mark)
        if place < 0:
            keep = len(self._text) - overlap(self._text, mark)
            said = self._text[:keep].rstrip()
            self._text = self._text[len(said) :]
            return said
        said = self._text[:place].rstrip()
        self._enter(self._text[len(said) : place] + mark, self._text[place + len(mark) :])
        return said

    def _read_beginning(self) -> str:
        """Of an answer whose calls need no mark: it is one from its first character on, or never."""
        text, mark = self._text.lstrip(), self._syntax.optional_start
        if mark and text.startswith(mark):
            self._enter(self._text[: -len(text)] + mark, text[len(mark) :])
        elif text and not (mark and mark.startswith(text)):
            if text[0] in "{[":
                self._enter("", self._text)
            else:
                self._plain = True
        return ""

    def _enter(self, mark: str, rest: str) -> None:
        self._inside, self._calls_in_block = True, 0
        self._raw, self._text = mark, rest

    def _read_block(self) -> str:
        """Between calls of a block. What is neither a call nor the end's mark is left out behind a call."""
        if self._skipping:
            self._skip_to(self._syntax.end)
            if not self._text.startswith(self._syntax.end):
                return ""
        kept, start, end = self._text.lstrip(_BETWEEN_CALLS), self._syntax.start, self._syntax.end
        if start and start.startswith(kept[: len(start)]):  # the mark once more, or a part of it
            self._take(len(self._text) - len(kept) + (len(start) if kept.startswith(start) else 0))
            return ""
        kept = kept.lstrip("[" + _BETWEEN_CALLS)
        self._take(len(self._text) - len(kept))
        if not kept:
            return ""
        if kept[0] == "{":
            self._call, self._announced = CallReader(), False
        elif end and kept.startswith(end):
            self._take(len(end))
            return self._leave(broken=self._calls_in_block == 0)
        elif end and end.startswith(kept):
            return ""
        elif end and self._calls_in_block:
            self._skipping = True
        elif self._syntax.bare_names and _BARE_NAME_BEGUN.match(kept):
            return self._read_bare_name(kept)
        else:
            return self._leave(broken=self._calls_in_block == 0)
        return ""

    def _read_bare_name(self, kept: str) -> str:
        found = _BARE_NAME.match(kept)
        if found:
            self._take(found.end())
            self._call, self._announced = CallReader(found[1]), False
        elif not _BARE_NAME_BEGUN.fullmatch(kept):
            return self._leave(broken=self._calls_in_block == 0)
        return ""

    def _skip_to(self, end: str) -> None:
        """Leave out what is behind a call and in front of the end's mark."""
        place = self._text.find(end)
        keep = place if place >= 0 else len(self._text) - overlap(self._text, end)
        self._take(keep)

    def _leave(self, broken: bool) -> str:
        """End a block; one without any call was text."""
        raw, self._raw, self._inside, self._skipping = self._raw, "", False, False
        if not self._syntax.start:
            self._plain = True
            raw, self._text = (raw + self._text, "") if broken else (raw, self._text)
        return raw if broken else ""

    def _read_call(self, call: CallReader, pieces: list[CallDelta]) -> str:
        self._take(call.read(self._text))
        if call.broken and not self._announced:
            self._call = None
            return self._leave(broken=True)
        if call.ready and not self._announced and self._may_announce(call):
            self._announced, self._raw = True, ""
            pieces.append(CallDelta(self.num_calls, call.take_arguments(), self._new_id(), call.name))
            self.num_calls += 1
            self._calls_in_block += 1
        elif self._announced and (more := call.take_arguments()):
            pieces.append(CallDelta(self.num_calls - 1, more))
        if call.done or call.broken:
            return self._end_call(call)
        return ""

    def _may_announce(self, call: CallReader) -> bool:
        return bool(self._syntax.start) or call.name in self._names

    def _end_call(self, call: CallReader) -> str:
        announced, self._announced, self._call = self._announced, False, None
        if not announced:
            return self._leave(broken=True)
        self.satisfied = self._single
        self._raw = ""
        self._skipping = call.broken and bool(self._syntax.end)
        return ""

    def _take(self, count: int) -> None:
        if not self._announced:
            self._raw += self._text[:count]
        self._text = self._text[count:]

    def _new_id(self) -> str:
        if self._syntax.short_ids:
            letters = string.ascii_letters + string.digits
            return "".join(secrets.choice(letters) for _ in range(_SHORT_ID_LENGTH))
        return f"call_{secrets.token_hex(12)}"


async def with_calls(deltas: AsyncGenerator[TextDelta], parser: ToolCallParser) -> AsyncGenerator[TextDelta]:
    """An answer with its tool calls taken out of its text.

    Ends early, as does what generates, when the one call that is wanted has come.
    """
    async with aclosing(deltas):
        async for delta in deltas:
            said, calls = parser.push(delta.text)
            if delta.finish_reason:
                said += parser.flush()
            ending: Ending | None = delta.finish_reason
            if parser.num_calls and (ending == "stop" or parser.satisfied):
                ending = "tool_calls"
            if said or calls or ending or delta.logprobs:
                yield replace(delta, text=said, calls=tuple(calls), finish_reason=ending)
            if ending:
                return
