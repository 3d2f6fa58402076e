"""The rules of a config made ready: matchers compiled, lists and models read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heliostat.errors import ConfigError
from heliostat.serving.guard.classifier import DEFAULT_MODEL, Classifier, load_classifier
from heliostat.serving.guard.config import (
    ClassifierRule,
    GuardConfig,
    ModeratorRule,
    PatternRule,
    PiiRule,
    Rule,
    WordsRule,
)
from heliostat.serving.guard.folding import Folded, lowered
from heliostat.serving.guard.matching import Matcher, Patterns, PersonalData, Words

_LONGEST_LIST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found in a text: how often, or how probable; never the text itself."""

    rule: str
    action: str
    dry_run: bool
    text: int = 0
    """Which of the texts."""
    count: int = 1
    what: str = ""
    """The kind of personal data, the listed word, or why a service was not asked."""
    score: float | None = None

    def acts(self, action: str) -> bool:
        """Whether this action has to be taken."""
        return self.action == action and not self.dry_run


@dataclass(frozen=True, slots=True)
class Looked:
    """A rule with what it looks for; `where` says in which form of a text."""

    rule: Rule
    matcher: Matcher
    in_lowered: bool

    @property
    def label(self) -> Callable[[str], str]:
        """What stands in place of a spot that is redacted: personal data's kind, else the rule's id."""
        if isinstance(self.rule, PiiRule):
            return lambda what: f"[{what.upper()}]"
        return lambda what: f"[{self.rule.id.upper()}]"


@dataclass(frozen=True, slots=True)
class Judge:
    """A rule with the classifier that judges a text."""

    rule: ClassifierRule
    classifier: Classifier

    def score(self, folded: Folded) -> float:
        """How probable it is that the rule holds."""
        return self.classifier.score(lowered(folded.text))


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules that look at one side, requests or answers."""

    looked: tuple[Looked, ...]
    judges: tuple[Judge, ...]
    moderators: tuple[ModeratorRule, ...]


def build_rules(config: GuardConfig, folder: Path) -> tuple[Rules, Rules, dict[str, str]]:
    """The rules for requests, those for answers, and of each file that was read what its content was.

    Raises:
        ConfigError: a pattern, a list or a classifier is wrong; the line names the rule.
    """
    looked: list[Looked] = []
    judges: list[Judge] = []
    moderators: list[ModeratorRule] = []
    contents: dict[str, str] = {}
    for rule in config.rules if config.enabled else ():
        if isinstance(rule, ModeratorRule):
            moderators.append(rule)
        elif isinstance(rule, ClassifierRule):
            judges.append(_judge(rule, folder, contents))
        else:
            looked.append(Looked(rule, _matcher(rule, config, folder, contents), isinstance(rule, WordsRule)))
    requests = Rules(
        tuple(each for each in looked if each.rule.on_input),
        tuple(each for each in judges if each.rule.on_input),
        tuple(moderators),
    )
    answers = Rules(
        tuple(each for each in looked if each.rule.on_output),
        tuple(each for each in judges if each.rule.on_output),
        (),
    )
    return requests, answers, contents


def _matcher(
    rule: PatternRule | WordsRule | PiiRule, config: GuardConfig, folder: Path, contents: dict[str, str]
) -> Matcher:
    if isinstance(rule, PatternRule):
        return Patterns(rule.id, rule.patterns, rule.longest)
    if isinstance(rule, PiiRule):
        return PersonalData(rule.id, rule.kinds, rule.regions)
    listed = list(rule.words)
    if rule.file is not None:
        content = _read(rule.id, folder / rule.file)
        contents[rule.id] = content
        listed += [line for line in map(str.strip, content.splitlines()) if line]
        if not listed:
            raise ConfigError(f"guard rule '{rule.id}': {folder / rule.file}: has no words; give one a line")
    return Words(rule.id, listed, rule.whole_words, config.unfolding.digits_as_letters)


def _judge(rule: ClassifierRule, folder: Path, contents: dict[str, str]) -> Judge:
    import hashlib

    path = DEFAULT_MODEL if rule.model is None else folder / rule.model
    try:
        classifier = load_classifier(path)
    except ConfigError as error:
        raise ConfigError(f"guard rule '{rule.id}': {error}") from None
    digest = hashlib.sha256(classifier.weights.tobytes() + str(classifier.bias).encode())
    contents[rule.id] = digest.hexdigest()
    return Judge(rule, classifier)


def _read(rule: str, path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST_LIST_BYTES:
            raise ConfigError(f"guard rule '{rule}': {path}: has more than {_LONGEST_LIST_BYTES} bytes")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"guard rule '{rule}': {path}: {error.strerror}; correct the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"guard rule '{rule}': {path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None


def spans_of(places: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Places with what stands there instead, in order; of those that overlap one is left, over all."""
    joined: list[tuple[int, int, str]] = []
    for start, end, label in sorted(places, key=lambda place: (place[0], -place[1])):
        if joined and start < joined[-1][1]:
            first, last, kept = joined[-1]
            joined[-1] = (first, max(last, end), kept)
        else:
            joined.append((start, end, label))
    return joined
