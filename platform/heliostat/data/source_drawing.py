"""An inspection in words, for a terminal or a pipe.

In a terminal what the model learns is green and what it only reads is dim; where there are no colours, what
it learns stands between ⟦ and ⟧.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from heliostat.data.documents import Document
from heliostat.data.inspection import Inspection, Lengths

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MAX_WIDTH = 100
NAME_WIDTH = 12
MAX_COLUMNS = 30
SAMPLE_CHARACTERS = 1500
ROLE_STYLES = {"system": "dim", "user": "cyan", "assistant": "green", "tool": "yellow"}


def print_inspection(found: Inspection) -> None:
    """Print what was found to standard output."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, MAX_WIDTH) - NAME_WIDTH
    for name, lines in _facts(found, width):
        for position, line in enumerate(lines):
            console.print(f"{name if not position else '':{NAME_WIDTH}}{line}", markup=False)
    if found.sample:
        console.print(f"{'sample':{NAME_WIDTH}}{found.sample.uid}", markup=False)
        console.print(_sample(found, found.sample, console))


def _facts(found: Inspection, width: int) -> list[tuple[str, list[str]]]:
    """The names of the facts, and the lines that each takes."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items())
    per_file = "" if found.files_looked_at == 1 else f" of {found.files_looked_at:,} files"
    facts = [
        ("path", [found.path]),
        ("files", [f"{kinds}; {_size(found.bytes)}"]),
        ("left out", _wrapped(", ".join(found.left_out), width, most=3)),
        ("form", _wrapped(f"{found.form} ({found.why})", width)),
        (
            "rows",
            [f"{found.rows.number:,}" if found.rows.is_exact else f"about {found.rows.number:,} (estimated)"],
        ),
        ("looked at", [f"the first {found.looked_at:,} rows{per_file}"]),
        ("broken", _broken(found, width)),
        ("columns", _columns(found, width)),
        ("characters", _lengths(found.characters)),
        ("tokens", _lengths(found.tokens)),
        ("languages", _wrapped(", ".join(f"{name} {share:.0%}" for name, share in found.languages), width)),
        ("remarks", [line for remark in found.remarks for line in _wrapped(remark, width)]),
    ]
    return [(name, lines) for name, lines in facts if lines]


def _broken(found: Inspection, width: int) -> list[str]:
    if not found.broken:
        return ["none"]
    ordered = sorted(found.broken.items(), key=lambda item: (-item[1].number, item[0]))
    longest = max(len(reason) for reason, _ in ordered)
    return [
        _cut(
            f"{said.number:>6,}  {reason:{longest}}  first: {said.first_uid} {_shown(said.detail)}".rstrip(),
            width,
        )
        for reason, said in ordered
    ]


def _columns(found: Inspection, width: int) -> list[str]:
    if not found.columns:
        return []
    longest = min(24, max(len(name) for name, _, _ in found.columns))
    lines = []
    for name, kind, read_as in found.columns[:MAX_COLUMNS]:
        role = f"  -> {read_as}" if read_as else ""
        head = f"{_cut(_shown(name), longest):{longest}}  "
        lines.append(f"{head}{_cut(kind, width - len(head) - len(role))}{role}")
    more = len(found.columns) - MAX_COLUMNS
    return [*lines, f"and {more:,} more"] if more > 0 else lines


def _lengths(lengths: Lengths | None) -> list[str]:
    if lengths is None:
        return []
    shares = (
        ("least", lengths.least),
        ("10 %", lengths.tenth),
        ("median", lengths.median),
        ("90 %", lengths.ninetieth),
        ("99 %", lengths.ninety_ninth),
        ("most", lengths.most),
    )
    return ["  ".join(f"{name} {value:,}" for name, value in shares)]


def _sample(found: Inspection, sample: Document, console: "Console") -> "Text":
    """The first usable row: as the model sees it, or by role."""
    from rich.text import Text

    if found.sample_runs:
        return runs_text(found.sample_runs, bool(console.color_system))
    text = Text()
    if sample.messages:
        for message in sample.messages:
            _append_message(text, message["role"], message)
        for message in sample.rejected:
            _append_message(text, f"rejected {message['role']}", message)
    else:
        text.append(_cut(_shown(sample.text), SAMPLE_CHARACTERS))
    return text


def runs_text(
    runs: Iterable[tuple[str, bool]], has_colours: bool, characters: int = SAMPLE_CHARACTERS
) -> "Text":
    """A rendered document, (text, is it learned), cut at so many characters; what is learned is marked."""
    from rich.text import Text

    text, left = Text(), characters
    for run, is_learned in runs:
        shown = _cut(_shown(run), left)
        marks = ("⟦", "⟧") if is_learned and not has_colours else ("", "")
        text.append(f"{marks[0]}{shown}{marks[1]}", style="green" if is_learned else "dim")
        left -= len(shown)
        if left <= 0:
            break
    return text


def _append_message(text: "Text", heading: str, message: dict[str, object]) -> None:
    said = str(message["content"])
    if message.get("tool_calls"):
        said = f"{said}\n{message['tool_calls']}".strip()
    text.append(f"{heading}\n", style="bold")
    text.append(
        f"{_cut(_shown(said), SAMPLE_CHARACTERS // 2)}\n", style=ROLE_STYLES.get(str(message["role"]), "")
    )


def _shown(text: str) -> str:
    """The text without what would steer the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def _wrapped(text: str, width: int, most: int = 6) -> list[str]:
    """The text in lines; at most so many, the last of which says that there is more."""
    import textwrap

    return textwrap.wrap(text, width, max_lines=most, placeholder=" …")


def _size(size: int) -> str:
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:,.1f} {unit}"
    return f"{size} bytes"
