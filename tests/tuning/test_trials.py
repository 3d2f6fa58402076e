"""The record of trials: what is written stays, what has ended is not changed, and the report says it all."""

import json
import math

import pytest

from heliostat.errors import ArtifactError
from heliostat.models.scratch_config import LlamaModel
from heliostat.storage import Storage
from heliostat.training.config import TrainConfig
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.importance import importances
from heliostat.tuning.proposals import Proposal
from heliostat.tuning.report import best_trial, lines_of, write_report
from heliostat.tuning.settings import Settings
from heliostat.tuning.trials import Trials

CONFIG = TuneConfig.model_validate(
    {"name": "tried", "search_space": {"train.learning_rate": [0.1, 0.01], "train.adapter.r": [4, 8]}}
)


def report(step, loss):
    return {"step": float(step), "tokens": 100.0 * step, "seconds": 1.0 * step, "validation_loss": loss}


def some_trials(storage):
    trials = Trials(storage, "trials")
    losses = [(0.1, 4, 2.5), (0.1, 8, 2.4), (0.01, 4, 3.0), (0.01, 8, 3.1)]
    for number, (rate, r, loss) in enumerate(losses):
        trials.begin(number, Proposal({"train.learning_rate": rate, "train.adapter.r": r}))
        trials.add_report(number, report(2, loss + 1))
        if number < 2:
            trials.add_report(number, report(8, loss))
            trials.end(number, "finished", artifact=f"adapter-{number}", artifact_uri=f"/models/{number}")
        else:
            trials.end(number, "stopped")
    return trials


@pytest.fixture
def storage(tmp_path):
    return Storage.at(tmp_path)


def test_what_was_written_is_there_for_the_next_attempt(storage):
    written = list(some_trials(storage))
    assert list(Trials(storage, "trials")) == written
    assert [trial.tokens for trial in written] == [800, 800, 200, 200]


def test_what_has_ended_is_not_changed_by_what_is_told_again(storage):
    trials = some_trials(storage)
    trials.add_report(2, report(8, 1.0))
    trials.end(2, "failed", error="late")
    assert (trials.get(2).status, trials.get(2).steps) == ("stopped", 2)


def test_a_loss_that_is_no_number_is_read_back(storage):
    trials = Trials(storage, "trials")
    trials.begin(0, Proposal({"train.adapter.r": 4}))
    trials.add_report(0, report(2, float("nan")))
    (read,) = Trials(storage, "trials")
    assert math.isnan(read.value("validation_loss"))


def test_a_trial_that_failed_is_tried_again_and_keeps_what_it_had_reported(storage):
    trials = Trials(storage, "trials")
    trials.begin(0, Proposal({"train.adapter.r": 4}))
    trials.add_report(0, report(2, 3.0), "train-1")
    trials.end(0, "failed", error="host gone")
    again = trials.begin(0, Proposal({"train.adapter.r": 4}))
    assert (again.status, again.steps, again.run, again.error) == ("running", 2, "train-1", None)
    trials.add_report(0, report(2, 3.0))  # it repeats the step
    trials.add_report(0, report(4, 2.0))
    assert [each["step"] for each in trials.get(0).reports] == [2, 4]


def test_a_record_that_cannot_be_read_is_named_with_the_way_out(storage):
    some_trials(storage)
    storage.write_bytes("trials/00001.json", b'{"number": 1}')
    with pytest.raises(ArtifactError, match=r"00001\.json: not a trial of this version.*delete the file"):
        Trials(storage, "trials")


def test_the_best_is_the_best_of_those_that_finished(storage):
    trials = some_trials(storage)
    trials.begin(4, Proposal({"train.learning_rate": 1.0, "train.adapter.r": 4}))
    trials.add_report(4, report(2, 0.1))
    trials.end(4, "stopped")
    assert best_trial(CONFIG, list(trials)).number == 1
    assert best_trial(CONFIG.model_copy(update={"mode": "max"}), list(trials)).number == 0


def test_the_table_lists_those_that_came_furthest_first(storage):
    lines = lines_of(CONFIG, list(some_trials(storage)))
    assert lines[0] == ("trial", "validation_loss", "learning_rate", "r", "status", "steps", "tokens")
    assert [line[0] for line in lines[1:]] == ["1", "0", "2", "3"]


def test_what_mattered_is_what_the_results_follow(storage):
    shares = importances(CONFIG, list(some_trials(storage)))
    assert next(iter(shares)) == "train.learning_rate"
    assert shares["train.learning_rate"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_the_report_has_pictures_a_table_and_a_recipe_to_run(storage, tmp_path):
    trials = some_trials(storage)
    trials.begin(4, Proposal({"train.learning_rate": 0.1, "train.adapter.r": 8}))
    trials.end(4, "failed", error="worker 0: <out> of memory")
    settings = Settings(train=TrainConfig(learning_rate=0.1), model=LlamaModel(hidden_size=64))
    facts = write_report(tmp_path, CONFIG, trials, settings)
    assert facts["trials"] == {"failed": 1, "finished": 2, "stopped": 2}
    assert facts["best"]["artifact"] == "adapter-1"
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") >= 3
    assert "&lt;out&gt; of memory" in page
    assert len(json.loads((tmp_path / "report.json").read_text())["results"]) == 5
    best = (tmp_path / "best.yaml").read_text()
    assert "learning_rate: 0.1" in best
    assert "hidden_size: 64" in best
