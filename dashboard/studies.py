"""What the pages on data, sweeps, evaluations and models read, kept for a moment for all who look.

Each takes the workspace's root, which can be compared, and answers a reading: what is away is not an error.
"""

import streamlit as st

from heliostat.control.datasets import (
    Dataset,
    DatasetDetail,
    Lengths,
    dataset_lengths,
    list_datasets,
    show_dataset,
)
from heliostat.control.documents import (
    DocumentFilter,
    DocumentPage,
    ShownDocument,
    browse_documents,
    find_document,
)
from heliostat.control.evaluations import (
    ComparedModels,
    EvaluationReport,
    ExamplePage,
    Leaderboard,
    Order,
    browse_examples,
    compare_models,
    leaderboard,
    list_reports,
)
from heliostat.control.models import (
    LineageGraph,
    Models,
    PromotionPreview,
    alias_history,
    card_of,
    lineage_graph,
    list_versions,
    preview_promotion,
)
from heliostat.control.readings import Reading, take
from heliostat.control.sweeps import Sweep, SweepDetail, list_sweeps, show_sweep
from heliostat.storage import Storage
from heliostat.versions.history import AliasEvent
from heliostat.versions.names import Alias
from heliostat.workspace import Workspace

SOON, LATER = 2, 10
"""Seconds: what changes while one looks, and what does not."""


def place(root: str) -> Workspace:
    """The workspace of a root."""
    return Workspace(Storage.at(root))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=16)
def datasets_of(root: str) -> Reading[list[Dataset]]:
    """All datasets."""
    return take(lambda: list_datasets(place(root)))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=64)
def dataset_of(root: str, dataset_id: str) -> Reading[DatasetDetail]:
    """One in detail."""
    return take(lambda: show_dataset(place(root), dataset_id))


@st.cache_data(ttl=600, show_spinner=False, max_entries=64)
def lengths_of(root: str, dataset_id: str) -> Reading[Lengths]:
    """Its documents' lengths."""
    return take(lambda: dataset_lengths(place(root), dataset_id))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=64)
def documents_of(
    root: str, dataset_id: str, wanted: DocumentFilter, number: int, size: int
) -> Reading[DocumentPage]:
    """A page of its documents."""
    return take(lambda: browse_documents(place(root), dataset_id, wanted, number, size))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=64)
def document_of(root: str, dataset_id: str, uid: str) -> Reading[ShownDocument | None]:
    """One document."""
    return take(lambda: find_document(place(root), dataset_id, uid))


@st.cache_data(ttl=SOON, show_spinner=False, max_entries=16)
def sweeps_of(root: str) -> Reading[list[Sweep]]:
    """All sweeps."""
    return take(lambda: list_sweeps(place(root)))


@st.cache_data(ttl=SOON, show_spinner=False, max_entries=32)
def sweep_of(root: str, sweep_id: str) -> Reading[SweepDetail]:
    """One in detail."""
    return take(lambda: show_sweep(place(root), sweep_id))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=16)
def leaderboard_of(root: str) -> Reading[Leaderboard]:
    """All models against all tasks."""
    return take(lambda: leaderboard(place(root)))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=16)
def reports_of(root: str) -> Reading[list[EvaluationReport]]:
    """All evaluation reports."""
    return take(lambda: list_reports(place(root)))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=64)
def examples_of(
    root: str, where: tuple[str, str, str], metric: str | None, order: Order, page: tuple[int, int]
) -> Reading[ExamplePage]:
    """A page of a suite's examples."""
    return take(lambda: browse_examples(place(root), where, metric, order, page))


@st.cache_data(ttl=600, show_spinner=False, max_entries=32)
def compared_of(root: str, a: tuple[str, str], b: tuple[str, str]) -> Reading[ComparedModels]:
    """Two models side by side."""
    return take(lambda: compare_models(place(root), a, b))


@st.cache_data(ttl=SOON, show_spinner=False, max_entries=16)
def models_of(root: str) -> Reading[Models]:
    """All versions, and models without one."""
    return take(lambda: list_versions(place(root)))


@st.cache_data(ttl=SOON, show_spinner=False, max_entries=32)
def events_of(root: str, name: str) -> Reading[list[AliasEvent]]:
    """What was done to a name's aliases."""
    return take(lambda: alias_history(place(root), name))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=32)
def lineage_of(root: str, reference: str) -> Reading[LineageGraph]:
    """Where a thing comes from, and what became of it."""
    return take(lambda: lineage_graph(place(root), reference))


@st.cache_data(ttl=LATER, show_spinner=False, max_entries=32)
def model_card_of(root: str, reference: str) -> Reading[str]:
    """A model's card."""
    return take(lambda: card_of(place(root), reference))


@st.cache_data(ttl=SOON, show_spinner=False, max_entries=32)
def promotion_of(root: str, reference: str, to: Alias) -> Reading[PromotionPreview]:
    """What a promotion would compare."""
    return take(lambda: preview_promotion(place(root), reference, to))
