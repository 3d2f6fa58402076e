"""Whether messages are a conversation that can be continued; what they are in the words of chat rendering."""

from collections.abc import Sequence

from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.api.protocol import ChatMessage
from heliostat.text.chat import ROLES, Message

ROLE_NAMES = {"developer": "system"}
"""OpenAI's newer name for the same role."""


def to_prompt(messages: Sequence[ChatMessage]) -> list[Message]:
    """Messages with plain text content, ready for `render_prompt`.

    Raises:
        RefusedRequest: they are empty, out of order, or not text.
    """
    if not messages:
        raise RefusedRequest(
            "'messages' is empty; send at least one user message", "empty_array", param="messages"
        )
    plain = [
        {"role": ROLE_NAMES.get(message.role, message.role), "content": _text(message, position)}
        for position, message in enumerate(messages)
    ]
    problem = check_order([message["role"] for message in plain])
    if problem:
        position, reason = problem
        raise RefusedRequest(
            f"messages[{position}]: {reason}", "invalid_value", param=f"messages.{position}.role"
        )
    return plain


def check_order(roles: Sequence[str]) -> tuple[int, str] | None:
    """Where and why roles are not a prompt, or None.

    At most one system message, first; then user and assistant in turn, a user first and a user last.
    """
    start = int(roles[0] == "system")
    for position, role in enumerate(roles):
        expected = ("user", "assistant")[(position - start) % 2]
        if role not in ROLES:
            return position, f"unknown role '{role}'; use one of {', '.join(ROLES)}"
        if position >= start and role != expected:
            return (
                position,
                f"role '{role}' where '{expected}' is due; user and assistant take turns, a user first",
            )
    if roles[-1] != "user":
        return len(
            roles
        ) - 1, f"the last message is of role '{roles[-1]}'; end with a user message to be answered"
    return None


def _text(message: ChatMessage, position: int) -> str:
    """The content as one string; parts other than text are refused."""
    if isinstance(message.content, str):
        return message.content
    parts = message.content or []
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    if not parts or len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        raise RefusedRequest(
            f"messages[{position}]: content must be text or a list of text parts; nothing else is read",
            "invalid_value",
            param=f"messages.{position}.content",
        )
    return "".join(str(text) for text in texts)
