"""Places: local paths and s3://, gs://, ... through pyarrow.fs; atomic publish; listing.

An artifact is published by filling a staging folder and then making it visible in one step: on a local disk
by renaming the folder, on an object store by uploading the certificate last. Either way a folder that holds
`artifact.json` is complete, and one that does not is not an artifact.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heliostat.errors import ArtifactError, ConfigError, StorageError
from heliostat.records import (
    CERTIFICATE_NAME,
    Artifact,
    ArtifactKind,
    FileEntry,
    Provenance,
    first_problem,
    now,
)
from heliostat.text.concealing import holds_password, without_secrets

STAGING_PREFIX = ".staging-"


@contextmanager
def explain_os_errors(place: str) -> Iterator[None]:
    """Turn the operating system's refusals into one line that names the place and the way out."""
    try:
        yield
    except OSError as error:
        raise StorageError(_explain_os_error(error, place)) from error


def _explain_os_error(error: OSError, place: str) -> str:
    where = error.filename or place
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}: the disk is full; free some space or choose another --workspace"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}: not writable by this user; choose another --workspace"
    if error.errno == errno.ENOENT:
        return f"{where}: no such file or folder"
    return f"{where}: {error.strerror or error}"


def is_remote(uri: str) -> bool:
    """Whether a place is a URI for pyarrow.fs rather than a local path."""
    return "://" in uri and not uri.startswith("file://")


