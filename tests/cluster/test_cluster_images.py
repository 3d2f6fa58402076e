"""The Dockerfiles: what they copy exists, they end as a user without rights, and hold no secret."""

import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch

import pytest
from tests.cluster.imported import closure
from tests.cluster.manifests import KUBERNETES, ROOT

IMAGES = ROOT / "cluster" / "images"
FILES = sorted(IMAGES.glob("*.Dockerfile"))
KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER", "WORKDIR",
}  # fmt: skip
SECRET = re.compile(r"(?i)(password|passwd|secret|token|api_?key)[a-z_]*=(?!token\b|false\b)\S")


def instructions(text):
    """(instruction, the rest) of each, comments and continued lines taken out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(re.match(r"(\S+)\s+(.*)", line).groups()) for line in whole.splitlines()]


def ignored(path):
    """Whether .dockerignore keeps a path from the build; the last pattern that fits counts."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            parts = path.split("/")
            heads = ["/".join(parts[: end + 1]) for end in range(len(parts))]
            if any(fnmatch(head, pattern.removeprefix("**/")) for head in [*heads, parts[-1]]):
                out = not line.startswith("!")
    return out


def faults(text):
    """What is wrong with a Dockerfile, one line each."""
    found = []
    steps = instructions(text)
    found += [f"unknown instruction {name}" for name, _ in steps if name not in KNOWN]
    arguments = dict(rest.split("=", 1) for name, rest in steps if name == "ARG" and "=" in rest)
    stages = [rest.split() for name, rest in steps if name == "FROM"]
    names = [stage[2] for stage in stages if len(stage) == 3]
    for stage in stages:
        image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match.group(1)], stage[0])
        tag = image.rpartition("/")[2].partition(":")[2]
        if not re.match(r"v?[0-9]+\.[0-9]+", tag):
            found.append(f"{image} has no version")
    for rest in (rest for name, rest in steps if name == "COPY"):
        words = shlex.split(rest)
        if words[0].startswith("--from="):
            if words[0].removeprefix("--from=") not in names:
                found.append(f"no stage {words[0]}")
            continue
        for source in words[:-1]:
            if not (ROOT / source).exists():
                found.append(f"{source} does not exist")
            if ignored(source):
                found.append(f"{source} is ignored by .dockerignore")
    users = [rest for name, rest in steps if name == "USER"]
    if not users or not re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", users[-1]):
        found.append("the last USER is no number above 0, which `runAsNonRoot` needs")
    found += [f"a secret in {name} {rest}" for name, rest in steps if SECRET.search(f"{name} {rest}")]
    runs = [rest for name, rest in steps if name == "RUN"]
    found += [f"{rest} is fetched" for rest in runs if re.search(r"curl |wget http", rest)]
    found += [
        f"apt-get leaves its lists: {rest}"
        for rest in runs
        if "apt-get install" in rest and "rm -rf /var/lib/apt/lists" not in rest
    ]
    found += [
        f"pip keeps a cache: {rest}"
        for rest in runs
        if rest.count("pip install") != rest.count("pip install --no-cache-dir")
    ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dockerfile_is_sound(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM python:latest\nUSER 1:1", "has no version"),
        ("FROM python\nUSER 1:1", "has no version"),
        ("FROM python:3.12\nUSER root", "the last USER"),
        ("FROM python:3.12", "the last USER"),
        ("FROM python:3.12\nCOPY jobs/nowhere /x\nUSER 1:1", "does not exist"),
        ("FROM python:3.12\nCOPY tests /x\nUSER 1:1", "is ignored"),
        ("FROM python:3.12\nCOPY --from=built /a /b\nUSER 1:1", "no stage"),
        ("FROM python:3.12\nENV AWS_SECRET_ACCESS_KEY=abc\nUSER 1:1", "a secret"),
        ("FROM python:3.12\nADD https://example.com/x /x\nUSER 1:1", "unknown instruction ADD"),
        ("FROM python:3.12\nRUN apt-get install x\nUSER 1:1", "leaves its lists"),
        ("FROM python:3.12\nRUN pip install x\nUSER 1:1", "keeps a cache"),
    ],
)
def test_a_fault_is_found(text, expected):
    """Or the test above could not fail."""
    (fault,) = faults(text)
    assert expected in fault


def test_manifests_use_the_images_that_are_made():
    component = (KUBERNETES / "images" / "kustomization.yaml").read_text()
    named = set(re.findall(r"name: heliostat-(\w+)", component))
    assert named == {path.stem for path in FILES}


def test_rays_images_agree_on_python_and_what_is_in_them():
    """Ray's nodes refuse each other over another Python."""
    texts = [(IMAGES / f"{name}.Dockerfile").read_text() for name in ("cpu", "gpu", "serving")]
    for text in texts:
        assert re.search(r"ubuntu:?24\.04", text)
        assert set(re.findall(r"python3\.\d+", text)) == {"python3.12"}


@pytest.mark.parametrize(
    "path", [".git/config", "heliostat-workspace/mlflow.db", ".venv/bin/python", "tests/x.py"]
)
def test_a_build_does_not_see_what_it_need_not(path):
    assert ignored(path)


def test_the_dashboards_requirements_are_light_and_enough():
    requirements = IMAGES / "dashboard-requirements.txt"
    heavy = {
        "torch",
        "ray",
        "deepspeed",
        "openvino",
        "openvino-genai",
        "transformers",
        "nncf",
        "vllm",
        "mlflow",
    }
    assert not closure(requirements.read_text()) & heavy
    assert fail_to_import(requirements, "heliostat.control", "heliostat.cli", "dashboard") == []


def test_a_requirement_that_is_missing_is_found(tmp_path):
    """Or the test above could not fail."""
    fewer = tmp_path / "requirements.txt"
    text = (IMAGES / "dashboard-requirements.txt").read_text()
    fewer.write_text(text.replace("pathspec\n", "").replace("mlflow-skinny\n", ""))
    assert any("pathspec is not among" in line for line in fail_to_import(fewer, "heliostat.control"))


def fail_to_import(requirements, *packages):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.imported", str(requirements), *packages],
        capture_output=True, text=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
