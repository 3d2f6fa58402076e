"""What the benchmark plants into real text, and knows afterwards: edited copies, short texts, personal data.

Everything follows from the `random.Random` that is handed in.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.overlap import jaccard, shingles_of

NEAR_FROM, NEAR_TO = 0.5, 0.95
_SPACE = re.compile(r"(\s+)")
_SENTENCE_END = re.compile(r"((?<=[.!?:;])\s+|\n+)")
_PARAGRAPH_END = re.compile(r"\n\n")
_TRIES = 8


@dataclass(frozen=True)
class Near:
    """An edited copy, its measured Jaccard similarity with the original, and how it was edited."""

    text: str
    jaccard: float
    edits: str


@dataclass(frozen=True)
class PlantedSpan:
    """Personal data that was put in: text[start:end] is `value`."""

    kind: str
    start: int
    end: int
    value: str


def near_duplicate(text: str, words: Sequence[str], chance: random.Random, target: float) -> Near | None:
    """The text edited until its similarity lies within 0.02 of the target, or as near as eight tries come.

    Words are deleted, inserted or exchanged for others out of `words`, sentences removed, or both. None when
    no try came to lie between 0.5 and 0.95.
    """
    edits = chance.choice(("words", "sentences", "both"))
    original = shingles_of(text)
    strength = 1.0
    best: Near | None = None
    for _ in range(_TRIES):
        edited = _edited(text, edits, 1 - (1 - target) * strength, words, chance)
        found = jaccard(original, shingles_of(edited))
        better = best is None or abs(found - target) < abs(best.jaccard - target)
        if NEAR_FROM <= found <= NEAR_TO and better:
            best = Near(edited, found, edits)
        if abs(found - target) < 0.02:
            break
        strength *= min(2.0, max(0.5, (1 - target) / max(1 - found, 0.01)))
        strength = min(strength, 0.9 / (1 - target))
    return best


def _edited(text: str, edits: str, wanted: float, words: Sequence[str], chance: random.Random) -> str:
    """The text edited so that its similarity should be about `wanted`, were no shingle there twice."""
    if edits == "sentences":
        return _without_sentences(text, 1 - wanted, chance)
    if edits == "both":
        text = _without_sentences(text, (1 - wanted) / 2, chance)
        wanted = (1 + wanted) / 2
    surviving = 2 * wanted / (1 + wanted)  # J = s / (2 - s) when as many shingles come as go
    return _with_other_words(text, 1 - surviving ** (1 / 5), words, chance)


def _without_sentences(text: str, share: float, chance: random.Random) -> str:
    """Without random sentences or lines that make up about that share of the words."""
    pieces = _SENTENCE_END.split(text)
    sentences = list(range(0, len(pieces), 2))
    chance.shuffle(sentences)
    to_go = share * len(text.split())
    for place in sentences:
        size = len(pieces[place].split())
        if size <= to_go * 1.2:
            to_go -= size
            pieces[place] = ""
            if place + 1 < len(pieces):
                pieces[place + 1] = ""
    return "".join(pieces).strip()


def _with_other_words(text: str, rate: float, words: Sequence[str], chance: random.Random) -> str:
    """With that share of the words deleted, followed by another word, or exchanged."""
    pieces = _SPACE.split(text)
    for place in range(0, len(pieces), 2):
        if chance.random() >= rate:
            continue
        edit = chance.randrange(3)
        if edit == 0:
            pieces[place] = ""
        elif edit == 1:
            pieces[place] += " " + chance.choice(words)
        else:
            pieces[place] = chance.choice(words)
    return "".join(pieces).strip()


def short_text(words: Sequence[str], chance: random.Random) -> str:
    """One to four words."""
    return " ".join(chance.choice(words) for _ in range(chance.randint(1, 4)))


def with_personal_data(text: str, chance: random.Random) -> tuple[str, list[PlantedSpan]]:
    """The text with one to three sentences between its paragraphs that hold personal data, and their places.

    All values are examples nobody owns: RFC 2606 domains, RFC 5737 networks, 555-01xx and Ofcom's numbers for
    drama, the card brands' published test numbers.
    """
    paragraphs = _PARAGRAPH_END.split(text)
    added = []
    for _ in range(chance.randint(1, 3)):
        kind = chance.choice(sorted(_VALUES))
        value = _VALUES[kind](chance)
        place = chance.randint(0, len(paragraphs))
        paragraphs.insert(place, chance.choice(_SENTENCES[kind]).format(value))
        added.append((kind, value, paragraphs[place]))
    whole = "\n\n".join(paragraphs)
    spans = []
    for kind, value, sentence in added:
        start = whole.index(sentence) + sentence.index(value)
        spans.append(PlantedSpan(kind, start, start + len(value), value))
    return whole, sorted(set(spans), key=lambda span: span.start)


def _email(chance: random.Random) -> str:
    name = f"{_name(chance)}{chance.choice('._-')}{_name(chance)}{chance.randint(1, 99_999)}"
    return f"{name}@{chance.choice(('', 'mail.', 'support.'))}example.{chance.choice(('com', 'org', 'net'))}"


def _ipv4(chance: random.Random) -> str:
    network = chance.choice(("192.0.2", "198.51.100", "203.0.113"))
    return f"{network}.{chance.randint(1, 254)}"


def _phone(chance: random.Random) -> str:
    number = f"{chance.randint(100, 199):04d}"
    area = chance.choice(("202", "212", "303", "415", "617", "702"))
    styles = (
        f"+1 {area}-555-{number}",
        f"+1 ({area}) 555-{number}",
        f"+1-{area}-555-{number}",
        f"+44 20 7946 0{chance.randint(0, 999):03d}",
        f"+44 161 496 0{chance.randint(0, 999):03d}",
    )
    return chance.choice(styles)


def _credit_card(chance: random.Random) -> str:
    digits = chance.choice(_TEST_CARDS)
    if len(digits) != 16:
        return digits
    return chance.choice(("", " ", "-")).join(digits[at : at + 4] for at in range(0, 16, 4))


def _name(chance: random.Random) -> str:
    return "".join(chance.choice(_SYLLABLES) for _ in range(chance.randint(2, 3)))


_SYLLABLES = (
    "an",
    "bel",
    "cor",
    "da",
    "el",
    "fi",
    "gar",
    "hol",
    "is",
    "jo",
    "ka",
    "lin",
    "mar",
    "no",
    "ru",
    "ta",
)
_TEST_CARDS = (
    "4111111111111111",
    "4012888888881881",
    "5555555555554444",
    "5105105105105100",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "3530111333300000",
)
_VALUES = {"email": _email, "ipv4": _ipv4, "phone": _phone, "credit_card": _credit_card}
_SENTENCES = {
    "email": ("Write to {} for details.", "The maintainer can be reached at {} on weekdays.", "Contact: {}"),
    "ipv4": ("The request came from {} last night.", "Point the client at {} and try again.", "Host: {}"),
    "phone": ("Call {} during office hours.", "The help desk answers on {} until five.", "Phone: {}"),
    "credit_card": ("The card {} was charged twice.", "Use card number {} in the form.", "Paid with {}"),
}
