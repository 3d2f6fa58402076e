"""Answers as bytes: chat completions and completions, whole and in chunks.

Chunks are put together from parts made once a request: a pydantic model for each costs ten times as much.
`responses.py` describes the same shapes; tests hold the two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from heliostat.serving.api.answering import CallDelta, Ending, TextDelta
from heliostat.serving.api.logprobs import LogprobEntry, chat_logprobs, completion_logprobs
from heliostat.serving.api.orders import Job

DONE = b"data: [DONE]\n\n"


@dataclass
class Collected:
    """One choice of an answer that is sent as a whole."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[LogprobEntry] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finish_reason: Ending | None = None

    def add(self, delta: TextDelta) -> None:
        """Put a piece behind the others."""
        self.texts.append(delta.text)
        self.logprobs += delta.logprobs
        for piece in delta.calls:
            call = self.calls.setdefault(piece.index, {"id": piece.id, "name": piece.name, "arguments": ""})
            call["arguments"] += piece.arguments
        self.finish_reason = delta.finish_reason


class Format(Protocol):
    """One shape of answers."""

    def opening(self, choice: int) -> bytes:
        """The chunk in front of a choice's text, or none."""

    def piece(self, choice: int, delta: TextDelta) -> bytes:
        """The chunks of a delta; with its finish reason if it has one."""

    def closing(self, usage: dict[str, int]) -> bytes:
        """What ends a stream."""

    def whole(self, choices: Sequence[Collected], usage: dict[str, int]) -> bytes:
        """An answer in one piece."""


def format_of(job: Job) -> Format:
    """The shape in which a job's request is answered."""
    return ChatFormat(job) if job.chat else CompletionFormat(job)


class _Envelope:
    """What all chunks of a request, or its whole answer, have around their choices."""

    def __init__(self, job: Job, kind: str, chunk_kind: str) -> None:
        self._kind = kind
        self._fields: dict[str, Any] = {"id": job.id, "created": job.created, "model": job.model.id}
        if job.model.fingerprint is not None:
            self._fields["system_fingerprint"] = job.model.fingerprint
        start = orjson.dumps({**self._fields, "object": chunk_kind})
        self._start = b"data: " + start[:-1] + b',"choices":['
        self._usage_asked = job.request.usage_asked
        self._end = b'],"usage":null}\n\n' if self._usage_asked else b"]}\n\n"

    def chunk(self, choice: bytes) -> bytes:
        return self._start + choice + self._end

    def closing(self, usage: dict[str, int]) -> bytes:
        if not self._usage_asked:
            return DONE
        return self._start + b'],"usage":' + orjson.dumps(usage) + b"}\n\n" + DONE

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> bytes:
        return orjson.dumps({**self._fields, "object": self._kind, "choices": choices, "usage": usage})


class ChatFormat:
    """`chat.completion` and `chat.completion.chunk`."""

    def __init__(self, job: Job) -> None:
        self._envelope = _Envelope(job, "chat.completion", "chat.completion.chunk")
        self._logprobs_asked = job.request.num_logprobs is not None

    def opening(self, choice: int) -> bytes:
        """The role."""
        return self._chunk(choice, b'{"role":"assistant","content":""}')

    def piece(self, choice: int, delta: TextDelta) -> bytes:
        """Text, calls, and the finish reason, each in a chunk of its own."""
        chunks = b""
        if delta.text or delta.logprobs:
            logprobs = orjson.dumps(chat_logprobs(delta.logprobs)) if self._logprobs_asked else b"null"
            chunks = self._chunk(choice, b'{"content":' + orjson.dumps(delta.text) + b"}", logprobs)
        for call in delta.calls:
            chunks += self._chunk(choice, orjson.dumps({"tool_calls": [_call_piece(call)]}))
        if delta.finish_reason:
            chunks += self._chunk(choice, b"{}", finish_reason=b'"' + delta.finish_reason.encode() + b'"')
        return chunks

    def closing(self, usage: dict[str, int]) -> bytes:
        """Usage if it was asked for, and the end."""
        return self._envelope.closing(usage)

    def whole(self, choices: Sequence[Collected], usage: dict[str, int]) -> bytes:
        """The answer in one piece."""
        return self._envelope.whole([self._choice(place, made) for place, made in enumerate(choices)], usage)

    def _chunk(
        self, choice: int, delta: bytes, logprobs: bytes = b"null", finish_reason: bytes = b"null"
    ) -> bytes:
        return self._envelope.chunk(
            b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}'
            % (choice, delta, logprobs, finish_reason)
        )

    def _choice(self, place: int, made: Collected) -> dict[str, Any]:
        text = "".join(made.texts)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if made.calls:
            message["content"] = text or None
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in made.calls.values()
            ]
        logprobs = chat_logprobs(made.logprobs) if self._logprobs_asked else None
        return {
            "index": place,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": made.finish_reason,
        }


class CompletionFormat:
    """`text_completion`, which is the name of the chunks too."""

    def __init__(self, job: Job) -> None:
        self._envelope = _Envelope(job, "text_completion", "text_completion")
        self._logprobs_asked = job.request.num_logprobs is not None
        self._echoes = job.echoes

    def opening(self, choice: int) -> bytes:
        """The prompt, if it was asked for."""
        echo = self._echo(choice)
        return self._chunk(choice, echo, (), None) if echo else b""

    def piece(self, choice: int, delta: TextDelta) -> bytes:
        """Text and finish reason."""
        return self._chunk(choice, delta.text, delta.logprobs, delta.finish_reason)

    def closing(self, usage: dict[str, int]) -> bytes:
        """Usage if it was asked for, and the end."""
        return self._envelope.closing(usage)

    def whole(self, choices: Sequence[Collected], usage: dict[str, int]) -> bytes:
        """The answer in one piece."""
        made = [
            {
                "index": place,
                "text": self._echo(place) + "".join(choice.texts),
                "logprobs": completion_logprobs(choice.logprobs) if self._logprobs_asked else None,
                "finish_reason": choice.finish_reason,
            }
            for place, choice in enumerate(choices)
        ]
        return self._envelope.whole(made, usage)

    def _echo(self, choice: int) -> str:
        return self._echoes[choice] if self._echoes else ""

    def _chunk(
        self, choice: int, text: str, logprobs: Sequence[LogprobEntry], finish_reason: Ending | None
    ) -> bytes:
        shown = orjson.dumps(completion_logprobs(logprobs)) if self._logprobs_asked else b"null"
        reason = b'"' + finish_reason.encode() + b'"' if finish_reason else b"null"
        return self._envelope.chunk(
            b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}'
            % (choice, orjson.dumps(text), shown, reason)
        )


def _call_piece(call: CallDelta) -> dict[str, Any]:
    if call.id is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}
