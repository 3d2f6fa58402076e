"""The policy: who, which model, from where and when; and what a rule that cannot be read does."""

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliostat.errors import ServingError
from heliostat.serving.access.callers import Caller
from heliostat.serving.access.config import Limits, PolicyConfig
from heliostat.serving.access.policy import MAX_DECISIONS, POLICY_PATH, Judge, Policy
from heliostat.serving.access.policy_rules import moments_of, read_rules
from heliostat.serving.api.errors import RefusedRequest
from heliostat.storage import Storage

MONDAY_NOON = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)


def caller(tenant: str = "acme", name: str = "ci") -> Caller:
    return Caller(tenant, name, "sk-hs-1", "sk-hs-1", ("*",), ("chat",), Limits(), "10.0.0.1")


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


@pytest.fixture
def policy(storage):
    def policy(*lines: str, **config) -> Policy:
        storage.write_bytes(POLICY_PATH, "\n".join(lines).encode())
        return Policy(PolicyConfig(**config), storage)

    return policy


def allows(
    policy: Policy, who=None, model="quick", address="10.0.0.1", route="chat", now=MONDAY_NOON
) -> bool:
    try:
        policy.check(who or caller(), model, address, route, now)
    except RefusedRequest:
        return False
    return True


def test_without_a_file_everything_is_allowed(storage):
    assert Policy(PolicyConfig(), storage).check(caller(), "m", "unknown", "chat") is None
    assert allows(Policy(PolicyConfig()))
    with pytest.raises(ServingError, match="no such file"):
        Policy(PolicyConfig(file=storage.uri("none.csv")), storage)


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("p, acme, *, *, *, *, allow", {}, {"who": caller("other")}),
        ("p, acme/ci, *, *, *, *, allow", {}, {"who": caller("acme", "anna")}),
        ("p, ac*, quick*, *, *, *, allow", {"model": "quick-2"}, {"model": "slow"}),
        ("p, *, *, chat, *, *, allow", {}, {"route": "embeddings"}),
        ("p, *, *, *, 10.0.0.0/8|::1, *, allow", {"address": "::1"}, {"address": "11.0.0.1"}),
        ("p, *, *, *, 10.0.0.0/8, *, allow", {"address": "::ffff:10.2.3.4"}, {"address": "unknown"}),
        ("p, *, *, *, *, mon-fri, allow", {}, {"now": MONDAY_NOON - timedelta(days=1)}),
        ("p,*,*,*,*,12:00-12:30,allow", {}, {"now": MONDAY_NOON + timedelta(minutes=30)}),
        ("p, *, *, *, *, sat|mon 11:59-24:00, allow", {}, {"now": MONDAY_NOON - timedelta(hours=2)}),
    ],
)
def test_a_rule_says_who_what_from_where_and_when(policy, rule, allowed, refused):
    made = policy("# our rules", "", rule + "  # why")
    assert allows(made, **allowed)
    assert not allows(made, **refused)


def test_what_any_rule_denies_is_refused(policy):
    made = policy("p, *, *, *, *, *, allow", "p, *, *, *, 10.6.6.0/24, *, deny")
    assert allows(made)
    assert not allows(made, address="10.6.6.6")


def test_groups_hold_tenants(policy):
    made = policy("g, acme, partners", "g, beta, partners", "p, partners, quick, *, *, *, allow")
    assert allows(made)
    assert allows(made, caller("beta"))
    assert not allows(made, caller("gamma"))


def test_the_rule_that_allowed_is_named_for_the_record_but_not_to_the_caller(policy):
    made = policy("p, other, *, *, *, *, allow", "", "p, acme, quick, *, *, *, allow")
    assert made.check(caller(), "quick", "10.0.0.1", "chat", MONDAY_NOON) == "policy.csv:3"
    with pytest.raises(RefusedRequest) as caught:
        made.check(caller(), "slow", "10.0.0.1", "chat", MONDAY_NOON)
    assert "policy.csv" not in str(caught.value)
    assert (caught.value.status, caught.value.code) == (403, "permission_denied")


def test_hours_are_those_of_the_zone(policy):
    made = policy("p, *, *, *, *, 13:00-14:00, allow", timezone="Europe/Berlin")
    assert allows(made)
    assert not allows(made, now=MONDAY_NOON + timedelta(hours=1))


