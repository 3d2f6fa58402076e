"""Looking at an answer while it is made: what could be the beginning of a match is held back.

What was shown is always text in front of the first match of a rule that blocks, however the answer is cut
into pieces. Each piece costs a search of itself and of what is held back, never of the whole answer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from heliostat.serving.guard.classifier import WINDOW
from heliostat.serving.guard.folding import Folded, lowered
from heliostat.serving.guard.matching import Patterns, Spot
from heliostat.serving.guard.rules import Finding, Judge, Looked, Rules, spans_of

# Kept in front of what is held back: what personal data is called stands in front of it.
_CONTEXT = 128
# Characters after which a classifier looks at the last `WINDOW` again.
_STRETCH = 64


class Unfolded:
    """The text of an answer as it is, with the same face as `Folded`."""

    __slots__ = ("start", "text")

    def __init__(self) -> None:
        self.text = ""
        self.start = 0

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)

    def push(self, text: str) -> None:
        """Take what follows."""
        self.text += text

    def forget(self, place: int) -> None:
        """Keep nothing in front of a place, but the character in front of it."""
        place = max(self.start, place - 1)
        self.text = self.text[place - self.start :]
        self.start = place

    def place_of(self, origin: int) -> int:
        """The place that came from there, or one in front of it."""
        return origin

    def origin(self, place: int) -> int:
        """Where it comes from."""
        return place

    def origin_end(self, place: int) -> int:
        """Where it comes from."""
        return place


@dataclass(slots=True)
class _Seen:
    """What a step over the answer has found."""

    boundary: int
    places: list[tuple[int, int, Looked, Spot]] = field(default_factory=list)


class OutputReview:
    """One answer's review. Feed it with `push`, end it with `flush`, and show what they return."""

    def __init__(self, rules: Rules, fold: bool, count: Callable[[list[Finding]], None]) -> None:
        self.blocked: Finding | None = None
        """Why the answer ends here, if it does; nothing is shown any more."""
        self.findings: list[Finding] = []
        self._rules = rules
        self._count = count
        self._raw = Unfolded()
        self._folded = Folded("", fold)
        self._as_is = tuple(each for each in rules.looked if not each.in_lowered)
        self._in_lowered = tuple(each for each in rules.looked if each.in_lowered)
        self._held: list[str] = []
        self._shown = 0
        self._received = 0
        self._counted: dict[str, int] = {}
        self._stretches = _Stretches(rules.judges)
        self._idle = not rules.looked and not rules.judges

    def push(self, text: str) -> str:
        """Take what follows, and return what may be shown by now."""
        if self.blocked or self._idle or not text:
            return "" if self.blocked else text
        self._held.append(text)
        self._received += len(text)
        self._raw.push(text)
        self._folded.push(text)
        return self._advance(final=False)

    def flush(self) -> str:
        """The end of the answer: what was held back and may be shown."""
        return "" if self.blocked or self._idle else self._advance(final=True)

    def _advance(self, final: bool) -> str:
        seen = _Seen(self._received)
        for view, text, looked in self._views():
            for each in looked:
                self._look(view, text, each, final, seen)
        found = self._new_findings(seen)
        judged = self._stretches.judge(self._folded, final)
        if self._rules.judges and not final:
            seen.boundary = min(seen.boundary, self._folded.origin(self._stretches.judged))
        found += judged
        self._count(found)
        self.findings += found
        self.blocked = next((finding for finding in found if finding.acts("block")), None)
        if self.blocked:
            seen.boundary = min(
                seen.boundary, self._cut(seen, any(finding.acts("block") for finding in judged))
            )
        shown = self._show(seen)
        self._forget()
        return shown

    def _views(self) -> Iterator[tuple[Unfolded | Folded, str, tuple[Looked, ...]]]:
        """The forms of what is kept of the answer, and the rules that look at each."""
        if self._as_is:
            yield self._raw, self._raw.text, self._as_is
            text = self._folded.text
            if text != self._raw.text:
                ascii_only = self._raw.text.isascii()
                looked = tuple(each for each in self._as_is if not ascii_only or _sees_spaces(each))
                yield self._folded, text, looked
        if self._in_lowered:
            yield self._folded, lowered(self._folded.text), self._in_lowered

    def _look(self, view: Unfolded | Folded, text: str, looked: Looked, final: bool, seen: _Seen) -> None:
        matcher = looked.matcher
        for spot in matcher.spots(text, 1 if view.start else 0):
            start = view.origin(view.start + spot.start)
            # At the very end it may go on, or turn out to be no word of its own.
            if spot.end == len(text) and not final and spot.end - spot.start <= matcher.longest:
                seen.boundary = min(seen.boundary, start)
            else:
                seen.places.append((start, view.origin_end(view.start + spot.end), looked, spot))
        if not final:
            held = min(matcher.held(text), len(text))
            if held:
                seen.boundary = min(seen.boundary, view.origin(view.end - held))

    def _new_findings(self, seen: _Seen) -> list[Finding]:
        """One for each rule with places that have not been counted."""
        new: dict[str, tuple[Looked, int, str]] = {}
        for start, end, looked, spot in sorted(seen.places, key=lambda place: place[:2]):
            rule = looked.rule.id
            if start >= self._counted.get(rule, 0):
                self._counted[rule] = end
                _, times, what = new.get(rule, (looked, 0, spot.what))
                new[rule] = looked, times + 1, what
        return [
            Finding(looked.rule.id, looked.rule.action, looked.rule.dry_run, 0, times, what)
            for looked, times, what in new.values()
        ]

    def _cut(self, seen: _Seen, judged: bool) -> int:
        """Where the first thing stands for which the answer is blocked."""
        starts = [
            start
            for start, _, looked, _ in seen.places
            if looked.rule.action == "block" and not looked.rule.dry_run
        ]
        if judged:
            starts.append(self._folded.origin(self._stretches.begun))
        return max(min(starts, default=self._received), self._shown)

    def _show(self, seen: _Seen) -> str:
        """What may be shown, with what is redacted replaced; a place that begins in it goes as a whole."""
        redacted = [
            (max(start, self._shown), end, looked.label(spot.what) if start >= self._shown else "")
            for start, end, looked, spot in seen.places
            if looked.rule.action == "redact" and not looked.rule.dry_run and end > self._shown
        ]
        if seen.boundary <= self._shown and not redacted:
            return ""
        held, first = "".join(self._held), self._shown
        parts: list[str] = []
        for start, end, label in spans_of(redacted):
            if start >= seen.boundary and label:
                break
            parts += (held[self._shown - first : start - first], label)
            self._shown = end
        if seen.boundary > self._shown:
            parts.append(held[self._shown - first : seen.boundary - first])
            self._shown = seen.boundary
        self._held = [held[self._shown - first :]]
        return "".join(parts)

    def _forget(self) -> None:
        self._raw.forget(self._shown - _CONTEXT)
        place = self._folded.place_of(self._shown) - _CONTEXT
        if self._rules.judges:
            place = min(place, self._stretches.judged - WINDOW)
        self._folded.forget(place)


