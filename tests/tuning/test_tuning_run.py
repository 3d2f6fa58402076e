"""Sweeps on a real Ray cluster: each trial a training run of its own, the best of which is found again."""

import json
from pathlib import Path

import pytest

from heliostat.control.inventory import list_runs
from heliostat.errors import TrainingError
from heliostat.models.from_scratch import make_model
from heliostat.models.scratch_config import LlamaModel
from heliostat.stage import read_run
from heliostat.storage import open_artifact
from heliostat.tracking import read_metrics
from heliostat.training.config import FullAdapter, LoraAdapter, TrainConfig
from heliostat.training.run import TrainingInputs, train_model, train_parameters
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.run import SweepInputs, settings_of, tune_hyperparameters
from heliostat.tuning.settings import Settings, Space
from heliostat.tuning.trials import Trials
from heliostat.workspace import Workspace

pytestmark = pytest.mark.ray
TRAIN = TrainConfig(adapter=LoraAdapter(r=4), max_steps=8, micro_batch_size=2)


def tried(space, **tune):
    return TuneConfig.model_validate(
        {"name": "tried", "search_space": space, "held_out": {"split": "test", "max_sequences": 4}, **tune}
    )


def losses(run):
    return [(row["step"], row["loss"], row["learning_rate"]) for row in read_metrics(run)]


def sweep(space, inputs, workspace, train=TRAIN, **tune):
    report = tune_hyperparameters(
        tried(space, **tune), Settings(train=train, model="tiny"), inputs, workspace
    )
    found = json.loads(workspace.storage.read_bytes(f"reports/{report.uri.rpartition('/')[2]}/report.json"))
    return report, {trial["number"]: trial for trial in found["results"]}


@pytest.mark.slow
@pytest.mark.lengthy
def test_asha_ends_bad_trials_and_training_with_the_best_values_finds_what_the_trial_trained(
    ray_cluster, sweep_inputs, workspace
):
    space = {"train.learning_rate": [0.0001, 0.01, 0.05, 0.001]}
    asha = {"kind": "asha", "grace_steps": 2, "reduction_factor": 2}
    report, trials = sweep(space, sweep_inputs, workspace, scheduler=asha)
    assert {trial["status"] for trial in trials.values()} == {"finished", "stopped"}
    for trial in trials.values():
        steps = [each["step"] for each in trial["reports"]]
        assert steps == ([2, 4, 8] if trial["status"] == "finished" else steps)
        assert set(steps) <= {2, 4, 8}
    best = report.facts["best"]
    finished = [trial for trial in trials.values() if trial["status"] == "finished"]
    assert best["value"] == min(trial["reports"][-1]["validation_loss"] for trial in finished)
    assert report.facts["tokens"] <= report.facts["tokens_spent"]

    runs = {run.id: run for run in list_runs(workspace)}
    parents = {run.parent for run in runs.values() if run.stage == "train"}
    assert len(parents) == 1
    assert runs[parents.pop()].stage == "tune"

    attempts = read_run(workspace, f"runs/{best['run']}").attempts
    tuned = train_model(settings_of(report).train, sweep_inputs.base, sweep_inputs.dataset, workspace)
    assert tuned.facts["adapter"] == best["artifact"]
    assert read_run(workspace, f"runs/{best['run']}").attempts == attempts


@pytest.mark.slow
@pytest.mark.lengthy
def test_a_member_that_goes_on_from_another_trains_what_its_schedule_trains_in_one_go(
    ray_cluster, sweep_inputs, workspace, tmp_path
):
    train = TRAIN.model_copy(update={"adapter": LoraAdapter(r=4, dropout=0.1), "max_steps": 6})
    config = tried(
        {"train.learning_rate": [0.0001, 0.003, 0.03], "train.weight_decay": [0.01]},
        scheduler={"kind": "pbt", "every_steps": 3, "quantile": 0.4, "resample_probability": 0},
    )
    start = Settings(train=train, model="tiny")
    report = tune_hyperparameters(config, start, sweep_inputs, workspace)
    known = Trials(workspace.storage, f"runs/tune-{report.key[:12]}/trials")
    trials = {trial.number: trial for trial in known}
    assert [trial.steps for trial in known] == [3, 3, 3, 6, 6, 6]
    assert {trial.status for trial in known} == {"finished"}
    (moved,) = (trial for trial in known if trial.piece.after not in (None, trial.number - 3))
    assert moved.point != trials[moved.piece.after].point
    assert moved.run != trials[moved.piece.after].run
    for kept in (trial for trial in list(known)[3:] if trial is not moved):
        assert kept.run == trials[kept.number - 3].run
    assert report.facts["best"]["number"] > 2
    assert report.facts["tokens_spent"] == report.facts["tokens"] == sum(trial.tokens for trial in known)

    settings = Space(config, start).settings_of(moved, known)
    (change,) = settings.train.changes
    assert (change.after_step, change.learning_rate) == (3, moved.point["train.learning_rate"])
    elsewhere = Workspace.resolve(str(tmp_path / "elsewhere"))
    train_parameters(TrainingInputs(settings.train, sweep_inputs.base, sweep_inputs.dataset), elsewhere)
    (once,) = (tmp_path / "elsewhere").glob("runs/train-*")
    pieces = Path(workspace.storage.uri(f"runs/{moved.run}"))
    assert losses(once) == losses(pieces)