def test_hours_past_midnight_belong_to_the_day_they_began_on():
    holds = moments_of("fri 22:00-06:00")
    friday = datetime(2030, 1, 11, tzinfo=UTC)
    for hours, expected in ((21, False), (22, True), (29, True), (30, False), (3, False), (46, False)):
        assert holds(friday + timedelta(hours=hours)) is expected, hours
    assert moments_of("sun-mon")(friday + timedelta(days=2))
    assert not moments_of("sun-mon")(friday)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p, *, *, *, *, allow", "has 5 fields"),
        ("p, *, *, *, *, *, allow, more", "has 7 fields"),
        ("q, *, *, *, *, *, allow", "begins with 'q'"),
        ("p, *, *, *, *, *, maybe", "EFFECT is 'maybe'"),
        ("p, *, *, fly, *, *, allow", "ROUTE 'fly' is none of"),
        ("p, , *, *, *, *, allow", "WHO is ''"),
        ("p, a b, *, *, *, *, allow", "WHO is 'a b'"),
        ("p, *, *, *, 10.0.0.1/8, *, allow", "'10.0.0.0/8' is the network around it"),
        ("p, *, *, *, home, *, allow", "'home' is no network"),
        ("p, *, *, *, *, someday, allow", "'someday' is no day"),
        ("p, *, *, *, *, 8:00-18:00, allow", "are no hours"),
        ("p, *, *, *, *, 08:00-25:00, allow", "are no hours"),
        ("p, *, *, *, *, 08:00-08:00, allow", "no time at all"),
        ("p, *, *, *, *, mon 08:00-09:00 tue, allow", "write days, hours or both"),
        ("p, *, *, *, *, , allow", "write days, hours or both"),
        ("p, eval(r.caller), *, ), *, *, allow", "ROUTE ')' is none of"),
        ("g, acme", "a group is written"),
        (",,,,,,", "begins with ''"),
    ],
)
def test_a_rule_that_cannot_be_read_is_one_line_with_its_place(policy, line, message):
    with pytest.raises(ServingError) as caught:
        policy("p, *, *, *, *, *, allow", "", line)
    assert f"{POLICY_PATH}:3: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no rule"),
        (b"# nothing\n\n", "holds no rule"),
        (b"g, acme, partners\n", "holds no rule"),
        (b"p, *, *, *, *, *, allow\n# \xff\n", "policy.csv:2: is not UTF-8"),
        (b"p, *, *, *, *, *, allow\n" * 2001, "at most 2000"),
        (b"p, *, *, *, *, *, all", "EFFECT is 'all'"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_in_a_running_gateway(
    policy, storage, content, message, caplog
):
    made = policy("p, acme, *, *, *, *, allow")
    storage.write_bytes(POLICY_PATH, content)
    for _ in range(3):
        made.refresh()
    assert caplog.text.count("the old rules stay") == 1
    assert message in caplog.text
    assert allows(made)
    assert not allows(made, caller("other"))
    with pytest.raises(ServingError):
        Policy(PolicyConfig(), storage)


def test_new_rules_count_at_once_and_a_file_that_vanishes_does_not(policy, storage, caplog):
    made = policy("p, acme, *, *, *, *, allow")
    assert allows(made)
    storage.write_bytes(POLICY_PATH, b"p, beta, *, *, *, *, allow")
    made.refresh()
    assert not allows(made)
    assert allows(made, caller("beta"))
    Path(storage.uri(POLICY_PATH)).unlink()
    made.refresh()
    assert "has vanished" in caplog.text
    assert not allows(made)
    later = Policy(PolicyConfig(), Storage.at(storage.uri("elsewhere")))
    assert allows(later)
    Storage.at(storage.uri("elsewhere")).write_bytes(POLICY_PATH, b"p, beta, *, *, *, *, allow")
    later.refresh()
    assert not allows(later)


def test_a_decision_does_not_outlive_its_minute(policy):
    made = policy("p, *, *, *, *, 12:00-12:01, allow")
    assert allows(made, now=MONDAY_NOON + timedelta(seconds=59))
    assert not allows(made, now=MONDAY_NOON + timedelta(seconds=60))
    assert allows(made, now=MONDAY_NOON), "a clock set back is followed"


def test_decisions_are_kept_within_bounds_and_found_quickly(policy):
    made = policy("p, acme, quick*, chat, 10.0.0.0/8, mon-sun, allow")
    for number in range(MAX_DECISIONS + 50):
        made._decisions[("old", number)] = (True, "")
    assert allows(made)
    assert len(made._decisions) <= MAX_DECISIONS + 50
    started = time.process_time()
    for _ in range(1000):
        made.check(caller(), "quick", "10.0.0.1", "chat", MONDAY_NOON)
    assert (time.process_time() - started) / 1000 < 0.0005


WHO = st.sampled_from(["acme", "acme/ci", "beta", "partners", "*", "a*", "*/ci", "partn*"])
RULE = st.tuples(
    WHO,
    st.sampled_from(["*", "quick", "qu*", "slow"]),
    st.sampled_from(["*", "chat", "embeddings"]),
    st.sampled_from(["*", "10.0.0.0/8", "::1|10.0.0.1", "11.0.0.0/8"]),
    st.sampled_from(["*", "mon", "tue-sun", "11:00-13:00", "mon 22:00-06:00"]),
    st.sampled_from(["allow", "allow", "deny"]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(RULE, min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from(["acme", "beta", "partners"]),
    st.sampled_from(["10.0.0.1", "::1", "unknown"]),
)
def test_showing_casbin_fewer_rules_changes_no_decision(rules, grouped, tenant, address):
    lines = [", ".join(("p", *rule)) for rule in rules] + ["g, acme, partners"] * grouped
    judge = Judge(read_rules("\n".join(lines).encode(), "policy.csv"), "policy.csv")
    asked = (caller(tenant), "quick", "chat", address, MONDAY_NOON)
    assert judge.decide(*asked)[0] == judge.decide(*asked, all_rules=True)[0]


def test_casbin_says_nothing_on_its_own(policy, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    made = policy("p, acme, quick, *, *, *, allow")
    allows(made)
    allows(made, model="slow")
    assert {record.name for record in caplog.records} <= {"heliostat.serving.access.policy"}
    assert "".join(capfd.readouterr()) == ""
