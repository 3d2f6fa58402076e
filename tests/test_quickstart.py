"""The quickstart as a newcomer runs it: real text, a real model, and the bars it has to clear."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heliostat.records import Receipt
from heliostat.storage import publish, staging
from heliostat.workspace import Workspace

ROOT = Path(__file__).parent.parent
EIGHT_MINUTES = 480
ONE_MINUTE = 60


def run(root: Path) -> tuple[str, float]:
    started = time.monotonic()
    command = [sys.executable, "-m", "heliostat.cli", "run", "jobs/recipes/quickstart.yaml", "serve.port=0"]
    done = subprocess.run(
        [*command, "--workspace", str(root)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, time.monotonic() - started


def certificate(root: Path, pattern: str) -> dict:
    (path,) = root.glob(f"{pattern}/artifact.json")
    return json.loads(path.read_text())


def command(root: Path, *arguments: str) -> str:
    line = [sys.executable, "-m", "heliostat.cli", *arguments, "--workspace", str(root)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def check_lineage_and_collection(root: Path) -> None:
    """The served model goes back to the source files' hashes. With it as a version nothing is collected but
    an artifact that nobody refers to."""
    walk = json.loads(command(root, "models", "lineage", "smollm2-python-docs", "--json"))
    sources = [node for node in walk["nodes"] if node["kind"] == "source"]
    hashed = [node for node in sources if "sha256" in node]
    assert len(hashed) > 0.9 * len(sources) > 5
    for node in hashed:
        assert hashlib.sha256(Path(node["path"]).read_bytes()).hexdigest() == node["sha256"]
    small = next(node for node in walk["nodes"] if node["kind"] == "quantized")
    command(root, "models", "register", small["id"], "docs", "--alias", "candidate")
    stray = Workspace.resolve(str(root))
    with staging(stray.storage, "models/stray-0123456789ab") as publication:
        (publication.folder / "weights").write_text("nobody's")
        publish(publication, "model", "0123456789ab", {})
    said = command(root, "gc", "--delete")
    gone = [line for line in said.splitlines() if line.startswith("goes")]
    assert len(gone) == 1
    assert "models/stray-0123456789ab" in gone[0]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.lengthy
@pytest.mark.timeout(1200)
def test_the_quickstart_clears_its_bars_and_is_found_again(tmp_path):
    root = tmp_path / "workspace"
    printed, seconds = run(root)
    print(printed)
    perplexity = certificate(root, "reports/*")["facts"]["perplexity"]
    assert perplexity["tuned"] <= 0.8 * perplexity["base"]
    small = certificate(root, "models/*-int8-*")["facts"]
    assert small["perplexity_after"] <= 1.02 * small["perplexity_before"]
    assert small["bytes_after"] <= 0.3 * small["bytes_before"]
    receipt = Receipt.model_validate(certificate(root, "data/tokenized/*")["facts"]["receipt"])
    assert receipt.read.documents == 1000
    assert receipt.dropped
    assert "What does `str.lower()` do?" in printed
    assert "first token after" in printed

    check_lineage_and_collection(root)
    again, seconds_again = run(root)
    assert again.count("(unchanged, found)") == 5
    print(f"first run {seconds:.0f} s, second run {seconds_again:.0f} s")
    assert seconds <= EIGHT_MINUTES
    assert seconds_again <= ONE_MINUTE
