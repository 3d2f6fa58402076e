"""Make the two schema files of this folder anew, from KubeRay's CRDs and kubernetes-validate's schemas.

python tests/cluster/schemas/extract.py FOLDER_OF_CRDS FOLDER_OF_KUBERNETES_SCHEMAS OUT, where the second is
kubernetes_validate/kubernetes-json-schema/v1.36.0-local-strict.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

KEPT = {
    "type", "properties", "items", "enum", "required", "additionalProperties", "minimum", "maximum",
    "pattern", "minLength", "maxLength", "minItems", "maxItems", "anyOf", "oneOf", "allOf", "not",
}  # fmt: skip
OPEN = "x-kubernetes-preserve-unknown-fields"
KINDS = (
    "configmap-v1", "deployment-apps-v1", "namespace-v1", "networkpolicy-networking-v1",
    "persistentvolumeclaim-v1", "poddisruptionbudget-policy-v1", "role-rbac-v1", "rolebinding-rbac-v1",
    "secret-v1", "service-v1", "serviceaccount-v1", "statefulset-apps-v1",
)  # fmt: skip
SHORTEST_SHARED = 150


def slim(schema: Any) -> Any:
    """Without descriptions; an object with known fields allows no others."""
    if not isinstance(schema, dict):
        return schema
    slimmed: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            slimmed[key] = {name: slim(each) for name, each in value.items()}
        elif key in ("anyOf", "oneOf", "allOf"):
            slimmed[key] = [slim(each) for each in value]
        elif key in ("items", "not", "additionalProperties"):
            slimmed[key] = slim(value)
        elif key in KEPT:
            slimmed[key] = value
    if "properties" in slimmed and not schema.get(OPEN) and "additionalProperties" not in slimmed:
        slimmed["additionalProperties"] = False
    return slimmed


def shared(roots: dict[str, Any]) -> dict[str, Any]:
    """The roots with each part that comes several times under `$defs`, once."""
    seen: Counter[str] = Counter()
    for root in roots.values():
        _count(root, seen)
    defs: dict[str, Any] = {}
    kinds = {
        name: {key: _put(each, seen, defs) for key, each in root.items()} for name, root in roots.items()
    }
    return {"kinds": kinds, "$defs": dict(sorted(defs.items()))}


def _count(part: Any, seen: Counter[str]) -> None:
    if isinstance(part, dict):
        text = json.dumps(part, sort_keys=True)
        seen[text] += 1
        if seen[text] == 1:
            for each in part.values():
                _count(each, seen)
    elif isinstance(part, list):
        for each in part:
            _count(each, seen)


def _put(part: Any, seen: Counter[str], defs: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_put(each, seen, defs) for each in part]
    if not isinstance(part, dict):
        return part
    text = json.dumps(part, sort_keys=True)
    if not isinstance(part.get("type"), str | list) or seen[text] < 2 or len(text) < SHORTEST_SHARED:
        return {key: _put(each, seen, defs) for key, each in part.items()}
    name = hashlib.sha256(text.encode()).hexdigest()[:8]
    if name not in defs:
        defs[name] = {key: _put(each, seen, defs) for key, each in part.items()}
    return {"$ref": f"#/$defs/{name}"}


def kuberay(folder: Path) -> dict[str, Any]:
    """Ray's kinds; metadata is left to Kubernetes' own schemas."""
    kinds = {}
    for name in ("rayclusters", "rayjobs", "rayservices"):
        crd = yaml.safe_load((folder / f"ray.io_{name}.yaml").read_text())["spec"]
        version = next(each for each in crd["versions"] if each["name"] == "v1")
        kinds[f"ray.io/v1/{crd['names']['kind']}"] = slim(version["schema"]["openAPIV3Schema"])
    return kinds


def kubernetes(folder: Path) -> dict[str, Any]:
    """Kubernetes' kinds, with what they refer to."""
    whole: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())["$defs"]

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        if isinstance(part.get("$ref"), str):
            return resolved(whole[part["$ref"].rpartition("/")[2]])
        return {key: resolved(each) for key, each in part.items()}

    kinds = {}
    for name in KINDS:
        schema = slim(resolved(json.loads((folder / f"{name}.json").read_text())))
        version, kind = (schema["properties"][key]["enum"][0] for key in ("apiVersion", "kind"))
        kinds[f"{version}/{kind}"] = schema
    return kinds


def main(crds: str, core: str, out: str) -> None:
    """Write both files."""
    for name, kinds in (("kuberay", kuberay(Path(crds))), ("kubernetes", kubernetes(Path(core)))):
        text = json.dumps(shared(kinds), separators=(",", ":"))
        (Path(out) / f"{name}.json").write_text(text.replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
