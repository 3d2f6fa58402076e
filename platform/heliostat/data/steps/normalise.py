"""Repairing the text of a document, and what may be taken from it for counting and comparing."""

from collections.abc import Callable
from typing import Literal

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.normalise import collapse_spaces, normalise, remove_punctuation, repair_mojibake


class NormaliseStep(Config):
    """Repair white space, line ends, control and zero-width characters; compose Unicode.

    The rest is for text that is to be counted or compared: a model that is to write should see capitals,
    punctuation and indentation.
    """

    kind: Literal["normalise"] = "normalise"
    unicode_form: Literal["NFC", "NFKC"] = "NFC"
    fix_mojibake: bool = False
    """Undo UTF-8 that was read as another encoding, before all else; see `text.normalise.repair_mojibake`."""
    lowercase: bool = False
    remove_punctuation: bool = False
    """All of Unicode's, Chinese included, and the signs ``$+<=>^`|~``; nothing is put in their place."""
    collapse_spaces: bool = False
    """Make each run of spaces and tabs one space; indentation and tables are lost."""


def make_normalise(config: NormaliseStep) -> DocumentStep:
    """The step. It refuses what is blank afterwards (`empty`, or `empty_message` in a conversation).

    Applied twice it changes nothing the second time.
    """
    change = _make_change(config)

    def step(document: Document) -> Document | Refusal:
        contents = document.contents
        changed = [change(text) for text in contents]
        if changed != contents:
            document = document.with_contents(changed)
        reason = document.blank_reason()
        return Refusal(reason) if reason else document

    return step


def _make_change(config: NormaliseStep) -> Callable[[str], str]:
    changes: list[Callable[[str], str]] = []
    if config.fix_mojibake:
        changes.append(repair_mojibake)
    changes.append(lambda text: normalise(text, config.unicode_form))
    if config.lowercase:
        changes.append(str.lower)
    if config.remove_punctuation:
        changes.append(remove_punctuation)
    if config.collapse_spaces:
        changes.append(collapse_spaces)
    if config.lowercase or config.remove_punctuation:
        # Without what stood between them, letters may compose and lines end in spaces.
        changes.append(lambda text: normalise(text, config.unicode_form))

    def change(text: str) -> str:
        for each in changes:
            text = each(text)
        return text

    return change
