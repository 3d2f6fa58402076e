"""Holds a manifest to the schemas in schemas/: unknown fields are errors."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parent / "schemas"


def problems(manifest: dict[str, Any]) -> list[str]:
    """What the API server would refuse, one line each."""
    kind = f"{manifest.get('apiVersion')}/{manifest.get('kind')}"
    validators = _validators()
    if kind not in validators:
        return [f"no schema of {kind}"]
    found = [
        f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message[:200]}"
        for error in validators[kind].iter_errors(manifest)
    ]
    if kind.startswith("ray.io/"):  # whose schemas leave the metadata open
        stand_in = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}
        found += problems(stand_in)
    return found


@cache
def _validators() -> dict[str, Draft202012Validator]:
    made = {}
    for name in ("kuberay", "kubernetes"):
        schemas = json.loads((FOLDER / f"{name}.json").read_text())
        for kind, schema in schemas["kinds"].items():
            made[kind] = Draft202012Validator({**schema, "$defs": schemas["$defs"]})
    return made
