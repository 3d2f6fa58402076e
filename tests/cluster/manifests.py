"""What `kubectl kustomize` makes of a folder of cluster/kubernetes, as far as those folders use it."""

import copy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "cluster" / "kubernetes"
LOCAL = "config.kubernetes.io/local-config"
USED = {
    "apiVersion", "kind", "namespace", "resources", "components", "patches", "replacements", "images",
    "configMapGenerator", "generatorOptions",
}  # fmt: skip

Manifest = dict[str, Any]


def built(folder: str) -> list[Manifest]:
    """All objects of `folder`, with the namespace, images, patches and generated ConfigMaps."""
    return [each for each in _built(KUBERNETES / folder) if LOCAL not in _annotations(each)]


def _built(folder: Path) -> list[Manifest]:
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(plan) <= USED, set(plan) - USED
    found: list[Manifest] = []
    for name in plan.get("resources", ()):
        path = folder / name
        found += built_folder(path) if path.is_dir() else documents(path)
    found += [_config_map(folder, each) for each in plan.get("configMapGenerator", ())]
    for name in plan.get("components", ()):
        images = yaml.safe_load((folder / name / "kustomization.yaml").read_text())["images"]
        _put_images(found, {each["name"]: f"{each['newName']}:{each['newTag']}" for each in images})
    for patch in plan.get("patches", ()):
        for each in _chosen(found, patch["target"]):
            _patch(each, yaml.safe_load(patch["patch"]))
    for replacement in plan.get("replacements", ()):
        _replace(found, replacement)
    for each in found:
        if each["kind"] != "Namespace":
            each["metadata"].setdefault("namespace", plan["namespace"])
    return found


def built_folder(folder: Path) -> list[Manifest]:
    """A folder that another one names."""
    return [each for each in _built(folder.resolve()) if LOCAL not in _annotations(each)]


def documents(path: Path) -> list[Manifest]:
    """The documents of a YAML file; a key that stands twice in a mapping is refused."""
    return [each for each in yaml.load_all(path.read_text(), Loader=_Strict) if each is not None]


class _Strict(yaml.SafeLoader):
    """YAML 1.1 lets a second key replace the first in silence; Kubernetes refuses it."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"{twice} twice at {node.start_mark}"
    return dict(
        zip(keys, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True)
    )


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _annotations(manifest: Manifest) -> dict[str, str]:
    return manifest["metadata"].get("annotations", {})


def _config_map(folder: Path, plan: dict[str, Any]) -> Manifest:
    data = {Path(name).name: (folder / name).read_text() for name in plan["files"]}
    metadata = {"name": plan["name"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _put_images(part: Any, images: dict[str, str]) -> None:
    if isinstance(part, list):
        for each in part:
            _put_images(each, images)
    elif isinstance(part, dict):
        if part.get("image") in images:
            part["image"] = images[part["image"]]
        for each in part.values():
            _put_images(each, images)


def _chosen(found: list[Manifest], select: dict[str, str]) -> list[Manifest]:
    chosen = [
        each for each in found if (each["kind"], each["metadata"]["name"]) == (select["kind"], select["name"])
    ]
    assert chosen, f"{select} chooses nothing"
    return chosen


def _patch(manifest: Manifest, operations: list[dict[str, Any]]) -> None:
    for operation in operations:
        assert operation["op"] == "add"
        *parents, last = operation["path"].strip("/").split("/")
        place = manifest
        for parent in parents:
            place = place[parent]
        place[last] = operation["value"]


def _replace(found: list[Manifest], replacement: dict[str, Any]) -> None:
    source = replacement["source"]
    (value,) = _chosen(found, source)
    for part in source["fieldPath"].split("."):
        value = value[part]
    for target in replacement["targets"]:
        for each in _chosen(found, target["select"]):
            for path in target["fieldPaths"]:
                *parents, last = path.split(".")
                place = each
                for parent in parents:
                    place = place[parent]
                place[last] = copy.deepcopy(value)


def pod_specs(manifest: Manifest) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """(whose, labels, spec) of every pod that an object makes, Ray's groups with the labels KubeRay gives."""
    spec = manifest.get("spec", {})
    name = manifest["metadata"]["name"]
    if manifest["kind"] in ("Deployment", "StatefulSet"):
        template = spec["template"]
        return [(name, template["metadata"]["labels"], template["spec"])]
    return [
        (f"{name}/{group}", _ray_labels(name, group), part["template"]["spec"])
        for group, part in ray_groups(manifest).items()
    ]


def ray_spec(manifest: Manifest) -> dict[str, Any]:
    """The description of the cluster in one of Ray's kinds."""
    inside = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}.get(manifest["kind"])
    spec: dict[str, Any] = manifest["spec"][inside] if inside else manifest["spec"]
    return spec


def ray_groups(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The head's group and the workers', by name; empty for what is none of Ray's kinds."""
    if not manifest["apiVersion"].startswith("ray.io/"):
        return {}
    spec = ray_spec(manifest)
    return {"head": spec["headGroupSpec"]} | {each["groupName"]: each for each in spec["workerGroupSpecs"]}


def _ray_labels(cluster: str, group: str) -> dict[str, str]:
    kind = "head" if group == "head" else "worker"
    return {
        "ray.io/is-ray-node": "yes",
        "ray.io/cluster": cluster,
        "ray.io/node-type": kind,
        "ray.io/group": "headgroup" if kind == "head" else group,
    }
