"""The wheel, unpacked where no checkout is: it brings the dashboard and the recipes along."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.heavy
OPEN_HOME = """
from pathlib import Path
import heliostat
from streamlit.testing.v1 import AppTest
from heliostat.cli.dashboard import _dashboard_folder
folder = _dashboard_folder()
assert Path(heliostat.__file__).parent in folder.parents, folder
import sys
sys.path.insert(0, str(folder.parent))
test = AppTest.from_file(str(folder / "app.py"), default_timeout=60).run()
assert not test.exception, test.exception
print(test.title[0].value)
"""
PACK_A_RECIPE = """
from pathlib import Path
from heliostat.control.packages import pack_jobs, pack_source, working_folder
from heliostat.control.presets import presets
folder = working_folder()
package, place, text = pack_jobs(folder, folder / "jobs" / "recipes" / "one_minute.yaml")
assert pack_source() is None
print(len(presets()), place, "jobs/run_pipeline.py" in package.content.decode("latin-1"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel was unpacked into."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(installed: Path, tmp_path: Path, code: str) -> str:
    """What a program prints that finds Heliostat in the wheel only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "HELIOSTAT_"))}
    environment = kept | {"PYTHONPATH": str(installed), "HELIOSTAT_WORKSPACE": str(tmp_path / "workspace")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_dashboard_opens_from_the_wheel(installed, tmp_path):
    assert python(installed, tmp_path, OPEN_HOME).endswith("Home")


def test_a_recipe_is_handed_in_from_the_wheel(installed, tmp_path):
    recipes = len(list((ROOT / "jobs" / "recipes").glob("*.yaml")))
    number, place, has_script = python(installed, tmp_path, PACK_A_RECIPE).split()
    assert 5 < int(number) <= recipes
    assert place == "jobs/recipes/one_minute.yaml"
    assert has_script == "True"
