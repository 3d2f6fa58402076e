"""Sweeps as they are listed and shown, while they run and after."""

import pytest
from small_studies import TRIED, TUNE, add_run, add_sweep

from heliostat.control.sweeps import list_sweeps, overrides_of, parallel_rows, show_sweep
from heliostat.errors import ArtifactError
from heliostat.locks import lock
from heliostat.storage import Storage
from heliostat.workspace import Workspace


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(Storage.at(tmp_path))


def test_a_sweep_that_has_ended_names_its_best_trial(place):
    sweep_id = add_sweep(place)
    (sweep,) = list_sweeps(place)
    assert (sweep.id, sweep.name, sweep.status) == (sweep_id, "rates", "finished")
    assert (sweep.best_trial, sweep.best) == (1, 2.375)
    assert sweep.trials == {"finished": 3, "stopped": 2}
    assert sweep.planned == 6
    assert not sweep.lost


def test_the_history_keeps_the_best_so_far(place):
    detail = show_sweep(place, add_sweep(place))
    assert [each.best for each in detail.history] == [2.625, 2.375, 2.375, 2.375, 2.375]
    assert [each.status for each in detail.history] == [ended for *_, ended in TRIED]


def test_the_best_becomes_overrides_and_a_recipe(place):
    detail = show_sweep(place, add_sweep(place))
    assert detail.overrides == (
        "train.learning_rate=0.01", "train.adapter.r=8", "train.warmup_ratio=0.2",
    )  # fmt: skip
    assert detail.recipe is not None
    assert detail.recipe.startswith("train:")
    assert detail.report is not None
    assert detail.compared_at == 2
    assert sum(detail.importances.values()) == pytest.approx(1)


def test_axes_are_logarithmic_where_values_span_much(place):
    detail = show_sweep(place, add_sweep(place))
    assert {each.name: each.log for each in detail.searched} == {
        "learning_rate": True, "r": False, "warmup_ratio": False,
    }  # fmt: skip
    rows = parallel_rows(detail)
    assert len(rows) == len(TRIED)
    assert [0.01, 8.0, 0.2, 2.375] in rows


def test_a_running_sweep_is_live_while_someone_holds_it_and_lost_after(place):
    key = "cd" * 32
    sweep_id = add_sweep(place, "running", key)
    with lock(place.storage, place.path("report", TUNE.name, key)):
        (sweep,) = list_sweeps(place)
        assert sweep.running
        assert sweep.trials["running"] == 1
    detail = show_sweep(place, sweep_id)
    assert detail.sweep.lost
    assert not detail.sweep.running
    assert detail.recipe is None
    assert detail.best is not None


def test_another_stages_run_is_no_sweep(place):
    add_run(place, "train-000000000001")
    with pytest.raises(ArtifactError, match="is a run of stage train, and no sweep"):
        show_sweep(place, "train-000000000001")
    with pytest.raises(ArtifactError, match="no run 'tune-x'"):
        show_sweep(place, "tune-x")


def test_words_and_lists_become_overrides_that_yaml_reads(place):
    detail = show_sweep(place, add_sweep(place))
    point = {"train.adapter.kind": "lora", "model.layers": [1, 2], "train.x": True}
    trial = detail.trials[0].model_copy(update={"point": point})
    assert overrides_of(trial) == ["train.adapter.kind=lora", "model.layers=[1, 2]", "train.x=true"]
