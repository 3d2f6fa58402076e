"""Libraries that take seconds to import, imported before somebody waits for them."""

import importlib
import threading

LIBRARIES = (
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "optuna.importance",
    "sklearn.ensemble",
)
"""Of the registry of models, and of what mattered in a sweep."""
WAIT_SECONDS = 4.0
"""The first page has the processor to itself."""


def import_ahead(stop: threading.Event) -> None:
    """Import them one by one, some seconds from now, until told to stop."""
    stop.wait(WAIT_SECONDS)
    for name in LIBRARIES:
        if stop.is_set():
            return
        importlib.import_module(name)
