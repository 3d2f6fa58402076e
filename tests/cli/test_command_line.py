"""The command line: fast, light, and one clear line for whatever is wrong."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.processes import HEAR_CTRL_C, prepared

import heliostat as package
from heliostat.config import Config
from heliostat.control.inventory import list_runs
from heliostat.errors import DataError
from heliostat.stage import Request, find_or_make
from heliostat.workspace import Workspace

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).parent / "heliostat"
HEAVY = {"ray", "torch", "transformers", "mlflow", "openvino"}


class Words(Config):
    text: str = "x"


def seconds_taken(run) -> float:
    """In processor time: what it takes where nothing else runs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_answers_in_half_a_second(heliostat_process):
    assert any(seconds_taken(lambda: heliostat_process("--help")) < 0.5 for _ in range(5))


def test_validate_answers_in_three_seconds(heliostat_process, recipe):
    assert any(seconds_taken(lambda: heliostat_process("validate", recipe)) < 3 for _ in range(5))


@pytest.mark.parametrize(
    "command", [["--help"], ["validate"], ["config", "schema", "recipe"], ["runs", "list"]]
)
def test_light_commands_load_nothing_heavy(command, recipe, tmp_path):
    arguments = [*command, str(recipe)] if command == ["validate"] else command
    code = (
        "import sys\nfrom heliostat.cli import main\n"
        f"try: main({arguments!r})\nfinally: print(*(name.partition('.')[0] for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.splitlines()[-1].split()) & HEAVY


def test_version(heliostat):
    assert heliostat("--version").stdout == f"heliostat {package.__version__}\n"


def test_every_command_is_in_the_help(heliostat):
    for group, names in {
        (): ("run", "submit", "validate", "doctor", "config", "endpoints", "models", "runs"),
        ("endpoints",): ("list", "forget"),
        ("config",): ("schema", "show"),
        ("models",): ("import", "list"),
        ("runs",): ("list", "show"),
    }.items():
        text = heliostat(*group, "--help").stdout
        assert all(f"\n  {name} " in text for name in names), text


def test_nothing_typed_shows_the_help(heliostat):
    done = heliostat()
    assert "Commands:" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["config", "shw"], "Did you mean 'show'?"),
        (["run", "x.yaml", "--untl", "data"], "--until"),
        (["run"], "RECIPE"),
        (["config", "schema", "trian"], "'trian'"),
        (["submit", "x.yaml"], "--address"),
    ],
)
def test_a_mistyped_command_line_exits_with_2_and_a_hint(heliostat, arguments, hint):
    done = heliostat(*arguments)
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["run"], ["validate"], ["config", "show"]])
def test_a_wrong_recipe_is_one_line_a_problem_and_exit_code_2(heliostat, recipe, command):
    recipe.write_text(recipe.read_text() + "  splitt: {train: 1}\nservee: {}\n")
    done = heliostat(*command, recipe)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"heliostat: error: {recipe}:8: data.splitt: unknown key; did you mean 'split'?",
        f"heliostat: error: {recipe}:9: servee: unknown key; did you mean 'serve'?",
    ]


def test_a_missing_recipe(heliostat):
    done = heliostat("run", "gone.yaml")
    assert (done.returncode, done.stderr) == (2, "heliostat: error: gone.yaml: no such recipe\n")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(heliostat, position):
    arguments = ["validate", "gone.yaml"]
    arguments.insert(position, "--debug")
    done = heliostat(*arguments)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "heliostat: error: gone.yaml: no such recipe"


