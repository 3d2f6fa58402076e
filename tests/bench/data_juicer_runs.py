"""Recipes for data-juicer, and the command that runs one in data-juicer's own environment."""

import json
from pathlib import Path
from typing import Any

# The console script's shebang is fixed to the folder it was installed in; its function is not.
_START = "from data_juicer.tools.process_data import main; main()"

_MINHASH = {
    "tokenization": "space",
    "window_size": 5,
    "lowercase": True,
    "ignore_pattern": r"\p{P}",
    "num_permutations": 112,
    "num_bands": 14,
    "num_rows_per_band": 8,
}
_FILTERS = [
    {"words_num_filter": {"min_num": 50, "max_num": 100_000}},
    {"clean_email_mapper": {"repl": "[EMAIL]"}},
    {"clean_ip_mapper": {"repl": "[IP]"}},
]
"""Those of its operators that have an equal in the others; its other filters measure other things."""


def dedup_command(python: Path, shards: Path, output: Path, on_ray: bool) -> list[str | Path]:
    """MinHash with the parameters of the others, by the default executor or on Ray."""
    if on_ray:
        process = [{"ray_bts_minhash_deduplicator": {**_MINHASH, "union_find_parallel_num": 2}}]
    else:
        process = [{"document_minhash_deduplicator": _MINHASH}]
    return _command(python, shards, output, process, on_ray)


def filters_command(python: Path, shards: Path, output: Path) -> list[str | Path]:
    """The number of words, and e-mail and IP addresses."""
    return _command(python, shards, output, _FILTERS, on_ray=False)


def kept_rows(output: Path) -> list[dict[str, str]]:
    """What it kept: one file by the default executor, a folder of them on Ray."""
    files = [file for file in sorted((output / "kept").rglob("*.json*")) if file.is_file()]
    return [json.loads(line) for file in files for line in file.open(encoding="utf-8")]


def _command(
    python: Path, shards: Path, output: Path, process: list[dict[str, Any]], on_ray: bool
) -> list[str | Path]:
    output.mkdir(parents=True)
    recipe = {
        "project_name": "bench",
        "executor_type": "ray" if on_ray else "default",
        "ray_address": "local",
        "dataset_path": str(shards),
        "export_path": str(output / "kept" / "kept.jsonl"),
        "work_dir": str(output / "work"),
        "ds_cache_dir": str(output / "cache"),
        "use_cache": False,
        "np": 2,
        "text_keys": "text",
        "process": process,
    }
    file = output / "recipe.yaml"
    file.write_text(json.dumps(recipe, indent=1))  # JSON is YAML
    return [python, "-P", "-c", _START, "--config", file]