def _sees_spaces(looked: Looked) -> bool:
    """Whether it matters to a rule that line ends and runs of spaces become one space."""
    return isinstance(looked.matcher, Patterns)


class _Stretches:
    """Classifiers that look at the last `WINDOW` characters, at the same places however an answer comes."""

    def __init__(self, judges: tuple[Judge, ...]) -> None:
        self._judges = judges
        self._found: set[str] = set()
        self.judged = 0
        """Up to where the folded answer has been looked at."""
        self.begun = 0
        """Where the stretch begins that was looked at last."""

    def judge(self, folded: Folded, final: bool) -> list[Finding]:
        """Look at all stretches that are whole by now; each rule finds once an answer."""
        found: list[Finding] = []
        while self._judges and not any(finding.acts("block") for finding in found):
            end = self.judged + _STRETCH
            if end > folded.end:
                if not final or folded.end == self.judged:
                    break
                end = folded.end
            self.begun = self.judged
            text = lowered(folded.text[max(0, end - WINDOW - folded.start) : end - folded.start])
            self.judged = end
            for judge in self._judges:
                rule, score = judge.rule, judge.classifier.score(text)
                if score >= rule.threshold and rule.id not in self._found:
                    self._found.add(rule.id)
                    found.append(Finding(rule.id, rule.action, rule.dry_run, score=round(score, 4)))
        return found
