"""The rules of the house, as assertions: where things lie, what may import what, and how big they may grow.

The import contracts between the rooms are in pyproject.toml; `lint-imports` runs here too.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "platform" / "heliostat"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted((ROOT / "jobs").glob("*.py"))
GROUND = (PACKAGE, PACKAGE / "text", PACKAGE / "models", PACKAGE / "versions")
STAGE_ROOMS = ("data", "training", "evaluation", "compression", "serving", "tuning")

# The only files that may know Ray or an engine, by their path below the package.
EDGES = ("local_provider.py", "ray_session.py", "ray_tasks.py", "*/edge*.py", "serving/engines/*.py")
EDGE_LIBRARIES = {"ray", "deepspeed", "vllm", "openvino_genai"}
HEAVY = {"ray", "torch", "transformers", "deepspeed", "mlflow", "openvino", "openvino_genai", "vllm", "peft"}
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?|handlers?)$|^base(_|$)")
MAXIMUM_LINES = 400


def place(path: Path) -> str:
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """The full names of all modules a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}: relative import; write the full name"
            yield str(node.module)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def calls(path: Path) -> Iterator[str]:
    """The dotted names of all calls in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=place)
def test_nothing_forks_where_ray_may_run(path):
    """gRPC, and with it a Ray driver, hangs or crashes some time after a fork; see tests/processes.py."""
    keywords = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.keyword)}
    assert not keywords & {"preexec_fn"}
    assert not {"os.fork", "multiprocessing.Process"} & set(calls(path))


def test_platform_holds_the_package_and_nothing_else():
    """With an __init__.py or a module beside the package it would shadow the standard library's own."""
    found = [path.name for path in (ROOT / "platform").iterdir() if path.name != "__pycache__"]
    assert found == ["heliostat"]


def test_the_standard_library_keeps_its_platform_module():
    for folder in (ROOT, ROOT / "platform"):
        code = "import platform; print(platform.system())"
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
        assert done.stdout.strip(), done.stderr


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=place)
def test_a_file_stays_small_and_well_named(path):
    assert len(path.read_text().splitlines()) <= MAXIMUM_LINES
    assert not FORBIDDEN_NAMES.search(path.stem)
    if path.stem != "__init__":
        assert path.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=place)
def test_ray_and_the_engines_are_imported_at_the_edges_only(path):
    if not any(fnmatch(place(path), pattern) for pattern in EDGES):
        assert not roots(path) & EDGE_LIBRARIES


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=place)
def test_only_the_session_starts_ray_and_nobody_stops_it_for_others(path):
    if place(path) != "ray_session.py":
        assert not {"ray.init", "ray.shutdown"} & set(calls(path))


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=place)
def test_nobody_imports_the_roofs(path):
    assert not roots(path) & {"jobs", "dashboard", "cluster", "tests"}


def test_nothing_kills_by_name():
    """`ray stop`, pkill and killall end other people's processes on the same host."""
    files = [*MODULES, *SCRIPTS, *(ROOT / "cluster").glob("*.sh"), ROOT / "Makefile"]
    guilty = [
        str(path) for path in files if re.search(r"\bray\W+stop\b|\bpkill\b|\bkillall\b", path.read_text())
    ]
    assert guilty == []


@pytest.mark.parametrize("room", STAGE_ROOMS)
def test_every_stage_room_has_its_drawers(room):
    folder = PACKAGE / room
    assert (folder / "config.py").is_file()
    tree = ast.parse((folder / "run.py").read_text())
    assert list(folder.glob("edge*")), "what imports the Ray library of this stage"
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    public = [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    verbs = (
        "prepare_data",
        "train_model",
        "evaluate_model",
        "compress_model",
        "deploy_model",
        "tune_hyperparameters",
    )
    assert len(set(public) & set(verbs)) == 1, public


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=place)
def test_a_rooms_front_door_imports_nothing(path):
    """So that importing one module of a room does not load the room. (The command's entry point may import
    inside its function.)"""
    tree = ast.parse(path.read_text())
    top = {ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    assert top <= {"import sys"}


def modules_loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_configs_and_the_ground_floors_load_nothing_heavy():
    names = [
        "heliostat." + place(path).removesuffix(".py").replace("/", ".")
        for path in MODULES
        if path.stem == "config" or path.parent in GROUND
    ]
    light = {name.removesuffix(".__init__") for name in names} - {
        "heliostat.local_provider",
        "heliostat.pipeline",
        "heliostat.summary",
    }
    assert not modules_loaded_by("import " + ", ".join(sorted(light))) & HEAVY


def test_the_hands_load_nothing_heavy():
    folders = [PACKAGE / "cli", PACKAGE / "control"]
    names = [
        f"heliostat.{path.parent.name}.{path.stem}" for folder in folders for path in folder.glob("[!_]*.py")
    ]
    assert not modules_loaded_by("import " + ", ".join(names)) & HEAVY


@pytest.mark.parametrize("path", SCRIPTS, ids=place)
def test_a_job_is_a_thin_script_not_named_like_a_library(path):
    assert len(path.read_text().splitlines()) <= 30
    assert re.fullmatch(r"[a-z]+_[a-z]+", path.stem)


def test_there_is_a_job_for_each_stage_and_one_for_all():
    names = {
        "prepare_data",
        "train_model",
        "evaluate_model",
        "compress_model",
        "deploy_model",
        "tune_hyperparameters",
        "run_pipeline",
    }
    assert {path.stem for path in SCRIPTS} == names


def test_no_exception_is_swallowed():
    """`except Exception` (or wider) must raise again."""
    guilty = []
    for path in [*MODULES, *SCRIPTS]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler):
                continue
            wide = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if wide and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                guilty.append(f"{place(path)}:{node.lineno}")
    assert guilty == []


def test_nothing_is_left_to_do():
    guilty = [place(path) for path in MODULES if re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text())]
    assert guilty == []


def test_makefile_has_what_the_readme_names():
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", (ROOT / "README.md").read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"setup", "demo", "test", "check"} <= targets
    assert named <= targets


def test_the_import_contracts_hold():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
