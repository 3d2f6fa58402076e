"""A recipe while it is being written."""

import pytest

from heliostat.control.drafts import (
    about_of,
    difference,
    edited,
    estimates,
    hinted,
    problems,
    settings_of,
    split_changes,
)
from heliostat.control.presets import changed, first_comment, preset_of, presets
from heliostat.workspace import Workspace


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.key)
def test_every_preset_is_a_recipe_and_says_what_it_is(preset):
    assert preset.about
    assert problems(preset, ()) == {}


def test_what_a_preset_says_of_itself_is_a_whole_sentence():
    assert preset_of("distill_student").about.endswith("layers and channels alike, then taught by it.")
    assert first_comment("# One line: a b\n# Another: c\nname: x\n") == "One line: a b"
    assert first_comment("name: x\n# later\n") == ""


def test_problems_go_by_key():
    found = problems(preset_of("quickstart"), ("train.max_steps=abc", "train.lerning_rate=1"))
    assert list(found) == ["train.max_steps", "train.lerning_rate"]
    assert "did you mean 'learning_rate'" in found["train.lerning_rate"]


def test_a_value_that_may_be_several_things_is_told_by_its_key():
    found = problems(preset_of("one_minute"), ("train.num_workers=0",))
    assert found == {"train.num_workers": "expected greater than or equal to 1, got 0"}


def test_what_is_no_change_belongs_to_no_key():
    assert list(problems(preset_of("quickstart"), ("nonsense",))) == [""]


def test_changes_are_split_into_fields_and_lines():
    changes = (
        "train.max_steps=5",
        "train.learning_rate=1",
        "train.num_workers=abc",
        "train.warmup_ratio=0.1",
    )
    fields, more = split_changes(preset_of("quickstart"), changes)
    assert (fields["train.max_steps"], fields["train.learning_rate"]) == (5, 1.0)
    assert fields["train.num_workers"] == 2
    assert more == "train.num_workers=abc\ntrain.warmup_ratio=0.1"


def test_a_number_that_no_browser_holds_is_a_line():
    fields, more = split_changes(preset_of("quickstart"), (f"train.max_steps={2**60}",))
    assert fields["train.max_steps"] == 24
    assert more


def test_the_difference_is_of_the_changes_alone():
    told = difference(preset_of("quickstart"), ("train.max_steps=5",)).splitlines()
    assert [line for line in told if line[0] in "+-"][2:] == ["-  max_steps: 24", "+  max_steps: 5"]
    assert difference(preset_of("quickstart"), ()) == ""


def test_keys_are_explained_by_the_schema_of_the_variant_that_is_meant():
    values = preset_of("dpo").values
    assert about_of("train.objective.gamma", values).startswith("how much better")
    assert about_of("no.such.0.key", values) == ""


def test_edited_settings_are_changes_that_a_recipe_takes():
    preset = preset_of("quickstart")
    known = settings_of(preset, ())
    changes = edited(known, {"train.max_steps": "9", "train.seed": known[0].value, "name": "quickstart"})
    assert "train.max_steps=9" in changes
    assert not any(each.startswith("name=") for each in changes)


def test_every_setting_can_be_given_back_as_it_is():
    preset = preset_of("one_minute")
    recipe = changed(preset, tuple(f"{each.key}={each.value}" for each in settings_of(preset, ())[:1]))
    assert recipe == changed(preset, ())


def test_hints_make_a_recipe_that_holds():
    preset = preset_of("quickstart")
    assert problems(preset, hinted(preset, "a b: c", "/rows of mine.jsonl")) == {}


def test_a_run_is_estimated_without_its_data(tmp_path):
    recipe = changed(preset_of("one_minute"), ("train.max_steps=12",))
    (found,) = estimates(recipe, Workspace.resolve(str(tmp_path)))
    assert (found.steps, found.num_workers) == (12, 1)
    assert found.tokens == 12 * 8 * 256
    assert found.peak_bytes > 4 * found.parameters
