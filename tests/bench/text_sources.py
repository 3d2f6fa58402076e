"""Real text on this machine, cut into documents: what installed packages and Debian's documentation say.

Whatever of it is there is used; nothing is downloaded. A paragraph is taken once, however many files repeat
it, and the files come in an order that depends on their names and the seed alone.
"""

import gzip
import html
import os
import re
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import xxhash

MAXIMUM_CHARACTERS = 10_000
_LEAST_WANTED, _MOST_WANTED = 600, 9_000
_PART_CHARACTERS = 2**18
_LARGEST_FILE_BYTES = 32 * 2**20
_WRITTEN = (".rst", ".md", ".txt")
_WORDNET = ("noun", "verb", "adj", "adv")

_TRIPLE_QUOTED = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.DOTALL)
_COMMENTS = re.compile(r"(?:^[ \t]*#(?![!%]).*\n)+", re.MULTILINE)
_COMMENT_MARK = re.compile(r"^[ \t]*#+[ \t]?", re.MULTILINE)
_MARKUP = re.compile(r"<(script|style|head)\b.*?</\1>|<!--.*?-->|<[^>]+>", re.DOTALL | re.IGNORECASE)
_GLOSS = re.compile(r"\| (.*)$", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_ENTRY = re.compile(r"\n(?=\S)")
_LONG_WORD = re.compile(r"\S{120}")


@dataclass(frozen=True)
class TextPart:
    """A file, or `_PART_CHARACTERS` of a large one from `start` on, and what is taken from it."""

    group: str
    path: str
    start: int | None = None

    @property
    def name(self) -> str:
        """What decides its place in the order."""
        return f"{self.group} {self.path} {self.start}"

    def paragraphs(self) -> Iterator[str]:
        """Its paragraphs, without blank borders."""
        if self.start is None:
            text = _text_of(self.group, self.path)
        else:
            text = _large_text(self.group, self.path)[self.start : self.start + _PART_CHARACTERS]
        splitter = _ENTRY if self.group == "dictionary" else _BLANK_LINE
        for paragraph in splitter.split(text):
            paragraph = paragraph.strip()
            if _reads_like_text(paragraph):
                yield from _pieces(paragraph)


@dataclass(frozen=True)
class BaseText:
    """A document of real text and the group it comes from."""

    text: str
    group: str


def find_parts(seed: int) -> Iterator[TextPart]:
    """All text there is, as it is taken: prose first, then comments, change logs and source code."""
    site_packages, standard_library = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
    installed = _files([site_packages, standard_library], (".py", *_WRITTEN))
    modules = [path for path in installed if path.endswith(".py")]
    written = [path for path in installed if path.endswith(_WRITTEN)]
    documentation = _files(["/usr/share/doc"], (".html", ".gz", *_WRITTEN))
    debian = [TextPart(_debian_group(path), path) for path in documentation if not _is_translation(path)]
    prose = [
        *(TextPart("docstrings", path) for path in modules),
        *(TextPart("package documentation", path) for path in written),
        *(part for part in debian if part.group != "change logs"),
        *_large("dictionary", "/usr/share/dictd/gcide.dict.dz"),
        *(part for kind in _WORDNET for part in _large("glosses", f"/usr/share/wordnet/data.{kind}")),
    ]
    yield from _shuffled(prose, seed)
    yield from _shuffled([TextPart("comments", path) for path in modules], seed)
    yield from _shuffled([part for part in debian if part.group == "change logs"], seed)
    yield from _shuffled([TextPart("source code", path) for path in modules], seed)


def installed_fingerprint() -> str:
    """A hash over the installed distributions and Debian's documentation: other text, another corpus."""
    names = sorted(name for name in os.listdir(sysconfig.get_path("purelib")) if name.endswith(".dist-info"))
    folders = ("/usr/share/doc", "/usr/share/dictd", "/usr/share/wordnet")
    documents = [name for folder in folders if os.path.isdir(folder) for name in sorted(os.listdir(folder))]
    return xxhash.xxh3_64_hexdigest("\n".join([sys.version, *names, *documents]).encode())


def cut_documents(parts: Iterable[TextPart], seed: int) -> Iterator[BaseText]:
    """Documents of 500 to 10,000 characters, about 3,300 in the mean; what a file leaves over goes into the
    next document of its group."""
    seen: set[int] = set()
    waiting: dict[str, _Growing] = {}
    for part in parts:
        held = waiting.setdefault(part.group, _Growing())
        for paragraph in part.paragraphs():
            key = xxhash.xxh3_64_intdigest(" ".join(paragraph.lower().split()).encode())
            if key in seen:
                continue
            seen.add(key)
            if held.characters + len(paragraph) > MAXIMUM_CHARACTERS:
                yield BaseText(held.taken(), part.group)
            if not held.paragraphs:
                held.wanted = _wanted_characters(key, seed)
            held.add(paragraph)
            if held.characters >= held.wanted:
                yield BaseText(held.taken(), part.group)


@dataclass
class _Growing:
    """The paragraphs of the next document of a group."""

    paragraphs: list[str] = field(default_factory=list)
    characters: int = 0
    wanted: float = 0.0

    def add(self, paragraph: str) -> None:
        self.paragraphs.append(paragraph)
        self.characters += len(paragraph) + 2

    def taken(self) -> str:
        text = "\n\n".join(self.paragraphs)
        self.paragraphs, self.characters = [], 0
        return text


def _wanted_characters(key: int, seed: int) -> float:
    """Log-uniform, so that short documents are the commonest, as on the web."""
    share = xxhash.xxh3_64_intdigest(key.to_bytes(8, "little"), seed=seed) / 2**64
    return _LEAST_WANTED * (_MOST_WANTED / _LEAST_WANTED) ** share


def _files(roots: list[str], endings: tuple[str, ...]) -> list[str]:
    """All files with one of the endings; what lies in a root's site-packages belongs to the other root."""
    found: list[str] = []
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in ("site-packages", "__pycache__")]
            found += [f"{folder}/{name}" for name in names if name.endswith(endings)]
    return sorted(found)


