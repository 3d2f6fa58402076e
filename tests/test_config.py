"""Configs: strictness, overrides, bases, fingerprints, and errors that name file, line, key and way out."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from heliostat.config import Config, Resources, explain_difference
from heliostat.errors import ConfigError


class LengthStep(Config):
    kind: Literal["length"] = "length"
    min_tokens: int = Field(default=1, ge=1)


class PiiStep(Config):
    kind: Literal["pii"] = "pii"
    replace: bool = True


Step = Annotated[LengthStep | PiiStep, Field(discriminator="kind")]


class Optimizer(Config):
    learning_rate: float = Field(default=0.001, gt=0)
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)


class Zero(Config):
    stage: Literal[0, 1, 2, 3] = 0
    offload: bool = False

    @model_validator(mode="after")
    def _check(self):
        if self.offload and self.stage != 3:
            raise ValueError(f"offload needs stage=3, got stage={self.stage}")
        return self


class Job(Config):
    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"num_workers"})

    name: str
    steps: tuple[Step, ...] = ()
    optimizer: Optimizer = Optimizer()
    zero: Zero | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    num_workers: int = 1


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "job.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refused(path, overrides=()) -> str:
    with pytest.raises(ConfigError) as caught:
        Job.load(path, overrides)
    return str(caught.value)


def test_a_recipe_is_read_with_its_defaults(write):
    job = Job.load(write("name: a\nsteps:\n  - kind: pii\n  - {kind: length, min_tokens: 4}\n"))
    assert job.steps == (PiiStep(), LengthStep(min_tokens=4))
    assert job.optimizer.learning_rate == 0.001


def test_unknown_key_says_where_and_what_was_meant(write):
    path = write("name: a\noptimizer:\n  learning_rate: 0.1\n  warmup_ration: 0.1\n")
    assert refused(path) == f"{path}:4: optimizer.warmup_ration: unknown key; did you mean 'warmup_ratio'?"


def test_unknown_key_like_no_other_lists_the_known_ones(write):
    assert "known keys: learning_rate, warmup_ratio" in refused(write("name: a\noptimizer:\n  xyz: 1\n"))


def test_unknown_key_inside_a_variant_is_looked_up_in_that_variant(write):
    path = write("name: a\nsteps:\n  - kind: pii\n  - kind: length\n    min_token: 3\n")
    assert refused(path) == f"{path}:5: steps.1.min_token: unknown key; did you mean 'min_tokens'?"


def test_wrong_type_says_what_was_expected_and_what_was_given(write):
    path = write("name: a\n\noptimizer:\n  learning_rate: fast\n")
    message = refused(path)
    assert message.startswith(f"{path}:4: optimizer.learning_rate: expected a valid number")
    assert message.endswith("got 'fast'")


def test_value_out_of_range(write):
    path = write("name: a\noptimizer: {warmup_ratio: 2}\n")
    assert refused(path) == f"{path}:2: optimizer.warmup_ratio: expected less than or equal to 1, got 2"


def test_missing_key_points_at_the_section(write):
    path = write("optimizer:\n  learning_rate: 1\n")
    assert refused(path) == f"{path}:1: name: is required and missing"


def test_every_problem_gets_its_own_line(write):
    lines = refused(write("nam: a\noptimizer:\n  learning_rate: -1\n")).splitlines()
    assert len(lines) == 3


def test_a_combination_is_refused_with_the_way_out(write):
    path = write("name: a\nzero:\n  stage: 2\n  offload: true\n")
    assert refused(path) == f"{path}:2: zero: offload needs stage=3, got stage=2"


def test_unknown_kind_says_which_was_meant(write):
    path = write("name: a\nsteps:\n  - kind: lenght\n")
    assert refused(path) == f"{path}:3: steps.0: unknown kind 'lenght'; did you mean 'length'?"


def test_absent_kind_is_named(write):
    path = write("name: a\nsteps:\n  - min_tokens: 3\n")
    assert refused(path).startswith(f"{path}:3: steps.0: needs a 'kind'")


def test_missing_file():
    assert refused("nowhere.yaml") == "nowhere.yaml: no such recipe"


def test_a_folder_is_not_a_recipe(tmp_path):
    assert refused(tmp_path).startswith(f"{tmp_path}: cannot be read as a recipe")


def test_empty_file(write):
    path = write("# nothing yet\n")
    assert refused(path).startswith(f"{path}: the file is empty")


def test_a_list_is_not_a_recipe(write):
    path = write("- name: a\n")
    assert refused(path).startswith(f"{path}:1: expected 'key: value' lines")


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    assert refused(path).startswith(f"{path}: cannot be read as a recipe")


def test_broken_yaml_says_the_line(write):
    path = write("name: a\noptimizer: [1, 2\nsteps: 3\n")
    message = refused(path)
    assert message.startswith(f"{path}:3: not valid YAML")
    assert "\n" not in message


def test_python_objects_in_yaml_are_refused(write):
    path = write("name: !!python/object/apply:os.getcwd []\n")
    message = refused(path)
    assert message.startswith(f"{path}:1: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "key", ["? [a, b]\n: 1", "1: 2", "<<: {name: b}", "when: 2020-13-45", "n: !x y", "n: &a [*a]"]
)
def test_odd_yaml_gets_one_line_with_the_file(write, key):
    path = write(f"{key}\n")
    message = refused(path)
    assert all(line.startswith(f"{path}:") for line in message.splitlines())


def test_a_key_given_twice(write):
    path = write("name: a\noptimizer:\n  learning_rate: 1\n  learning_rate: 2\n")
    assert refused(path) == f"{path}:4: key 'learning_rate' is given twice"


def test_overrides_reach_sections_lists_and_absent_sections(write):
    path = write("name: a\nsteps:\n  - kind: length\n")
    job = Job.load(path, ("steps.0.min_tokens=7", "zero.stage=3", "optimizer.learning_rate=3e-4", "name=b"))
    assert (job.steps[0].min_tokens, job.zero.stage, job.optimizer.learning_rate, job.name) == (
        7,
        3,
        3e-4,
        "b",
    )


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("learning_rate", "expected key=value"),
        ("=3", "expected key=value"),
        ("optimizer..x=3", "expected key=value"),
        ("optimizer.learning_rate=[1", "is not a YAML value"),
        ("optimizer.learning_rate=2020-13-45", "is not a YAML value"),
        ("name.first=x", "'name' is a value, not a section"),
        ("steps.5.min_tokens=1", "'5' is not a position in a list of 1"),
        ("steps.first=1", "'first' is not a position in a list of 1"),
    ],
)
def test_a_malformed_override(write, override, reason):
    path = write("name: a\nsteps:\n  - kind: length\n")
    message = refused(path, (override,))
    assert message.startswith(f"override '{override}': ")
    assert reason in message


def test_a_wrong_value_in_an_override_names_the_override(write):
    message = refused(write("name: a\n"), ("optimizer.learning_rate=0",))
    assert message.startswith(
        "override 'optimizer.learning_rate=0': optimizer.learning_rate: expected greater"
    )


def test_an_unknown_key_in_an_override_names_the_override(write):
    message = refused(write("name: a\n"), ("num_worker=2",))
    assert message == "override 'num_worker=2': num_worker: unknown key; did you mean 'num_workers'?"


def test_a_base_is_overridden_key_by_key(write):
    write(
        "name: base\noptimizer:\n  learning_rate: 0.5\n  warmup_ratio: 0.5\nsteps:\n  - kind: pii\n", "b.yaml"
    )
    write("base: b.yaml\noptimizer:\n  learning_rate: 0.25\n", "m.yaml")
    job = Job.load(write("base: m.yaml\nname: top\nsteps: []\n"))
    assert job == Job(name="top", optimizer=Optimizer(learning_rate=0.25, warmup_ratio=0.5))


def test_an_error_in_a_base_names_the_base(write):
    base = write("name: a\noptimizer:\n  learning_rat: 0.5\n", "base.yaml")
    assert refused(write("base: base.yaml\n")).startswith(f"{base}:3: optimizer.learning_rat")


def test_an_error_over_a_base_names_the_upper_file(write):
    write("name: a\noptimizer:\n  learning_rate: 0.5\n", "base.yaml")
    path = write("base: base.yaml\noptimizer:\n  learning_rate: no\n")
    assert refused(path).startswith(f"{path}:3: optimizer.learning_rate")


def test_a_missing_base(write, tmp_path):
    assert refused(write("base: gone.yaml\n")) == f"{tmp_path / 'gone.yaml'}: no such recipe"


def test_a_base_that_is_no_name(write):
    path = write("base: [a, b]\nname: a\n")
    assert refused(path) == f"{path}:1: 'base' names one recipe file"


def test_a_circle_of_bases(write):
    write("base: job.yaml\n", "other.yaml")
    assert "leads back to this file" in refused(write("base: other.yaml\n"))


def test_a_section_of_another_kind_replaces_the_base_section(write):
    class Holder(Config):
        step: Step

    write("step: {kind: length, min_tokens: 9}\n", "base.yaml")
    assert Holder.load(write("base: base.yaml\nstep: {kind: pii}\n")).step == PiiStep()


def test_configs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Optimizer().learning_rate = 1


@given(
    rate=st.floats(min_value=1e-9, max_value=1e3),
    steps=st.lists(st.integers(1, 9).map(lambda n: LengthStep(min_tokens=n)), max_size=3),
    weights=st.dictionaries(st.text(max_size=5), st.floats(0, 1), max_size=4),
)
def test_the_fingerprint_survives_a_round_trip_and_key_order(rate, steps, weights):
    job = Job(name="a", optimizer=Optimizer(learning_rate=rate), steps=tuple(steps), weights=weights)
    turned = dict(reversed(list(weights.items())))
    same = Job.model_validate_json(job.model_copy(update={"weights": turned}).model_dump_json())
    assert same.fingerprint() == job.fingerprint()
    assert len(job.fingerprint()) == 64


def test_the_fingerprint_stays_the_same_between_versions():
    """Changing this constant means that every artifact ever made is made again: do it on purpose."""
    job = Job(name="a", steps=(PiiStep(),))
    assert job.fingerprint() == "18b521cdac7e48ec6511e27ab9ba95a6b8490ccc2ecd9c65f94adf7c15843de7"


def test_the_fingerprint_changes_with_what_decides_and_only_with_that():
    job = Job(name="a")
    assert Job(name="a", num_workers=4).fingerprint() == job.fingerprint()
    assert Job(name="b").fingerprint() != job.fingerprint()
    assert Job(name="a", optimizer=Optimizer()).fingerprint() == job.fingerprint()


def test_the_fingerprint_refuses_what_json_cannot_hold():
    class Odd(Config):
        place: Path

    with pytest.raises(TypeError, match="cannot be part of a fingerprint"):
        Odd(place=Path("x")).fingerprint()


@pytest.mark.parametrize("number", [".inf", ".nan", "-.inf"])
def test_numbers_without_end_are_refused(write, number):
    assert "finite" in refused(write(f"name: a\noptimizer: {{learning_rate: {number}}}\n"))


def test_a_difference_is_explained_field_by_field():
    old = Job(name="a", optimizer=Optimizer(learning_rate=0.001)).canonical()
    new = Job(name="a", optimizer=Optimizer(learning_rate=0.0003)).canonical()
    assert explain_difference(old, new) == ["optimizer.learning_rate: 0.001 -> 0.0003"]


def test_resources_below_zero_are_refused():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Resources(num_gpus=-1)
