"""The source files in a dataset's certificate: each once, with the hash that sha256sum prints."""

import hashlib
import json
import sys
import sysconfig
from pathlib import Path

import pytest

from heliostat.data import origins
from heliostat.data.config import DataConfig
from heliostat.data.origins import origins_of
from heliostat.data.sources import plan_units


def units(*sources: dict):
    return plan_units(DataConfig.model_validate({"name": "d", "sources": sources}))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_rows(path: Path, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps({"text": f"row {number} of {path.name}"}) + "\n" for number in range(count))
    )
    return path


def test_each_file_is_named_once_though_it_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 200)
    files = [write_rows(tmp_path / name, 50) for name in ("a.jsonl", "b.jsonl")]
    planned = units({"kind": "jsonl", "path": str(tmp_path)})
    assert len(planned) > len(files)
    assert origins_of(planned) == [
        {"path": str(file), "bytes": file.stat().st_size, "sha256": sha256(file)} for file in files
    ]


def test_modules_are_files_too_and_built_in_ones_have_a_version():
    found = {
        each["module"]: each for each in origins_of(units({"kind": "python_docs", "packages": ["stdlib"]}))
    }
    path = Path(sysconfig.get_paths()["stdlib"]) / "json" / "decoder.py"
    assert found["json.decoder"]["path"] == str(path)
    assert found["json.decoder"]["sha256"] == sha256(path)
    assert found["time"] == {
        "path": "python:time", "module": "time", "bytes": 0, "version": sys.version.split()[0],
    }  # fmt: skip


def test_of_very_many_files_folders_are_named_and_any_change_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(origins, "MOST_LISTED", 3)
    files = [write_rows(tmp_path / folder / f"{number}.jsonl", 2) for folder in "ab" for number in range(2)]
    source = {"kind": "jsonl", "path": str(tmp_path)}
    first = origins_of(units(source))
    assert [(each["path"], each["files"]) for each in first] == [(str(tmp_path / f), 2) for f in "ab"]
    files[3].write_text(files[3].read_text().replace("row 0", "row 9"))
    second = origins_of(units(source))
    assert (second[0] == first[0], second[1]["sha256"] == first[1]["sha256"]) == (True, False)
    assert first[0]["bytes"] == sum(file.stat().st_size for file in files[:2])


@pytest.mark.heavy
def test_on_an_object_store_nothing_is_fetched_for_it(s3_root, tmp_path):
    from heliostat.storage import Storage

    storage = Storage.at(s3_root)
    storage.write_bytes("origins/rows.jsonl", write_rows(tmp_path / "rows.jsonl", 2).read_bytes())
    (found,) = origins_of(units({"kind": "jsonl", "path": storage.uri("origins/rows.jsonl")}))
    assert found["bytes"] == (tmp_path / "rows.jsonl").stat().st_size
    assert found["modified"]
    assert "sha256" not in found