def _debian_group(path: str) -> str:
    if os.path.basename(path).lower().startswith(("changelog", "news", "changes")):
        return "change logs"
    known = {"debian-handbook": "handbook", "python3.11": "python documentation"}
    return known.get(path.split("/")[4], "debian documentation")


def _is_translation(path: str) -> bool:
    """Word 5-grams and English heuristics are what is compared, so of the handbook only English is taken."""
    return "/debian-handbook/html/" in path and "/en-US/" not in path


def _large(group: str, path: str) -> Iterator[TextPart]:
    if os.path.isfile(path):
        for start in range(0, len(_large_text(group, path)), _PART_CHARACTERS):
            yield TextPart(group, path, start)


def _shuffled(parts: list[TextPart], seed: int) -> list[TextPart]:
    return sorted(parts, key=lambda part: xxhash.xxh3_64_intdigest(part.name.encode(), seed=seed))


@lru_cache(maxsize=8)
def _large_text(group: str, path: str) -> str:
    return _text_of(group, path)


def _text_of(group: str, path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE_BYTES)
        if path.endswith((".gz", ".dz")):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return ""  # unreadable or no gzip after all: text from elsewhere takes its place
    return _EXTRACT.get(group, _plain)(data.decode("utf-8", "ignore").replace("\r\n", "\n"))


def _plain(text: str) -> str:
    if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
        return re.sub(r"\n\s*\n\s*", "\n\n", html.unescape(_MARKUP.sub("", text)))
    return text


def _docstrings(text: str) -> str:
    return "\n\n".join(match[1] or match[2] or "" for match in _TRIPLE_QUOTED.finditer(text))


def _comments(text: str) -> str:
    return "\n\n".join(_COMMENT_MARK.sub("", match[0]) for match in _COMMENTS.finditer(text))


def _glosses(text: str) -> str:
    """The definitions and examples, eight synonym sets a paragraph: one alone is a sentence."""
    glosses = _GLOSS.findall(text)
    return "\n\n".join("\n".join(glosses[at : at + 8]) for at in range(0, len(glosses), 8))


_EXTRACT: dict[str, Callable[[str], str]] = {
    "docstrings": _docstrings,
    "comments": _comments,
    "glosses": _glosses,
    "source code": str,
}


def _reads_like_text(paragraph: str) -> bool:
    if len(paragraph) < 20 or _LONG_WORD.search(paragraph):
        return False
    return sum(map(str.isalpha, paragraph[:400])) > 0.55 * len(paragraph[:400])


def _pieces(paragraph: str) -> Iterator[str]:
    """A paragraph; one that would not fit into a document in several pieces, cut between lines or words."""
    while len(paragraph) > MAXIMUM_CHARACTERS // 2:
        cut = max(paragraph.rfind("\n", 0, 4_000), paragraph.rfind(" ", 0, 4_000))
        cut = cut if cut > 1_000 else 4_000
        yield paragraph[:cut].rstrip()
        paragraph = paragraph[cut:].lstrip()
    yield paragraph
