"""The Kubernetes manifests fit the schemas, refer to what exists, and run with few rights."""

import copy
import json
import os
import re
import subprocess

import pytest
import yaml
from tests.cluster.manifests import KUBERNETES, ROOT, built, pod_specs, ray_groups, ray_spec
from tests.cluster.schema_check import problems

FOLDERS = ("base", "job", "service", "monitoring")
ALL = {folder: built(folder) for folder in FOLDERS}
OBJECTS = [
    pytest.param(each, id=f"{folder}-{each['kind']}-{each['metadata']['name']}")
    for folder in FOLDERS
    for each in ALL[folder]
]
PODS = [
    pytest.param(spec, id=f"{folder}-{whose}")
    for folder in FOLDERS
    for each in ALL[folder]
    for whose, _, spec in pod_specs(each)
]
RAY = [
    pytest.param(each, id=f"{folder}-{each['kind']}")
    for folder in FOLDERS
    for each in ALL[folder]
    if each["apiVersion"].startswith("ray.io/")
]


@pytest.fixture(scope="module")
def secrets():
    """What make_secrets.sh prints, by name."""
    environment = os.environ | {"AWS_ACCESS_KEY_ID": "an id", "AWS_SECRET_ACCESS_KEY": "it's 'quoted': #"}
    done = subprocess.run(
        [KUBERNETES / "make_secrets.sh"], env=environment, capture_output=True, text=True, check=True
    )
    return {each["metadata"]["name"]: each for each in yaml.safe_load_all(done.stdout)}


def containers(spec):
    return [*spec.get("initContainers", ()), *spec["containers"]]


@pytest.mark.parametrize("manifest", OBJECTS)
def test_a_manifest_fits_its_schema(manifest):
    assert problems(manifest) == []


def test_a_wrong_field_is_refused():
    """Or the test above could not fail."""
    (cluster,) = built("ray")
    for place, value in (
        (("spec", "headGroupSpec", "template", "spec", "containers", 0), {"imagee": "x"}),
        (("spec", "authOptions"), {"mode": "tokens"}),
        (("spec", "workerGroupSpecs", 0), {"minReplicas": "0"}),
        (("metadata",), {"label": {}}),
    ):
        wrong = copy.deepcopy(cluster)
        part = wrong
        for key in place:
            part = part[key]
        part.update(value)
        assert len(problems(wrong)) == 1, place
    deployment = copy.deepcopy(next(each for each in ALL["base"] if each["kind"] == "Deployment"))
    deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonroot"] = True
    assert len(problems(deployment)) == 1


@pytest.mark.parametrize("spec", PODS)
def test_a_pod_fits_the_restricted_profile(spec):
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
    for container in containers(spec):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["readOnlyRootFilesystem"] is True
        assert "privileged" not in own


@pytest.mark.parametrize("spec", PODS)
def test_a_pod_says_what_it_needs_and_may_take(spec):
    for container in containers(spec):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests)
        assert set(limits) == set(requests)
        assert re.search(r":v?[0-9]+\.[0-9]+", container["image"]), "a version, and not `latest`"


