"""A job's output: what the job keeps itself, else a copy of what Ray has, else Ray's own while it answers."""

import time
from contextlib import suppress

from heliostat.control.job_records import JobRecord
from heliostat.control.ray_api import RayApi
from heliostat.control.sites import Site
from heliostat.errors import ClusterError, StorageError
from heliostat.job_folder import FOLDER, log_path, read_log, tail_log
from heliostat.storage import Storage

COPY_SECONDS = 10.0
"""How often the output of a running job that keeps none itself is copied: Ray gives the whole each time."""
COPY_AFTER_SECONDS = 30.0
"""So long a job may take to begin keeping it."""


def storage_of(site: Site, job: JobRecord) -> Storage:
    """Where a job's folder lies: in the workspace it was given, else in this one."""
    root = job.workspace
    return site.workspace.storage if root in (None, site.workspace.storage.root) else Storage.at(str(root))


def copy_path(job_id: str) -> str:
    """Where the copy of Ray's log is, relative to this site's workspace."""
    return f"{FOLDER}/{job_id}/ray.log"


def read_tail(site: Site, job: JobRecord, num_bytes: int = 65536) -> str:
    """The end of a job's output, from what is kept; "" where nothing is yet."""
    text = tail_log(storage_of(site, job), job.id, num_bytes)
    if text:
        return text
    path = copy_path(job.id)
    if not site.workspace.storage.exists(path):
        return ""
    return site.workspace.storage.read_bytes(path)[-num_bytes:].decode(errors="replace")


def keep_ray_log(site: Site, api: RayApi, job: JobRecord, at_end: bool = False) -> None:
    """Copy Ray's log of a job that keeps none itself; a cluster or a disk that refuses changes nothing."""
    storage = site.workspace.storage
    with suppress(ClusterError, StorageError):
        if storage_of(site, job).exists(log_path(job.id)):
            return
        path = copy_path(job.id)
        if not at_end:
            began = job.started_at or job.changed_at
            if time.time() - began.timestamp() < COPY_AFTER_SECONDS:
                return
            if storage.exists(path) and time.time() - storage.modified(path) < COPY_SECONDS:
                return
        storage.write_bytes(path, api.logs(job.id).encode())


class LogReader:
    """Reads a job's output piece by piece, from its own log or, where that is out of reach, from Ray."""

    def __init__(self, site: Site, job_id: str) -> None:
        """Nothing is read yet."""
        self._site = site
        self.job_id = job_id
        self._offset = 0
        self._from_ray = False

    def more(self, job: JobRecord) -> str:
        """What was printed since the last time."""
        if not self._from_ray:
            with suppress(StorageError):
                text, self._offset = read_log(storage_of(self._site, job), self.job_id, self._offset)
                if text or self._offset:
                    return text
        if job.state not in ("QUEUED", "SUBMITTING", "PENDING") and self._site.address is not None:
            return self._rays(job)
        return ""

    def _rays(self, job: JobRecord) -> str:
        """Ray's log, where the job's own is not to be seen here some time after it began, or at its end."""
        began = job.started_at or job.changed_at
        if not job.ended and time.time() - began.timestamp() < COPY_AFTER_SECONDS and not self._from_ray:
            return ""
        assert self._site.address is not None
        with suppress(ClusterError), RayApi(self._site.address) as api:
            text = api.logs(self.job_id)
            new = text[self._offset :]
            self._from_ray, self._offset = True, len(text)
            return new
        return ""
