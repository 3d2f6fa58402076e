"""The launcher's files: Ray's own checks take them, and they are as safe and as large as they say."""

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.cluster.manifests import KUBERNETES, ROOT, built, ray_groups

from heliostat.recipe import Recipe

LAUNCHER = ROOT / "cluster" / "launcher"
FILES = sorted(LAUNCHER.glob("*.yaml"))
CLOUDS = [path for path in FILES if path.stem != "on-premise"]
RECIPES = sorted(
    {*(ROOT / "jobs" / "recipes").glob("*.yaml")} - {ROOT / "jobs" / "recipes" / "health_check.yaml"}
)
"""All but the one that has no stages."""


def name(path: Path) -> str:
    return path.stem


def read(path):
    return yaml.safe_load(path.read_text())


def rays_words(config):
    """What Ray's launcher says against a file, "" where it takes it. In a process of its own: Ray reads its
    environment when it is imported, which in this one must be after a session has set it."""
    code = (
        "import sys, yaml; from ray.autoscaler._private.util import prepare_config, validate_config; "
        "validate_config(prepare_config(yaml.safe_load(sys.stdin)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=yaml.safe_dump(config),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def test_there_is_one_for_each_place():
    assert [path.stem for path in FILES] == ["aws", "gcp", "on-premise"]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_rays_own_checks_take_it(path):
    assert rays_words(read(path)) == ""


@pytest.mark.parametrize("path", CLOUDS, ids=name)
def test_a_wrong_field_is_refused(path):
    for place, value in (("docker", {"imagee": "x"}), ("auth", {"ssh_usr": "x"})):
        wrong = copy.deepcopy(read(path))
        wrong[place] |= value
        assert "Additional properties are not allowed" in rays_words(wrong)


@pytest.mark.parametrize("path", CLOUDS, ids=name)
def test_the_types_are_told_to_whoever_judges_what_can_start(path):
    config = read(path)
    (option,) = [each for each in config["docker"]["run_options"] if "HELIOSTAT_NODE_TYPES" in each]
    _, assignment = shlex.split(option)
    types = {key: each for key, each in config["available_node_types"].items() if key != "head"}
    assert json.loads(assignment.partition("=")[2]) == {
        key: {"resources": each["resources"], "fewest": each["min_workers"], "most": each["max_workers"]}
        for key, each in types.items()
    }


@pytest.mark.parametrize("path", FILES, ids=name)
def test_token_and_tls_are_on_and_neither_secret_is_in_a_command(path):
    config = read(path)
    options = config["docker"]["run_options"]
    environment = dict(each.removeprefix("--env ").split("=", 1) for each in options if "--env" in each)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_USE_TLS"] == "1"
    mounts = config["file_mounts"]
    assert environment["RAY_AUTH_TOKEN_PATH"] in mounts
    assert environment["RAY_TLS_CA_CERT"] in mounts
    assert not [each for each in environment if each == "RAY_AUTH_TOKEN"]
    commands = [each for key, value in config.items() if key.endswith("commands") for each in value]
    assert any(re.search(r"chmod 600 .*auth_token", each) for each in commands)
    assert any("make_certificate.sh" in each for each in config["setup_commands"])
    assert not any("$(cat" in each or "RAY_AUTH_TOKEN=" in each for each in [*commands, *options])


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_dashboard_stays_on_the_loopback_and_nothing_is_stopped(path):
    config = read(path)
    (head,) = config["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in path.read_text()
    assert not re.search(r"\bray\W+stop\b", " ".join(config["worker_start_ray_commands"]) + head)
    options = config["docker"]["run_options"]
    assert {"--cap-drop ALL", "--security-opt no-new-privileges"} <= set(options)


@pytest.mark.parametrize("path", CLOUDS, ids=name)
def test_the_groups_start_at_none(path):
    config = read(path)
    groups = config["available_node_types"]
    assert list(groups) == ["head", "data", "train", "serve"]
    workers = [groups[each] for each in ("data", "train", "serve")]
    assert [each["min_workers"] for each in workers] == [0, 0, 0]
    assert config["max_workers"] == sum(each["max_workers"] for each in workers)
    assert [each["resources"].get("GPU", 0) for each in workers] == [0, 1, 1]
    assert groups["head"]["resources"] == {"CPU": 0}


def test_the_machines_of_on_premise_are_taken_in_as_they_are_needed():
    config = read(LAUNCHER / "on-premise.yaml")
    assert config["min_workers"] == 0
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


def cluster_sizes():
    """(where, [(nodes, CPUs, GPUs) of each group])."""
    sizes = {}
    for path in CLOUDS:
        groups = read(path)["available_node_types"].values()
        sizes[path.stem] = [
            (each.get("max_workers", 0), each["resources"]["CPU"], each["resources"].get("GPU", 0))
            for each in groups
        ]
    (cluster,) = built("ray")
    sizes[KUBERNETES.name] = [
        (
            group["maxReplicas"],
            float(limits["cpu"]),
            float(limits.get("nvidia.com/gpu", 0)),
        )
        for group in list(ray_groups(cluster).values())[1:]
        for limits in [group["template"]["spec"]["containers"][0]["resources"]["limits"]]
    ]
    return sizes


def asked(recipe):
    """(what, workers, CPUs each, GPUs each) of all that a recipe asks for, with training on GPUs."""
    for training in recipe.trainings:
        yield training.name, training.train.max_workers, training.train.cpus_per_worker, 1
    for stage in ("data", "serve", "evaluate"):
        section = getattr(recipe, stage)
        if section is not None:
            yield stage, 1, section.resources.num_cpus, section.resources.num_gpus


@pytest.mark.parametrize("where", cluster_sizes())
@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_a_recipe_finds_room(path, where):
    recipe = Recipe.load(path)
    for what, workers, cpus, gpus in asked(recipe):
        room = sum(
            nodes * int(min(has_cpus // cpus if cpus else 1e9, has_gpus // gpus if gpus else 1e9))
            for nodes, has_cpus, has_gpus in cluster_sizes()[where]
        )
        assert room >= workers, what
