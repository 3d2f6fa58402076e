"""What travels with a job: the same bytes for the same files, nothing that is ignored, nothing too big."""

import io
import zipfile
from pathlib import Path

import pytest
import yaml

from heliostat.control import packages
from heliostat.control.packages import pack_jobs, pack_source, source_checkout, working_folder
from heliostat.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "jobs" / "recipes").mkdir(parents=True)
    (tmp_path / "jobs" / "run_pipeline.py").write_text("print('hello')\n")
    (tmp_path / "jobs" / "recipes" / "base.yaml").write_text("name: base\nmodel: a\n")
    return tmp_path


def recipe_in(folder: Path, text: str = "base: base.yaml\nname: top\n") -> Path:
    path = folder / "jobs" / "recipes" / "top.yaml"
    path.write_text(text)
    return path


def members(package) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_equal_files_make_an_equal_package(folder):
    recipe = recipe_in(folder)
    first, *_ = pack_jobs(folder, recipe)
    (folder / "jobs" / "run_pipeline.py").touch()
    second, *_ = pack_jobs(folder, recipe)
    assert (first.name, first.content) == (second.name, second.content)
    (folder / "jobs" / "run_pipeline.py").write_text("print('other')\n")
    assert pack_jobs(folder, recipe)[0].name != first.name


def test_the_recipe_travels_with_its_bases_folded_in(folder):
    package, place, _ = pack_jobs(folder, recipe_in(folder))
    assert place == "jobs/recipes/top.yaml"
    assert yaml.safe_load(members(package)[place]) == {"name": "top", "model": "a"}


def test_a_recipe_from_elsewhere_travels_too(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "base.yaml").write_text("model: b\n")
    (elsewhere / "mine.yaml").write_text("base: base.yaml\nname: mine\n")
    package, place, _ = pack_jobs(folder, elsewhere / "mine.yaml")
    assert yaml.safe_load(members(package)[place]) == {"model": "b", "name": "mine"}


def test_only_jobs_travel_and_nothing_ignored(folder):
    for name in ("secret.txt", "jobs/notes.bin", "jobs/__pycache__/x.pyc", "jobs/deep/keep.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".rayignore").write_text("*.bin\n")
    package, *_ = pack_jobs(folder, recipe_in(folder))
    assert sorted(members(package)) == [
        "jobs/deep/keep.txt",
        "jobs/recipes/base.yaml",
        "jobs/recipes/top.yaml",
        "jobs/run_pipeline.py",
    ]


def test_too_much_to_send_names_the_biggest_files(folder, monkeypatch):
    monkeypatch.setattr(packages, "LIMIT_BYTES", 2**20)
    for number in range(5):
        (folder / "jobs" / f"big-{number}.bin").write_bytes(bytes(number * 2**19))
    with pytest.raises(ConfigError) as caught:
        pack_jobs(folder, recipe_in(folder))
    message = str(caught.value)
    assert "jobs/big-4.bin (2 MiB), jobs/big-3.bin (2 MiB), jobs/big-2.bin (1 MiB)" in message
    assert ".rayignore" in message
    assert "\n" not in message


def test_a_broken_recipe_is_not_packed(folder):
    with pytest.raises(ConfigError, match="no such recipe"):
        pack_jobs(folder, folder / "gone.yaml")


def test_this_package_travels_from_a_checkout():
    package = pack_source()
    names = members(package)
    assert "heliostat/config.py" in names
    assert not [name for name in names if "__pycache__" in name]
    assert package.uri == f"gcs://{package.name}"


def test_the_working_folder_is_the_current_one_else_the_checkout(folder, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(folder)
    assert working_folder() == folder
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert working_folder() == source_checkout() == ROOT


def test_no_jobs_anywhere_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packages, "source_checkout", lambda: None)
    with pytest.raises(ConfigError, match="submit from a checkout"):
        working_folder()


def test_a_plain_ray_job_submit_carries_the_jobs_and_not_the_rest():
    """`ray job submit --working-dir .` reads .rayignore with the same rules."""
    import pathspec

    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".rayignore").read_text().splitlines())
    for name in (".git/HEAD", ".venv/bin/python", "tests/conftest.py", "heliostat-workspace/mlflow.db",
                 "platform/heliostat/config.py", "jobs/__pycache__/a.pyc"):  # fmt: skip
        assert ignored.match_file(name), name
    for name in (".", "jobs/train_model.py", "jobs/recipes/quickstart.yaml"):
        assert not ignored.match_file(name), name
