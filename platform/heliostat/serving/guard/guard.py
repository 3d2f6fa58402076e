"""The guard: rules made ready, that look at requests and answers. Immutable; a change is another guard."""

import asyncio
import hashlib
import json
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heliostat.serving.guard.config import GuardConfig, Unfolding
from heliostat.serving.guard.layers import Layer, unfold
from heliostat.serving.guard.moderator import ask_moderator
from heliostat.serving.guard.output import OutputReview
from heliostat.serving.guard.rules import Finding, Looked, Rules, build_rules, spans_of

if TYPE_CHECKING:
    import httpx

# Shorter ones are looked at in less time than it takes to ask a thread.
_FEW_CHARACTERS = 1000
_MOST_SPOTS = 10_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputReview:
    """What became of a request's texts."""

    texts: tuple[str, ...]
    """As they may go on, with what is redacted replaced."""
    findings: tuple[Finding, ...] = ()

    @property
    def blocked(self) -> Finding | None:
        """Why the request is refused, if it is."""
        return next((finding for finding in self.findings if finding.acts("block")), None)

    @property
    def held(self) -> tuple[str, ...]:
        """The rules for which a person has to decide; see `ReviewQueue.ask`."""
        return tuple(dict.fromkeys(each.rule for each in self.findings if each.acts("review")))


@dataclass(frozen=True)
class Guard:
    """All that is needed to look at requests and answers; safe to use from several threads."""

    version: str
    """A fingerprint of the rules and the contents of their files: what was cached under it may be shown."""
    unfolding: Unfolding
    requests: Rules
    answers: Rules
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Findings by rule, "input" or "output", and the action taken or "dry_run"."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def build(cls, config: GuardConfig, folder: str | Path = ".") -> "Guard":
        """Compile the rules; files are named relative to `folder`. Some 50 ms.

        Raises:
            ConfigError: a pattern, a word list or a classifier is wrong; the line names the rule.
        """
        requests, answers, contents = build_rules(config, Path(folder))
        stated = json.dumps([config.canonical(), contents], sort_keys=True)
        version = hashlib.sha256(stated.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return cls(version, config.unfolding, requests, answers)

    def review_input(self, texts: Sequence[str]) -> InputReview:
        """Look at a request's texts; all rules but the moderators. No text makes it fail."""
        findings: list[Finding] = []
        passed: list[str] = []
        for number, text in enumerate(texts):
            found, redacted = self._look(text, number)
            findings += found
            passed.append(redacted)
        self._count("input", findings)
        return InputReview(tuple(passed), tuple(findings))

    async def review(self, texts: Sequence[str], client: "httpx.AsyncClient | None" = None) -> InputReview:
        """`review_input`, in a thread for long texts, and then the moderators, through `client`.

        They are asked only about what is not blocked, and see what is redacted already.
        """
        if sum(map(len, texts)) <= _FEW_CHARACTERS:
            seen = self.review_input(texts)
        else:
            seen = await asyncio.to_thread(self.review_input, texts)
        if seen.blocked or not self.requests.moderators:
            return seen
        if client is None:
            import httpx

            async with httpx.AsyncClient() as own:
                return await self._ask_moderators(seen, own)
        return await self._ask_moderators(seen, client)

    async def _ask_moderators(self, seen: InputReview, client: "httpx.AsyncClient") -> InputReview:
        asked = [ask_moderator(client, rule, seen.texts) for rule in self.requests.moderators]
        found = [finding for finding in await asyncio.gather(*asked) if finding]
        self._count("input", found)
        return InputReview(seen.texts, (*seen.findings, *found))

    @property
    def looks_at_answers(self) -> bool:
        """Whether there is a rule for answers."""
        return bool(self.answers.looked or self.answers.judges)

    @property
    def holds_requests(self) -> bool:
        """Whether a rule holds requests for a person's decision, which may change."""
        rules = [each.rule for each in self.requests.looked] + [each.rule for each in self.requests.judges]
        return any(rule.action == "review" for rule in rules)

    def output(self) -> OutputReview:
        """What looks at one answer while it is made."""
        return OutputReview(
            self.answers, self.unfolding.fold, lambda findings: self._count("output", findings)
        )

    def _look(self, text: str, number: int) -> tuple[list[Finding], str]:
        findings: list[Finding] = []
        redacted: list[tuple[int, int, str]] = []
        layers = unfold(text, self.unfolding)
        for looked in self.requests.looked:
            places, what = self._places(looked, layers)
            if not places:
                continue
            rule = looked.rule
            findings.append(Finding(rule.id, rule.action, rule.dry_run, number, len(places), what))
            if rule.action == "redact" and not rule.dry_run:
                redacted += places
        for judge in self.requests.judges:
            score = max(judge.score(layer.folded) for layer in layers)
            if score >= judge.rule.threshold:
                rule = judge.rule
                findings.append(Finding(rule.id, rule.action, rule.dry_run, number, score=round(score, 4)))
        return findings, replaced(text, redacted) if redacted else text

    def _places(self, looked: Looked, layers: list[Layer]) -> tuple[list[tuple[int, int, str]], str]:
        """Where a rule's spots lie in the text, each once, and what the first is."""
        found: dict[tuple[int, int], str] = {}
        what = ""
        acts_once = looked.rule.action != "redact"
        for layer in layers:
            for start, end, kind in layer.spots(looked):
                what = what or kind
                found.setdefault((start, end), looked.label(kind))
                if len(found) >= _MOST_SPOTS and acts_once:
                    break
        return [(start, end, label) for (start, end), label in found.items()], what

    def _count(self, place: str, findings: Sequence[Finding]) -> None:
        for finding in findings:
            taken = "dry_run" if finding.dry_run else finding.action
            with self._lock:
                self.counts[finding.rule, place, taken] += finding.count
            logger.info(
                "guard: rule=%s on=%s action=%s count=%d what=%s score=%s",
                *(finding.rule, place, taken, finding.count, finding.what, finding.score),
            )


def replaced(text: str, places: list[tuple[int, int, str]]) -> str:
    """The text with labels in place of what is redacted."""
    parts: list[str] = []
    done = 0
    for start, end, label in spans_of(places):
        parts += (text[done:start], label)
        done = end
    return "".join((*parts, text[done:]))
