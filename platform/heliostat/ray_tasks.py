"""Generator tasks on the cluster, side by side: what they yield comes back as it is made.

A task that yields its progress and, last, its result needs no queue and no shared disk between its node and
the driver's. Files come back the same way, in chunks.
"""

import _thread
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from heliostat.config import Resources
from heliostat.errors import ClusterError, HeliostatError
from heliostat.ray_session import options_of

CHUNK_BYTES = 64 * 2**20
SECONDS_TO_NEXT_TRY = 0.1


@dataclass(frozen=True)
class FileChunk:
    """The next bytes of a file; `path` is relative to the folder that is sent."""

    path: str
    content: bytes

    def append_to(self, folder: Path) -> None:
        """Write the chunk behind the ones that came before it."""
        target = folder / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as stream:
            stream.write(self.content)


def chunks_of(folder: Path) -> Iterator[FileChunk]:
    """All files of a folder, for a task to yield."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            content = stream.read(CHUNK_BYTES)
            while True:  # once for an empty file, too
                yield FileChunk(str(file.relative_to(folder)), content)
                content = stream.read(CHUNK_BYTES)
                if not content:
                    break


def streaming_task(function: Callable[..., Iterator[Any]], resources: Resources) -> Any:
    """A generator function as a task for `stream`, with what it needs of the cluster."""
    import ray

    task = ray.remote(interrupted_between_imports(function))
    return task.options(num_returns="streaming", **options_of(resources))


def interrupted_between_imports(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """The same generator function, which is not interrupted while a module is being imported.

    Ray cancels a task by an interrupt, wherever it is, and gives its process to the next task. A module that
    was interrupted half-way stays half there, and in that process can never be imported again.
    """

    @functools.wraps(function)
    def generate(*arguments: Any) -> Iterator[Any]:
        if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
            yield from function(*arguments)
            return
        former = signal.signal(signal.SIGINT, _interrupt)
        try:
            yield from function(*arguments)
        finally:
            signal.signal(signal.SIGINT, former)

    return generate


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt now, or try again a little later if an import is under way."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            threading.Timer(SECONDS_TO_NEXT_TRY, _thread.interrupt_main).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def stream(tasks: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, item) for whatever any of the tasks yields, until all have ended.

    `tasks` are Ray's generators by name. When one fails, or the caller stops, the others are cancelled.

    Raises:
        HeliostatError: the one that a task raised.
        ClusterError: a task's process died.
    """
    import ray
    from ray.exceptions import RayTaskError, WorkerCrashedError

    names = {generator: name for name, generator in tasks.items()}
    try:
        while names:
            ready, _ = ray.wait(list(names), num_returns=1, fetch_local=False)
            try:
                yield names[ready[0]], ray.get(next(ready[0]))
            except StopIteration:
                del names[ready[0]]
    except RayTaskError as error:
        if isinstance(error.cause, HeliostatError):
            raise error.cause from None
        raise
    except WorkerCrashedError as error:
        raise ClusterError(
            "a worker process died, most likely for want of memory; ask for fewer at once or a larger machine"
        ) from error
    finally:
        for generator in names:
            ray.cancel(generator)
