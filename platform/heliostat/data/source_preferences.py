"""Preference pairs: a prompt, an answer that was chosen, and one that was rejected.

Known shapes: three strings; answers as messages behind a prompt; both conversations whole, with the prompt in
each (UltraFeedback, ORPO's mixtures, TRL); transcripts in one string (Anthropic's HH-RLHF).
"""

import re
from typing import Any

from heliostat.data.source_messages import (
    Content,
    Unusable,
    ends_with_answer,
    messages_of,
    tools_of,
    with_system,
)
from heliostat.text.chat import Message, check_messages

_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def preference_of(values: dict[str, Any]) -> Content:
    """The content of a row: `messages` end with the chosen answer, in whose place `rejected` might stand,
    from `answers_from` on."""
    try:
        prompt = _prompt_of(values.get("prompt"))
        chosen, rejected = _answer_of(values["chosen"]), _answer_of(values["rejected"])
        tools = tools_of(values.get("tools"))
        shared, chosen, rejected = _divided(prompt, chosen, rejected)
        shared = with_system(shared, values.get("system"))
    except Unusable as unusable:
        return Content(reason=unusable.reason)
    messages = (*shared, *chosen)
    reason = check_messages(messages) or check_messages((*shared, *rejected))
    if not reason and chosen == rejected:
        reason = "same_answers"
    return Content(messages=messages, rejected=rejected, answers_from=len(shared), tools=tools, reason=reason)


def _prompt_of(prompt: Any) -> tuple[Message, ...]:
    if prompt is None:
        return ()
    if isinstance(prompt, str):
        turns = _transcript(prompt) or _listed(prompt) or ({"role": "user", "content": prompt},)
        return turns if turns[-1]["content"] or turns[-1]["role"] == "user" else turns[:-1]
    return messages_of(prompt)


def _answer_of(answer: Any) -> tuple[Message, ...]:
    if isinstance(answer, str):
        return _transcript(answer) or _listed(answer) or ({"role": "assistant", "content": answer},)
    return messages_of([answer] if isinstance(answer, dict) else answer)


def _listed(text: str) -> tuple[Message, ...] | None:
    """Messages written as JSON, as in a csv file; None for any other text."""
    if not text.startswith('[{"'):
        return None
    try:
        return messages_of(text)
    except Unusable:
        return None


def _transcript(text: str) -> tuple[Message, ...] | None:
    """The turns of a transcript that begins with a speaker; None for any other text."""
    if not _SPEAKER.match(text):
        return None
    pieces = _SPEAKER.split(text)[1:]
    return tuple(
        {"role": _SPEAKERS[speaker], "content": said.strip()}
        for speaker, said in zip(pieces[::2], pieces[1::2], strict=True)
    )


def _divided(
    prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """What both conversations begin with, and how each goes on."""
    if not (ends_with_answer(chosen) and ends_with_answer(rejected)):
        raise Unusable("no_answer")
    chosen, rejected = _whole(prompt, chosen), _whole(prompt, rejected)
    shared = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared += 1
    if any(rest and rest[0]["role"] != "assistant" for rest in (chosen[shared:], rejected[shared:])):
        raise Unusable("different_prompts")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _whole(prompt: tuple[Message, ...], answer: tuple[Message, ...]) -> tuple[Message, ...]:
    """An answer with its prompt in front, unless it has it already: it begins with what a person said."""
    if answer and answer[0]["role"] in ("system", "user"):
        return answer
    return (*prompt, *answer)
