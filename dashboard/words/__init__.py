"""The catalogue: what the dashboard says, in each language, one JSON file a page.

A value is a text with `{names}` in braces, or `{"one": ..., "other": ...}`, of which `n` takes one.
"""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

FOLDER = Path(__file__).resolve().parent
STRICT = "HELIOSTAT_STRICT_WORDS"
"""Where this is 1, as in tests, a word that is missing is an error; else its key is shown."""


class Translator(Protocol):
    """`t(key, **values)`."""

    def __call__(self, key: str, **values: Any) -> str:
        """What to say for `key`."""


@lru_cache
def catalogue(language: str) -> Mapping[str, Any]:
    """All texts of a language by their keys.

    Raises:
        ValueError: two files hold the same key.
    """
    texts: dict[str, Any] = {}
    for path in sorted((FOLDER / language).glob("*.json")):
        page = json.loads(path.read_text("utf-8"))
        twice = texts.keys() & page.keys()
        if twice:
            raise ValueError(f"{path}: {', '.join(sorted(twice))} stand in another file too")
        texts |= page
    return MappingProxyType(texts)


@lru_cache
def translator(language: str) -> Translator:
    """What speaks a language."""
    texts = catalogue(language)

    def t(key: str, **values: Any) -> str:
        text = texts.get(key)
        if isinstance(text, dict):
            text = text["one" if values.get("n") == 1 and "one" in text else "other"]
        try:
            return str(text).format_map(values) if text is not None else _missing(key)
        except (KeyError, IndexError, ValueError):
            return _missing(f"{key} with {', '.join(values) or 'nothing'}")

    return t


def _missing(key: str) -> str:
    if os.environ.get(STRICT) == "1":
        raise KeyError(f"dashboard/words has no {key}")
    return key
