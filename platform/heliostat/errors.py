"""Every error Heliostat raises on purpose, as one tree.

    HeliostatError
    ├── ConfigError      a recipe, an override or a command line is wrong
    ├── DataError        documents cannot be read, or nothing is left of them
    ├── ModelError       a base model is unknown, unsafe or unreadable
    ├── ArtifactError    an artifact is missing or incomplete
    │   └── BusyError    another run is making it
    ├── StorageError     a place cannot be read or written, or is full
    ├── ClusterError     Ray is out of reach, or cannot give what is asked
    ├── TrackingError    the tracking server is out of reach
    ├── StoreError       the control plane's database is out of reach
    ├── AccessError      someone may not do what they ask for
    ├── TrainingError    a training run ended before its end
    │   └── StoppedError told to, with its state saved
    │       └── PausedError the piece that was asked for is made
    ├── EvaluationError  a model cannot be evaluated as asked, or is worse than it may be
    └── ServingError     an endpoint cannot start or answer

Callers catch the branch they can act on. A message is one line: what is wrong, where, how to mend it.
The command line prints it and exits with 2; anything else is a fault of ours and exits with 1.
"""


class HeliostatError(Exception):
    """A failure that was foreseen; `str(error)` is fit for the person who typed the command."""


class ConfigError(HeliostatError):
    """A recipe, an override or a command line is wrong."""


class DataError(HeliostatError):
    """Documents cannot be read, or nothing is left of them."""


class ModelError(HeliostatError):
    """A base model is unknown, unsafe or unreadable."""


class ArtifactError(HeliostatError):
    """An artifact is missing, incomplete, or being made by another run."""


class BusyError(ArtifactError):
    """An identical run is going on in another process."""


class StorageError(HeliostatError):
    """A place cannot be read or written, or is full."""


class ClusterError(HeliostatError):
    """Ray is out of reach, or cannot give what is asked."""


class TrackingError(HeliostatError):
    """The tracking server is out of reach."""


class StoreError(HeliostatError):
    """The control plane's database is out of reach, or refuses."""


class AccessError(HeliostatError):
    """Someone may not do what they ask for."""


class TrainingError(HeliostatError):
    """A training run stopped before its end."""


class StoppedError(TrainingError):
    """A training run was told to stop; its state is saved, and the same request goes on from it."""


class PausedError(StoppedError):
    """A training run made the piece that was asked for; its state is saved for the next one."""


class EvaluationError(HeliostatError):
    """A model cannot be evaluated as asked, or is worse than it may be."""


class ServingError(HeliostatError):
    """An endpoint cannot start or answer."""