@pytest.mark.parametrize("spec", PODS)
def test_mounts_have_their_volumes(spec):
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in containers(spec):
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts - volumes <= {"data"}, "a claim template's"


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_named_exists(folder, secrets):
    """Secrets with their keys, ConfigMaps, claims and Services, in the folder or in base."""
    there = {(each["kind"], each["metadata"]["name"]) for each in [*ALL["base"], *ALL[folder]]}
    for manifest in ALL[folder]:
        text = json.dumps(manifest)
        wanted = r'"secretKeyRef": \{"name": "([^"]+)", "key": "([^"]+)"(?!, "optional": true)'
        for name, key in re.findall(wanted, text):
            assert key in secrets[name]["stringData"]
        for name in re.findall(r'"(?:secretName|secretRef": \{"name)": "([^"]+)"', text):
            assert name in secrets
        for name in re.findall(r'"(?:configMapRef|configMap)": \{"name": "([^"]+)"', text):
            assert ("ConfigMap", name) in there
        for name in re.findall(r'"claimName": "([^"]+)"', text):
            assert ("PersistentVolumeClaim", name) in there
        for name in re.findall(r"(?:://|@)(heliostat-[a-z-]+)[:/]", text):
            made_by_kuberay = {"heliostat-head-svc"}
            assert ("Service", name) in there or name in made_by_kuberay


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_service_leads_to_a_port_of_a_pod(folder):
    pods = [pod for each in ALL[folder] for pod in pod_specs(each)]
    for service in (each for each in ALL[folder] if each["kind"] == "Service"):
        wanted = service["spec"]["selector"].items()
        chosen = [spec for _, labels, spec in pods if wanted <= labels.items()]
        assert chosen, service["metadata"]["name"]
        for spec in chosen:
            names = {port["name"] for container in spec["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@pytest.mark.parametrize("manifest", RAY)
def test_ray_has_a_token_tls_a_lasting_head_and_groups_from_nothing(manifest):
    groups = ray_groups(manifest)
    assert list(groups) == ["head", "data", "train", "serve"]
    for group in list(groups.values())[1:]:
        assert (group["minReplicas"], group["replicas"]) == (0, 0)
        assert group["maxReplicas"] > 0
        assert group["template"]["spec"]["automountServiceAccountToken"] is False
    gpus = {
        name: group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
        for name, group in groups.items()
    }
    assert gpus == {"head": None, "data": None, "train": "1", "serve": "1"}
    spec = ray_spec(manifest)
    assert spec["authOptions"] == {"mode": "token", "secretName": "heliostat-ray-token"}
    assert spec["tlsOptions"] == {"enabled": True}
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"] is False
    assert spec["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]


def test_the_groups_are_told_to_whoever_judges_what_can_start():
    (settings,) = [each for each in ALL["base"] if each["metadata"]["name"] == "heliostat-settings"]
    told = json.loads(settings["data"]["HELIOSTAT_NODE_TYPES"])
    (cluster,) = built("ray")
    groups = {name: group for name, group in ray_groups(cluster).items() if name != "head"}
    for name, group in groups.items():
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        asked = {"CPU": limits["cpu"], "GPU": limits.get("nvidia.com/gpu")}
        assert told.pop(name) == {
            "resources": {kind: float(amount) for kind, amount in asked.items() if amount},
            "fewest": group["minReplicas"],
            "most": group["maxReplicas"],
        }
    assert told == {}


def test_ray_is_the_version_that_the_package_asks_for():
    asked = re.search(r'"ray\[[^"]*~=([0-9.]+)"', (ROOT / "pyproject.toml").read_text())
    for manifest in (each.values[0] for each in RAY):
        assert ray_spec(manifest)["rayVersion"] == asked.group(1)


def test_no_manifest_holds_a_secret():
    for path in KUBERNETES.rglob("*.y*ml"):
        text = path.read_text()
        assert "kind: Secret\n" not in text
        assert not re.search(r"(?i)(password|token|secret_access_key): *['\"]?[0-9a-f]{16}", text)


def test_secrets_are_random_fit_their_schema_and_survive_quotes(secrets):
    for secret in secrets.values():
        assert problems(secret) == []
        assert secret["metadata"]["namespace"] == "heliostat"
    assert secrets["heliostat-object-store"]["stringData"]["AWS_SECRET_ACCESS_KEY"] == "it's 'quoted': #"
    values = [
        secrets[name]["stringData"][key]
        for name, key in (
            ("heliostat-ray-token", "auth_token"),
            ("heliostat-redis", "password"),
            ("heliostat-postgres", "password"),
            ("heliostat-dashboard", "password"),
        )
    ]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values)
    assert (
        secrets["heliostat-postgres"]["stringData"]["password"]
        in (secrets["heliostat-mlflow"]["stringData"]["backend-store-uri"])
    )


def test_secrets_are_not_made_without_the_buckets_keys():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [KUBERNETES / "make_secrets.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert "set AWS_ACCESS_KEY_ID" in done.stderr