def test_a_fault_of_ours_is_one_line_and_exit_code_1(heliostat_process, tmp_path, recipe):
    """A sabotaged dependency stands in for the fault nobody foresaw."""
    (tmp_path / "yaml.py").write_text("raise ZeroDivisionError('surprise')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = heliostat_process("config", "show", recipe, env=environment)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "ZeroDivisionError: surprise" in done.stderr
    assert "--debug" in done.stderr
    debugged = heliostat_process("config", "show", recipe, "--debug", env=environment)
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr


def test_stopping_after_a_stage_that_is_not_there(heliostat, recipe):
    done = heliostat("run", recipe, "--until", "train")
    assert done.returncode == 2
    assert done.stderr == (
        "heliostat: error: --until train: recipe 'small' has no such stage; it has: data\n"
    )


def test_an_unwritable_workspace_is_refused_before_ray_starts(heliostat, recipe):
    started = time.monotonic()
    done = heliostat("run", recipe, "--workspace", "/proc/heliostat")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "/proc/heliostat" in done.stderr
    assert time.monotonic() - started < 5


def test_show_prints_the_recipe_as_it_will_run(heliostat, recipe):
    done = heliostat("config", "show", recipe, "data.split.seed=7", "name=other")
    shown = yaml.safe_load(done.stdout)
    assert (shown["name"], shown["data"]["split"]["seed"], shown["train"]) == ("other", 7, None)
    recipe.write_text(done.stdout)
    assert yaml.safe_load(heliostat("config", "show", recipe).stdout) == shown


@pytest.mark.parametrize("stage", ["data", "train", "evaluate", "compress", "serve", "recipe"])
def test_schema_prints_the_json_schema_of_each_section(heliostat, stage):
    schema = json.loads(heliostat("config", "schema", stage).stdout)
    kinds = [schema["$defs"][kind["$ref"].rpartition("/")[2]] for kind in schema.get("oneOf", ())]
    for each in kinds or [schema]:
        assert each["type"] == "object"
        assert each["additionalProperties"] is False
        assert each["properties"]


def work(publication, run) -> None:
    (publication.folder / "weights").write_text("x")
    run.log({"loss": 1.5})


@pytest.mark.heavy
def test_models_and_runs_are_listed_and_shown(heliostat, workspace):
    model = find_or_make(workspace, Request("train", "model", "tiny", Words()), work)
    with pytest.raises(DataError):
        find_or_make(workspace, Request("train", "model", "tiny", Words(text="y")), fail)
    root = workspace.storage.root
    models = heliostat("models", "list", "--workspace", root).stdout.splitlines()
    assert len(models) == 2
    assert models[1].split()[:2] == [model.id, "model"]
    runs = [line.split() for line in heliostat("runs", "list", "--workspace", root).stdout.splitlines()[1:]]
    assert sorted(run[1] for run in runs) == ["failed", "finished"]
    shown = yaml.safe_load(heliostat("runs", "show", runs[0][0], "--workspace", root).stdout)
    assert shown["id"] == runs[0][0]


def fail(publication, run) -> None:
    raise DataError("nothing is left")


def test_an_empty_workspace_has_no_models_and_no_runs(heliostat):
    assert heliostat("models", "list").stdout.splitlines() == ["ID  KIND  MB  MADE (UTC)  WHERE"]
    assert len(heliostat("runs", "list").stdout.splitlines()) == 1


def test_an_unknown_run_says_which_there_are(heliostat, workspace):
    find_or_make(workspace, Request("train", "model", "tiny", Words()), work)
    known = os.listdir(workspace.storage.uri("runs"))[0]
    root = workspace.storage.root
    close = heliostat("runs", "show", f"{known}x", "--workspace", root)
    assert close.returncode == 2
    assert f"did you mean '{known}'?" in close.stderr
    assert "runs list" in heliostat("runs", "show", "zzz", "--workspace", root).stderr


def test_a_folder_that_is_no_model_is_one_line(heliostat, tmp_path):
    (tmp_path / "folder").mkdir()
    done = heliostat("models", "import", tmp_path / "folder")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_output_into_a_closed_pipe_is_no_fault(recipe):
    command = f"{sys.executable} -c 'from heliostat.cli import main; main()' config schema recipe | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.heavy
@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "jobs").glob("*.py")))
def test_a_job_script_by_hand_speaks_like_the_command(script, tmp_path):
    command = [sys.executable, ROOT / "jobs" / script, "gone.yaml", "name=x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "heliostat: error: gone.yaml: no such recipe\n")


@pytest.mark.ray
@pytest.mark.slow
def test_an_interrupted_run_says_that_it_goes_on_and_exits_with_130(tmp_path, tiny_model_folder):
    recipe = tmp_path / "long.yaml"
    recipe.write_text(
        f"name: long\nmodel: {tiny_model_folder}\n"
        "data: {sources: [{kind: python_docs, packages: all}], tokenize: {max_sequence_length: 256}}\n"
    )
    command = [COMMAND, "run", recipe, "--workspace", tmp_path / "workspace"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(prepared(HEAR_CTRL_C, command), **pipes) as process:
        runs = tmp_path / "workspace" / "runs"
        while process.poll() is None and not list(runs.glob("clean-*/run.json")):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "heliostat: interrupted; the same command goes on where it stopped"
    assert "Traceback" not in errors
    assert list_runs(Workspace.resolve(str(tmp_path / "workspace")))[0].status == "failed"
