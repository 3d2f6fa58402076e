"""Small real artifacts of every kind, each with a certificate, and what they were made from."""

from collections.abc import Callable
from typing import Any

import pytest

from heliostat.records import Artifact
from heliostat.storage import publish, staging
from heliostat.workspace import Workspace, key_of

Make = Callable[..., Artifact]


def publish_small(
    workspace: Workspace,
    name: str,
    kind: Any = "model",
    parents: tuple[Artifact, ...] = (),
    facts: dict[str, Any] | None = None,
    content: str | None = None,
) -> Artifact:
    """An artifact of one file, whose content is its name unless told otherwise."""
    key = key_of(name, kind, *(parent.id for parent in parents))
    with staging(workspace.storage, workspace.path(kind, name, key)) as publication:
        (publication.folder / "content.txt").write_text(content or f"{kind} {name}")
        publication.facts.update(facts or {})
        return publish(publication, kind, key, {"name": name}, parents)


@pytest.fixture
def make(workspace) -> Make:
    """Publish a small artifact in the test's workspace."""

    def make(name: str, kind: str = "model", *parents: Artifact, **options: Any) -> Artifact:
        return publish_small(workspace, name, kind, parents, **options)

    return make
