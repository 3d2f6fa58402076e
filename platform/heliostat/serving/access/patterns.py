"""Patterns of names, such as quick*: `fnmatch` with room for the patterns of ten thousand keys and rules.

An adapter's name is the whole of ENDPOINT:ADAPTER: `quick` opens the endpoint alone, `quick:*` its adapters,
`quick:sql` one of them, `quick*` all of these.
"""

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

_MAGIC = re.compile(r"[*?\[]")


def like(name: str, pattern: str) -> bool:
    """Whether a pattern (`*`, `?`, `[abc]`) is a whole name; capitals count."""
    return pattern == "*" or _matcher(pattern)(name)


@lru_cache(maxsize=16384)  # fnmatch keeps 256, and compiling one again takes longer than all else here
def _matcher(pattern: str) -> Callable[[str], bool]:
    if not _MAGIC.search(pattern):
        return pattern.__eq__
    compiled = re.compile(translate(pattern))
    return lambda name: compiled.match(name) is not None
