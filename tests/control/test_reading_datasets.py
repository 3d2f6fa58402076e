"""Datasets as they are listed and shown, and their documents a page at a time."""

import pytest
from small_studies import add_dataset

from heliostat.control.datasets import dataset_lengths, list_datasets, show_dataset
from heliostat.control.documents import DocumentFilter, browse_documents, find_document
from heliostat.errors import ArtifactError
from heliostat.storage import Storage
from heliostat.workspace import Workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workspace:
    return Workspace(Storage.at(tmp_path_factory.mktemp("datasets")))


@pytest.fixture(scope="module")
def dataset(place, tmp_path_factory) -> str:
    return add_dataset(place, tmp_path_factory.mktemp("rows")).id


def test_a_workspace_without_datasets_has_none(tmp_path):
    assert list_datasets(Workspace(Storage.at(tmp_path))) == []


def test_the_list_says_what_went_in_and_what_was_kept(place, dataset):
    (found,) = list_datasets(place)
    assert (found.id, found.name, found.version) == (dataset, "mirrors", 1)
    assert (found.read, found.kept, found.dropped) == (36, 32, 4)
    assert sum(found.splits.values()) == 32
    assert found.tokens is None


def test_datasets_of_a_name_are_counted_from_the_oldest(tmp_path):
    place = Workspace(Storage.at(tmp_path / "w"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        add_dataset(place, tmp_path / name, name)
    assert {each.name: each.version for each in list_datasets(place)} == {"one": 1, "two": 1}


def test_the_steps_account_is_a_funnel(place, dataset):
    detail = show_dataset(place, dataset)
    names = [step.name for step in detail.steps]
    assert names[0] == "read"
    assert names[-1] == "length"
    for before, after in zip(detail.steps, detail.steps[1:], strict=False):
        assert before.kept == after.read
        assert after.read == after.kept + sum(after.dropped.values())
    reasons = {reason: count for step in detail.steps for reason, count in step.dropped.items()}
    assert reasons == {"broken_json": 1, "exact_duplicate": 1, "near_duplicate": 1, "too_short": 1}
    assert detail.pii == {"email": 1}
    assert [pair.similarity > 0.7 for pair in detail.pairs] == [True]


def test_lengths_before_hold_those_that_went(place, dataset):
    found = dataset_lengths(place, dataset)
    assert len(found.edges) == len(found.before) + 1 == len(found.after) + 1
    assert sum(found.after) == 32
    assert sum(found.before) == found.measured == 36
    assert all(before >= after for before, after in zip(found.before, found.after, strict=True))


def test_dropped_documents_are_filtered_by_reason_step_and_score(place, dataset):
    def total(**wanted) -> int:
        return browse_documents(place, dataset, DocumentFilter(**wanted)).total

    assert total() == 4
    assert total(reason="near_duplicate") == 1
    assert total(step="length") == 1
    assert total(step="length", reason="near_duplicate") == 0
    assert total(reason="near_duplicate", score=(0.7, 1.0)) == 1
    assert total(reason="near_duplicate", score=(None, 0.5)) == 0


def test_pages_hold_every_document_once(place, dataset):
    wanted = DocumentFilter(state="kept")
    pages = [browse_documents(place, dataset, wanted, number, 7) for number in range(1, 6)]
    uids = [document.uid for page in pages for document in page.documents]
    assert len(uids) == len(set(uids)) == 32
    assert pages[0].pages == 5
    assert browse_documents(place, dataset, wanted, 99, 7).number == 5
    assert {document.split for page in pages for document in page.documents} == {
        "train",
        "validation",
        "test",
    }


def test_a_split_and_a_part_of_the_uid_narrow_it_down(place, dataset):
    kept = show_dataset(place, dataset).dataset.splits
    assert browse_documents(place, dataset, DocumentFilter(state="kept", split="test")).total == kept["test"]
    one = browse_documents(place, dataset, DocumentFilter(state="kept")).documents[0]
    assert browse_documents(place, dataset, DocumentFilter(state="kept", uid=one.uid)).total >= 1


def test_a_changed_document_says_what_was_replaced_and_not_by_whom_it_was(place, dataset):
    page = browse_documents(place, dataset, DocumentFilter(state="changed"))
    (document,) = page.documents
    assert page.total == 1
    assert "example.org" not in document.turns[0].text
    assert document.changes[0].startswith("pii: email (0:")


def test_a_duplicate_leads_to_what_it_repeats(place, dataset):
    (gone,) = browse_documents(place, dataset, DocumentFilter(reason="near_duplicate")).documents
    assert gone.kept_uid is not None
    kept = find_document(place, dataset, gone.kept_uid)
    assert kept is not None
    assert kept.split is not None
    assert kept.turns[0].text.split()[:70] == gone.turns[0].text.split()[:70]
    assert find_document(place, dataset, "no such uid") is None


def test_an_unknown_dataset_is_named(place, dataset):
    with pytest.raises(ArtifactError, match=f"dataset-x: no such dataset.*{dataset}"):
        show_dataset(place, "dataset-x")
    with pytest.raises(ArtifactError, match="no such dataset"):
        browse_documents(place, "dataset-x", DocumentFilter())