@pytest.mark.slow
@pytest.mark.lengthy
def test_the_shape_of_a_model_is_searched_at_one_size_by_tpe_under_the_median_rule(
    ray_cluster, sweep_inputs, workspace, tiny_model_folder
):
    tokenizer = {"kind": "model", "model": str(tiny_model_folder)}
    model = LlamaModel(hidden_size=64, num_layers=2, num_heads=4, tokenizer=tokenizer)
    config = tried(
        {
            "model.num_layers": {"kind": "integer", "low": 1, "high": 4},
            "train.learning_rate": {"kind": "log_uniform", "low": 0.0001, "high": 0.03},
        },
        searcher={"kind": "tpe", "num_trials": 5, "num_startup_trials": 2},
        scheduler={"kind": "median", "grace_steps": 2, "min_trials": 2},
        fixed={"kind": "parameters", "value": 3e5, "by": "model.feed_forward_size", "multiple_of": 8},
    )
    start = Settings(train=TrainConfig(adapter=FullAdapter(), max_steps=4, micro_batch_size=2), model=model)
    report = tune_hyperparameters(config, start, SweepInputs(None, sweep_inputs.dataset), workspace)
    known = list(Trials(workspace.storage, f"runs/tune-{report.key[:12]}/trials"))
    assert len(known) == 5
    assert {trial.status for trial in known} <= {"finished", "stopped"}
    for trial in known:
        assert trial.reports[0]["step"] == 2
        built = Space(config, start, workspace).settings(trial.point).model
        assert built.num_layers == trial.point["model.num_layers"]
        assert built.feed_forward_size == trial.computed["model.feed_forward_size"]
        size = make_model(built, None, workspace).facts["num_parameters"]
        assert size == pytest.approx(3e5, rel=0.05)
    trained = open_artifact(report.facts["best"]["artifact_uri"], ("model",))
    assert trained.facts["all_parameters"] == pytest.approx(3e5, rel=0.05)


@pytest.mark.slow
def test_a_trial_that_fails_is_told_and_one_that_cannot_fit_is_refused_and_the_others_finish(
    ray_cluster, sweep_inputs, workspace
):
    space = {"train.adapter.target_modules": [["q_proj"], ["nothing"]], "train.num_workers": [1, 64]}
    train = TRAIN.model_copy(update={"global_batch_size": 64, "micro_batch_size": 1, "max_steps": 1})
    report, trials = sweep(space, sweep_inputs, workspace, train=train)
    told = {
        (*trial["point"]["train.adapter.target_modules"], trial["point"]["train.num_workers"]): trial
        for trial in trials.values()
    }
    assert told["q_proj", 1]["status"] == "finished"
    assert report.facts["best"]["number"] == told["q_proj", 1]["number"]
    assert told["nothing", 1]["status"] == "failed"
    said = "train.adapter.target_modules: a llama model has no layer called nothing"
    assert told["nothing", 1]["error"].startswith(said)
    for name in ("q_proj", "nothing"):
        assert told[name, 64]["status"] == "refused"
        assert "asks for 64 x 1 CPU" in told[name, 64]["error"]


def test_a_sweep_without_a_finished_trial_says_why_in_one_line(ray_cluster, sweep_inputs, workspace):
    with pytest.raises(TrainingError, match=r"no trial ran to its end; trial 0: .*asks for 64 x 1 CPU"):
        sweep({"train.num_workers": [64]}, sweep_inputs, workspace)
