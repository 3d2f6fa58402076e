"""Reads one tool call's JSON as it comes, letter by letter, so that its arguments can be sent on at once."""

import json

NAME_KEYS = ("name",)
ARGUMENT_KEYS = ("arguments", "parameters")
OTHER_KEYS = ("type", "id")
SPACE = " \t\r\n"


class ValueReader:
    """Finds where a JSON value ends. Brackets are counted, not checked: the client reads the JSON."""

    def __init__(self) -> None:
        self.done = False
        self.begun = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def read(self, text: str, start: int) -> int:
        """Where the value's part of `text` ends, from `start` on; sets `done` when the value ends there."""
        place = start
        self.begun = True
        while place < len(text) and not self.done:
            place += self._in(text[place]) if self._in_string else self._out(text[place])
        return place

    def _in(self, character: str) -> int:
        """A character of a string."""
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
            self.done = self._depth == 0
        return 1

    def _out(self, character: str) -> int:
        """A character outside of strings; 0 when it belongs to what is around the value."""
        if character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif self._depth == 0 and character in ",}] \t\r\n":
            self.done = True
            return 0
        elif character in "}]":
            self._depth -= 1
            self.done = self._depth == 0
        return 1


class CallReader:
    """One call: `{"name": NAME, "arguments": {...}}`, or only the arguments when the name is known.

    `ready` says that it is one: its name has come, and so have its arguments or the end. `take_arguments()`
    gives what is new of the arguments' JSON text. `done` and `broken` say how it ended.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.done = False
        self.broken = False
        self._due = "open" if name is None else "value"
        self._key = "" if name is None else ARGUMENT_KEYS[0]
        self._value: ValueReader | None = None
        self._captured = ""
        self._arguments = ""
        self._arguments_seen = False
        self._in_text = False
        self._bare = name is not None

    @property
    def ready(self) -> bool:
        """Whether it is certain that this is a call."""
        return self.name is not None and (self._arguments_seen or self.done)

    def read(self, text: str) -> int:
        """How much of `text` is the call's; stops where it gets ready, so that pieces make no difference."""
        place, ready = 0, self.ready
        while place < len(text) and not self.done and not self.broken and ready == self.ready:
            if self._value:
                place = self._read_value(text, place, self._value)
            elif text[place] in SPACE:
                place += 1
            else:
                place = self._read_mark(text, place)
        return place

    def take_arguments(self) -> str:
        """The arguments' text since the last time."""
        taken, self._arguments = self._arguments, ""
        if self.done and not self._arguments_seen:
            self._arguments_seen = True
            return "{}"
        return taken

    def _read_mark(self, text: str, place: int) -> int:
        """What is around keys and values."""
        character = text[place]
        if self._due == "open" and character == "{":
            self._due = "key"
        elif self._due in ("key", "next") and character == "}":
            self.done, self.broken = self.name is not None, self.name is None
        elif self._due == "key" and character == '"':
            self._key, self._value = "", ValueReader()
            return place
        elif self._due == "colon" and character == ":":
            self._due = "value"
        elif self._due == "value":
            self._value = ValueReader()
            return place
        elif self._due == "next" and character == ",":
            self._due = "key"
        else:
            self.broken = True
        return place + 1

    def _read_value(self, text: str, place: int, value: ValueReader) -> int:
        if not value.begun:
            self._in_text = text[place] == '"'
        end = value.read(text, place)
        if self._due == "value" and self._key in ARGUMENT_KEYS and not self._in_text:
            self._arguments_seen = True
            self._arguments += text[place:end]
        else:
            self._captured += text[place:end]
        if value.done:
            self._value = None
            self._end_value()
        return end

    def _end_value(self) -> None:
        captured, self._captured = self._captured, ""
        if self._due == "key":
            self._key, self._due = _string(captured), "colon"
            self.broken = self.name is None and self._key not in (*NAME_KEYS, *ARGUMENT_KEYS, *OTHER_KEYS)
            return
        self._due = "next"
        if self._key in NAME_KEYS:
            self.name = _string(captured) or None
            self.broken = self.name is None
        elif self._key in ARGUMENT_KEYS and self._in_text:  # JSON in JSON
            self._arguments_seen = True
            self._arguments += _string(captured)
        self.done = self._bare


def _string(text: str) -> str:
    """What a JSON string says; "" when it is none."""
    try:
        value = json.loads(text, strict=False)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
