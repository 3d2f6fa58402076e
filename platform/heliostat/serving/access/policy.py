"""Which caller may use which model by which route, from where and when: a casbin policy (ABAC).

The model is shipped here; the rules are a file of the workspace (`policy_rules.py`), followed while the
gateway runs. casbin takes a tenth of a millisecond for each rule it looks at, so it is shown only the rules
that speak of this caller, model, route and address, and its decision is kept for the minute it holds: rules
know nothing finer.
"""

import logging
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from heliostat.errors import ServingError
from heliostat.serving.access.callers import Caller, forbidden
from heliostat.serving.access.config import PolicyConfig, Route
from heliostat.serving.access.live_file import LiveFile
from heliostat.serving.access.patterns import like
from heliostat.serving.access.policy_rules import Rules, moments_of, networks_of, read_rules
from heliostat.storage import Storage, split_uri

if TYPE_CHECKING:
    from casbin import Enforcer

POLICY_PATH = "gateway/policy.csv"
MAX_DECISIONS = 8192
MODEL = """
[request_definition]
r = caller, model, route, address, moment

[policy_definition]
p = who, model, route, networks, moments, eft, line

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = like(r.model, p.model) && like(r.route, p.route) \
 && (is_who(r.caller, p.who) || g(r.caller.tenant, p.who)) \
 && inside(r.address, p.networks) && during(r.moment, p.moments)
"""
logger = logging.getLogger(__name__)


class Policy:
    """The rules of a gateway; without a file there are none, and everything is allowed."""

    def __init__(self, config: PolicyConfig, storage: Storage | None = None) -> None:
        """`storage` is the workspace's, for the file that the config does not name.

        Raises:
            ServingError: a rule cannot be read (its file and line), or the file that was named is not there.
            StorageError: the file cannot be read.
        """
        self._zone = ZoneInfo(config.timezone)
        self._file: LiveFile | None = None
        self._judge: Judge | None = None
        self._decisions: OrderedDict[tuple[object, ...], tuple[bool, str]] = OrderedDict()
        storage, path = (storage, POLICY_PATH) if config.file is None else split_uri(config.file)
        self._name = path.rpartition("/")[2]
        if storage is not None:
            self._file = LiveFile(storage, path, self._take, "the policy is not renewed, the old rules stay")
            self._file.read()
        if config.file is not None and self._judge is None:
            raise ServingError(
                f"policy file {config.file}: no such file; write one or leave it out of the config"
            )

    def check(
        self, caller: Caller, model: str, address: str, route: Route, now: datetime | None = None
    ) -> str | None:
        """The place of the rule that allows a request, such as `policy.csv:3`; None when there are no rules.

        `now` must know its time zone.

        Raises:
            RefusedRequest: 403, no rule allows it, or one denies it.
        """
        if self._judge is None:
            return None
        moment = (now or datetime.now(UTC)).astimezone(self._zone)
        minute = int(moment.timestamp()) // 60
        asked = (caller.tenant, caller.name, model, route, address, minute)
        decision = self._decisions.get(asked)
        if decision is None:
            decision = self._judge.decide(caller, model, route, address, moment)
            self._decisions[asked] = decision
            if len(self._decisions) > MAX_DECISIONS:
                self._decisions.popitem(last=False)
        allowed, rule = decision
        if not allowed:
            logger.info("policy: refused %s/%s: %s", caller.tenant, caller.name, rule or "no rule allows it")
            raise forbidden(
                "The rules of this gateway do not allow this request to you, from here, at this time"
            )
        return rule

    def refresh(self) -> None:
        """Read the file again if it has changed. What is wrong with it then is logged once, and the old rules
        stay."""
        if self._file:
            self._file.refresh()

    def _take(self, content: bytes, uri: str) -> None:
        self._judge = Judge(read_rules(content, uri), self._name)
        self._decisions = OrderedDict()


class Judge:
    """The rules of one file, as casbin judges by them."""

    def __init__(self, rules: Rules, name: str) -> None:
        """`name` is the file's, for naming a rule. Importing casbin takes 0.1 s."""
        import casbin

        model = casbin.Enforcer.new_model(text=MODEL)
        model["g"]["g"].policy.extend(list(group[:-1]) for group in rules.groups)
        self._enforcer: Enforcer = casbin.Enforcer(model)
        self._enforcer.build_role_links()
        for word, function in _FUNCTIONS.items():
            self._enforcer.add_function(word, function)
        self._rules = [list(rule) for rule in rules.rules]
        self._name = name
        self._about: dict[tuple[str, str], list[list[str]]] = {}
        self._groups = {group for _, group, _ in rules.groups}

    def decide(
        self, caller: Caller, model: str, route: str, address: str, moment: datetime, all_rules: bool = False
    ) -> tuple[bool, str]:
        """Whether it is allowed, and the rule that decided ("" when none did).

        `all_rules` shows casbin every rule, which changes the time it takes and nothing else.
        """
        shown = [
            rule
            for rule in (self._rules if all_rules else self._rules_about(caller))
            if all_rules or _concerns(rule, model, route, address)
        ]
        if not shown:
            return False, ""
        self._enforcer.model["p"]["p"].policy = shown
        allowed, rule = self._enforcer.enforce_ex(caller, model, route, address, moment)
        return bool(allowed), f"{self._name}:{rule[-1]}" if rule else ""

    def _rules_about(self, caller: Caller) -> list[list[str]]:
        """The rules whose WHO may mean a caller; kept, as all its requests ask."""
        who = (caller.tenant, caller.name)
        if who not in self._about:
            if len(self._about) >= MAX_DECISIONS:
                self._about.clear()
            self._about[who] = [
                rule for rule in self._rules if rule[0] in self._groups or _is_who(caller, rule[0])
            ]
        return self._about[who]


def _concerns(rule: list[str], model: str, route: str, address: str) -> bool:
    _, its_model, its_route, networks = rule[:4]
    return like(model, its_model) and like(route, its_route) and _inside(address, networks)


def _is_who(caller: Any, who: str) -> bool:
    return like(caller.tenant, who) or like(f"{caller.tenant}/{caller.name}", who)


def _inside(address: str, text: str) -> bool:
    networks = networks_of(text)
    return networks is None or address in networks


_FUNCTIONS = {
    "like": like,
    "is_who": _is_who,
    "inside": _inside,
    "during": lambda moment, text: moments_of(text)(moment),
}