@dataclass(frozen=True)
class Storage:
    """One root, local or remote; every path given to its methods is relative to that root."""

    root: str

    @classmethod
    def at(cls, root: str | Path) -> "Storage":
        """A storage at a path or URI; local paths become absolute so that workers find them too.

        Raises:
            ConfigError: a URI holds a password, which every record of what is made there would show.
        """
        text = str(root).removeprefix("file://")
        if holds_password(text):
            raise ConfigError(
                f"{without_secrets(text)}: the password would be written into every record; leave it out, "
                "and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or their like"
            )
        if not is_remote(text):
            return cls(str(Path(text).expanduser().resolve()))
        place, mark, options = text.partition("?")
        return cls(place.rstrip("/") + mark + options)

    @property
    def remote(self) -> bool:
        """Whether the root lies on an object store."""
        return is_remote(self.root)

    def uri(self, path: str = "") -> str:
        """The absolute path or URI of `path`; a URI's options (`?endpoint_override=...`) stay at its end."""
        if not path:
            return self.root
        if not self.remote:
            return f"{self.root}/{path}".rstrip("/")
        place, mark, options = self.root.partition("?")
        return f"{place}/{path}".rstrip("/") + mark + options

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        filesystem, base = self._filesystem()
        import pyarrow.fs as pafs

        with explain_os_errors(self.uri(path)):
            return bool(filesystem.get_file_info(f"{base}/{path}").type != pafs.FileType.NotFound)

    def list(self, path: str = "", recursive: bool = False) -> list[str]:
        """Sorted names below a folder, relative to it; files only when recursive; [] when it is not there."""
        folder, infos = self._entries(path, recursive)
        return sorted(info.path[len(folder) + 1 :] for info in infos if not recursive or info.is_file)

    def written(self, folder: str) -> dict[str, float]:
        """When what lies in a folder was written, or of a folder in it when something was put there or taken
        away: seconds since 1970 by name, 0 where nobody knows; {} when it is not there."""
        return {info.base_name: (info.mtime_ns or 0) / 1e9 for info in self._entries(folder)[1]}

    def _entries(self, path: str, recursive: bool = False) -> tuple[str, Any]:
        """The whole path of a folder, and what pyarrow tells of what lies in it."""
        import pyarrow.fs as pafs

        filesystem, base = self._filesystem()
        folder = f"{base}/{path}".rstrip("/")
        selector = pafs.FileSelector(folder, recursive=recursive, allow_not_found=True)
        with explain_os_errors(self.uri(path)):
            return folder, filesystem.get_file_info(selector)

    def read_bytes(self, path: str) -> bytes:
        """A file's content.

        Raises:
            StorageError: it cannot be read.
        """
        filesystem, base = self._filesystem()
        with explain_os_errors(self.uri(path)), filesystem.open_input_stream(f"{base}/{path}") as stream:
            return bytes(stream.read())

    def open_file(self, path: str) -> Any:
        """A file for random access, as pyarrow reads it; a local one is mapped and not read."""
        import pyarrow as pa

        filesystem, base = self._filesystem()
        with explain_os_errors(self.uri(path)):
            return (filesystem.open_input_file if self.remote else pa.memory_map)(f"{base}/{path}")

    def write_bytes(self, path: str, content: Any) -> None:
        """Write a file (bytes or any buffer) so that a reader sees all of it or nothing."""
        with explain_os_errors(self.uri(path)):
            if self.remote:
                filesystem, base = self._filesystem()
                with filesystem.open_output_stream(f"{base}/{path}") as stream:
                    stream.write(content)
                return
            target = Path(self.uri(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
            try:
                with temporary.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

    def modified(self, path: str) -> float:
        """When a file was written, in seconds since 1970."""
        filesystem, base = self._filesystem()
        with explain_os_errors(self.uri(path)):
            return float((filesystem.get_file_info(f"{base}/{path}").mtime_ns or 0) / 1e9)

    def bytes_below(self, path: str) -> int:
        """What deleting a file or folder frees: nothing for a file that a hard link keeps elsewhere."""
        if self.remote:
            import pyarrow.fs as pafs

            filesystem, base = self._filesystem()
            with explain_os_errors(self.uri(path)):
                infos = filesystem.get_file_info(
                    pafs.FileSelector(f"{base}/{path}", recursive=True, allow_not_found=True)
                )
            return sum(info.size for info in infos if info.type == pafs.FileType.File)
        target = Path(self.uri(path))
        found = [file.lstat() for file in (target, *target.rglob("*")) if file.is_symlink() or file.is_file()]
        return sum(each.st_size for each in found if each.st_nlink == 1)

    def delete(self, path: str) -> None:
        """Remove a file or folder; nothing happens when it is not there."""
        with explain_os_errors(self.uri(path)):
            if self.remote:
                self._delete_remote(path)
            elif Path(self.uri(path)).is_dir():
                shutil.rmtree(self.uri(path))
            else:
                Path(self.uri(path)).unlink(missing_ok=True)

    def _delete_remote(self, path: str) -> None:
        import pyarrow.fs as pafs

        filesystem, base = self._filesystem()
        if filesystem.get_file_info(f"{base}/{path}").type == pafs.FileType.File:
            filesystem.delete_file(f"{base}/{path}")
        else:
            filesystem.delete_dir_contents(f"{base}/{path}", missing_dir_ok=True)

    def check_writable(self) -> None:
        """Write and remove a small file.

        Raises:
            StorageError: the place is not writable or full.
        """
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        self.write_bytes(probe, b"heliostat")
        self.delete(probe)

    def local_copy(self, path: str) -> Path:
        """A local folder with the content of `path`: itself when local, else a download kept for this user.

        The cache key is the artifact's content hash, so a changed artifact is fetched again.
        """
        if not self.remote:
            return Path(self.uri(path))
        certificate = find_artifact(self, path)
        name = (
            certificate.content[:16]
            if certificate
            else hashlib.sha256(self.uri(path).encode()).hexdigest()[:16]
        )
        target = Path(tempfile.gettempdir()) / f"heliostat-cache-{os.getuid()}" / name
        if target.exists():
            return target
        partial = target.with_name(f"{name}.{uuid.uuid4().hex[:8]}")
        partial.mkdir(parents=True, mode=0o700)
        import pyarrow.fs as pafs

        filesystem, base = self._filesystem()
        with explain_os_errors(self.uri(path)):
            pafs.copy_files(f"{base}/{path}", str(partial), source_filesystem=filesystem)
            try:
                partial.rename(target)
            except OSError:  # another process on this node was first
                shutil.rmtree(partial)
        return target

    def _filesystem(self) -> tuple[Any, str]:
        """The pyarrow filesystem and the root's path on it."""
        import pyarrow.fs as pafs

        if not self.remote:
            return pafs.LocalFileSystem(), self.root
        with explain_os_errors(self.root):
            try:
                filesystem, path = pafs.FileSystem.from_uri(self.root)
            except (ValueError, TypeError) as error:
                raise StorageError(f"{self.root}: not a place pyarrow.fs knows: {error}") from None
        return filesystem, path.rstrip("/")


def split_uri(uri: str) -> tuple[Storage, str]:
    """A storage at the folder above `uri`, and the name below it."""
    place, mark, options = uri.partition("?") if is_remote(uri) else (uri, "", "")
    parent, _, name = place.rstrip("/").rpartition("/")
    return Storage.at(parent + mark + options if parent else "."), name


def find_artifact(storage: Storage, path: str) -> Artifact | None:
    """The certificate in a folder, or None when the folder holds no finished artifact.

    Raises:
        ArtifactError: there is a certificate, but it cannot be read.
    """
    if not storage.exists(f"{path}/{CERTIFICATE_NAME}"):
        return None
    try:
        artifact = Artifact.model_validate_json(storage.read_bytes(f"{path}/{CERTIFICATE_NAME}"))
    except ValidationError as error:
        raise ArtifactError(
            f"{storage.uri(f'{path}/{CERTIFICATE_NAME}')}: "
            f"not a certificate of this version: {first_problem(error)}"
        ) from None
    return artifact.model_copy(update={"uri": storage.uri(path)})  # the workspace may have been moved


def open_artifact(uri: str, kinds: tuple[ArtifactKind, ...]) -> Artifact:
    """The certificate of a folder that must be a finished artifact of one of the given kinds.

    Raises:
        ArtifactError: there is none, or it is of another kind.
    """
    storage, name = split_uri(uri)
    artifact = find_artifact(storage, name)
    if artifact is None:
        raise ArtifactError(
            f"{uri}: not a finished artifact (no {CERTIFICATE_NAME}); run the stage that makes it again"
        )
    if artifact.kind not in kinds:
        raise ArtifactError(f"{uri}: is a {artifact.kind} artifact, expected {' or '.join(kinds)}")
    return artifact


def artifact_folder(artifact: Artifact) -> Path:
    """A local folder with the artifact's files, fetched to this node when it lies on an object store."""
    storage, name = split_uri(artifact.uri)
    return storage.local_copy(name)


@dataclass
class Publication:
    """An artifact being made: `folder` is a local staging folder; `facts` goes into the certificate."""

    storage: Storage
    path: str
    folder: Path
    facts: dict[str, Any]


@contextmanager
def staging(storage: Storage, path: str) -> Iterator[Publication]:
    """A folder to fill; what is left in it when the block ends without `publish` is thrown away."""
    with explain_os_errors(storage.uri(path)):
        if storage.remote:
            folder = Path(tempfile.mkdtemp(prefix="heliostat-"))
        else:
            parent = Path(storage.uri(path)).parent
            parent.mkdir(parents=True, exist_ok=True)
            stale = f"{STAGING_PREFIX}{Path(path).name}-"
            for leftover in parent.glob(f"{stale}*"):  # a killed run's; its lock is ours now
                shutil.rmtree(leftover, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=stale, dir=parent))
    try:
        with explain_os_errors(storage.uri(path)):
            yield Publication(storage, path, folder, {})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(
    publication: Publication,
    kind: ArtifactKind,
    key: str,
    config: dict[str, Any],
    parents: tuple[Artifact, ...] = (),
) -> Artifact:
    """Certify what lies in the staging folder and make it visible at its path, all at once.

    Raises:
        StorageError: the place refuses; nothing readable as an artifact is left there.
    """
    storage, path, folder = publication.storage, publication.path, publication.folder
    entries = tuple(_entry(folder, file) for file in sorted(folder.rglob("*")) if file.is_file())
    content = hashlib.sha256(
        "".join(f"{entry.path}\0{entry.sha256}\n" for entry in entries).encode()
    ).hexdigest()
    artifact = Artifact(
        id=f"{kind}-{content[:12]}",
        kind=kind,
        uri=storage.uri(path),
        key=key,
        content=content,
        bytes=sum(entry.bytes for entry in entries),
        files=entries,
        parents=tuple(parent.id for parent in parents),
        config=config,
        facts=publication.facts,
        created_at=now(),
        provenance=Provenance.collect(),
    )
    certificate = artifact.model_dump_json(indent=2).encode()
    with explain_os_errors(storage.uri(path)):
        if storage.remote:
            _upload(storage, path, folder, certificate)
        else:
            _rename_into_place(Path(storage.uri(path)), folder, certificate)
    return artifact


def _entry(folder: Path, file: Path) -> FileEntry:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(path=str(file.relative_to(folder)), bytes=file.stat().st_size, sha256=digest)


def _upload(storage: Storage, path: str, folder: Path, certificate: bytes) -> None:
    import pyarrow.fs as pafs

    storage.delete(f"{path}/{CERTIFICATE_NAME}")  # from here on the old one is not an artifact
    storage.delete(path)
    filesystem, base = storage._filesystem()
    pafs.copy_files(str(folder), f"{base}/{path}", destination_filesystem=filesystem)
    storage.write_bytes(f"{path}/{CERTIFICATE_NAME}", certificate)


def _rename_into_place(target: Path, folder: Path, certificate: bytes) -> None:
    Storage.at(folder).write_bytes(CERTIFICATE_NAME, certificate)
    folder.chmod(0o755)  # mkdtemp makes it 0700; other users of a shared workspace must be able to read
    if target.exists():
        (target / CERTIFICATE_NAME).unlink(missing_ok=True)  # from here on the old one is not an artifact
        shutil.rmtree(target)
    folder.rename(target)
