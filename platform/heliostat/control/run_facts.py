"""What the rules need to know of a run, read from its files: again only while they may change, and have.

On an object store each question is a request, and there may be thousands of runs a day.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from heliostat.control.run_alerts import POINTS, RunFacts
from heliostat.control.series import Tail, read_metrics_of
from heliostat.control.sites import Site
from heliostat.records import Run
from heliostat.storage import Storage
from heliostat.tracking import METRICS_FILE
from heliostat.training.findings import FINDINGS_FILE, parse_findings
from heliostat.training.watchers import Finding as Note

NOTHING = Tail(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class _Read:
    """What a run's files held when they were last written, and when the run had ended by then."""

    written: tuple[float, float]
    ended_at: datetime | None
    loss: Tail
    notes: tuple[Note, ...]


class RunReader:
    """Keeps what it has read of runs that go on; those that have ended are not asked for again."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._known: dict[str, _Read] = {}

    def keep_only(self, run_ids: set[str]) -> None:
        """Forget the others."""
        self._known = {run_id: read for run_id, read in self._known.items() if run_id in run_ids}

    def facts_of(self, site: Site, run: Run) -> RunFacts:
        """A run with the end of its loss and its watchers' notes.

        Raises:
            ArtifactError, StorageError: its files cannot be read.
            ValueError, TypeError: a note is none of this version.
        """
        known = self._known.get(run.id)
        if known is not None and known.ended_at is not None and known.ended_at == run.finished_at:
            return RunFacts(run, known.loss, known.notes)
        storage, folder = site.workspace.storage, f"runs/{run.id}"
        paths = f"{folder}/{METRICS_FILE}", f"{folder}/{FINDINGS_FILE}"
        metrics, findings = (storage.modified(path) for path in paths)
        if known is None or known.written != (metrics, findings):
            loss = read_metrics_of(site.workspace, run.id).tail("loss", POINTS) if metrics else NOTHING
            notes = _notes(storage, paths[1]) if findings else ()
            known = _Read((metrics, findings), None, loss, notes)
        self._known[run.id] = replace(known, ended_at=run.finished_at)
        return RunFacts(run, known.loss, known.notes, written_live=not storage.remote)


def _notes(storage: Storage, path: str) -> tuple[Note, ...]:
    return tuple(parse_findings(storage.read_bytes(path).decode("utf-8", "replace")))
