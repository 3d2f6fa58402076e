"""Small real artifacts of every kind, each with a certificate, and what they were made from."""

from collections.abc import Callable
from typing import Any

import pytest
from versions.small_records import publish_small

from heliostat.records import Artifact

Make = Callable[..., Artifact]


@pytest.fixture
def make(workspace) -> Make:
    """Publish a small artifact in the test's workspace."""

    def make(name: str, kind: str = "model", *parents: Artifact, **options: Any) -> Artifact:
        return publish_small(workspace, name, kind, parents, **options)

    return make
