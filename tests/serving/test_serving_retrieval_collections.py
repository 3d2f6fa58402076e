"""Collections: adding, replacing, finding; tenants apart; what happens when files are damaged."""

import asyncio
import json
import shutil

import numpy as np
import pytest
from tests.serving.word_vectors import embed

from heliostat.errors import StorageError
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.retrieval import collection as collection_module
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.passages import Added, CollectionInfo, Document
from heliostat.serving.retrieval.store import Collections
from heliostat.storage import Storage

pytestmark = pytest.mark.anyio
MIRROR = Document("mirror", "A mirror turns light around. It is made of glass.", {"year": 1900})
ONION = Document("onion", "Fry the onions in butter until they are brown.")


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "collections" / "acme" / "manuals"


def collections_at(storage, embedder="words-1", **config):
    return Collections(storage, RetrievalConfig(**{"refresh_seconds": 0, **config}), embed, embedder)


async def found(collections, query="light of a mirror", top_k=5, name="manuals"):
    return [hit.document_id for hit in await collections.search("acme", name, query, top_k)]


async def test_the_nearest_passage_comes_first_with_its_place_and_score(storage):
    collections = collections_at(storage, chunk_tokens=8, chunk_overlap_tokens=0)
    assert await collections.add("acme", "manuals", [ONION, MIRROR]) == Added(2, 0, 4)
    first, second = await collections.search("acme", "manuals", "a mirror turns light around", 2)
    assert (first.document_id, first.chunk, first.metadata) == ("mirror", 0, {"year": 1900})
    assert MIRROR.text[first.start : first.end] == first.text == "A mirror turns light around."
    assert 1.01 > first.score > 0.9 > second.score
    assert await collections.names("acme") == ["manuals"]
    assert await collections.info("acme", "manuals") == CollectionInfo("manuals", 2, 4, "words-1")


async def test_another_process_finds_what_was_added_replaced_and_removed(storage):
    one, other = collections_at(storage), collections_at(storage)
    await one.add("acme", "manuals", [MIRROR, ONION])
    assert await found(other) == ["mirror", "onion"]
    changed = Document("mirror", "Peel the onions first.")
    assert await other.add("acme", "manuals", [changed]) == Added(1, 1, 1)
    assert (await one.search("acme", "manuals", "peel", 5))[0].text == changed.text
    assert (await one.info("acme", "manuals")).num_chunks == 2
    assert await one.remove("acme", "manuals", ["mirror", "nobody", "mirror"]) == 1
    assert await found(other) == ["onion"]
    assert await found(collections_at(storage)) == ["onion"]


async def test_a_tenant_cannot_reach_anothers_collection(storage):
    collections = collections_at(storage)
    for tenant in ("acme", "a/../acme", "..", "", "~", "Ä", "\ud800", "x" * 300):
        await collections.add(tenant, "manuals", [Document("id", f"The text of {tenant!r}.")])
    for tenant in ("acme", "a/../acme", "..", "", "~", "Ä", "\ud800", "x" * 300):
        (hit,) = await collections.search(tenant, "manuals", "text", 5)
        assert hit.text == f"The text of {tenant!r}."
        assert await collections.names(tenant) == ["manuals"]
    with pytest.raises(RefusedRequest, match="does not exist") as refusal:
        await collections.search("b", "manuals", "text")
    assert refusal.value.status == 404


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "/etc", "a\0", "-a", "_a", "a.b", "a\n", "é", "a" * 65]
)
async def test_a_name_that_could_lead_elsewhere_is_refused(storage, tmp_path, name):
    collections = collections_at(storage)
    for call in (
        collections.add("acme", name, [MIRROR]),
        collections.search("acme", name, "x"),
        collections.remove("acme", name, ["x"]),
        collections.delete("acme", name),
        collections.info("acme", name),
    ):
        with pytest.raises(RefusedRequest, match="give a name of 1 to 64 letters"):
            await call
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        ([], "send 1 to 2 at once, not 0"),
        ([MIRROR, ONION, Document("c", "c")], "not 3"),
        ([MIRROR, MIRROR], "the id 'mirror' comes twice"),
        ([Document("", "x")], "the id must have"),
        ([Document("a", " \n")], "the text is empty"),
        ([Document("a", "x" * 101)], "has 101 characters; send at most 100"),
        ([Document("a", "\ud800")], "half a surrogate pair"),
        ([Document("a", "x", {"a": "y" * 50})], "the metadata takes"),
        ([Document("a", "x", {"a": object()})], "the metadata is no JSON"),
        ([Document("a", "x", {"a": float("nan")})], "the metadata is no JSON"),
    ],
)
async def test_documents_that_are_not_fit_are_refused_together(storage, documents, problem):
    collections = collections_at(
        storage, max_documents_at_once=2, max_document_chars=100, max_metadata_bytes=32
    )
    with pytest.raises(RefusedRequest, match=problem):
        await collections.add("acme", "manuals", documents)
    assert await collections.names("acme") == []


async def test_bounds_of_queries_chunks_and_collections(storage):
    collections = collections_at(storage, max_chunks=2, max_collections=1, max_top_k=3)
    await collections.add("acme", "manuals", [MIRROR, ONION])
    with pytest.raises(RefusedRequest, match="more than 2 chunks"):
        await collections.add("acme", "manuals", [Document("third", "x")])
    await collections.add("acme", "manuals", [Document("onion", "in the place of the other")])
    with pytest.raises(RefusedRequest, match="1 collections already"):
        await collections.add("acme", "second", [MIRROR])
    await collections.add("b", "second", [MIRROR])
    for query, top_k, problem in (
        ("", 1, "query: is empty"),
        ("x", 0, "give 1 to 3"),
        ("x", 4, "give 1 to 3"),
    ):
        with pytest.raises(RefusedRequest, match=problem):
            await collections.search("acme", "manuals", query, top_k)


async def test_a_deleted_collection_is_gone_for_all(storage, folder):
    one, other = collections_at(storage), collections_at(storage)
    await one.add("acme", "manuals", [MIRROR])
    assert await found(other) == ["mirror"]
    await one.delete("acme", "manuals")
    for call in (other.search("acme", "manuals", "x"), one.delete("acme", "manuals")):
        with pytest.raises(RefusedRequest, match="does not exist"):
            await call
    assert not folder.exists()
    await other.add("acme", "manuals", [ONION])
    assert await found(one) == ["onion"]


async def fill(collections, count=30):
    for start in range(0, count, 10):
        texts = [Document(f"d{number}", f"word{number} and more") for number in range(start, start + 10)]
        await collections.add("acme", "manuals", texts)


@pytest.mark.parametrize("damage", ["missing", "garbage", "of another day"])
async def test_an_index_that_is_not_of_the_chunks_is_made_anew(storage, folder, monkeypatch, damage):
    monkeypatch.setattr(collection_module, "INDEX_EVERY", 1)
    await fill(collections_at(storage))
    (index,) = folder.glob("index-*")
    if damage == "missing":
        index.unlink()
    elif damage == "garbage":
        index.write_bytes(b"garbage" * 1000)
    else:
        content = index.read_bytes()
        await fill(collections_at(storage), 60)
        (index,) = folder.glob("index-*")
        index.write_bytes(content)
    again = collections_at(storage)
    assert (await found(again, "word7", 1)) == ["d7"]
    assert (await found(again, "word29", 1)) == ["d29"]


async def test_an_old_index_is_brought_up_to_date(storage, folder, monkeypatch):
    monkeypatch.setattr(collection_module, "INDEX_EVERY", 1)
    await fill(collections_at(storage))
    monkeypatch.setattr(collection_module, "INDEX_EVERY", 10**6)
    writer = collections_at(storage)
    await writer.remove("acme", "manuals", ["d7"])
    await writer.add("acme", "manuals", [Document("new", "word7 and more")])
    assert await found(collections_at(storage), "word7", 1) == ["new"]
    assert (await collections_at(storage).info("acme", "manuals")).num_chunks == 30


async def test_many_segments_are_written_together(storage, folder, monkeypatch):
    monkeypatch.setattr(collection_module, "MAX_SEGMENTS", 3)
    reader = collections_at(storage)
    writer = collections_at(storage)
    for number in range(10):
        await writer.add("acme", "manuals", [Document(f"d{number}", f"word{number}")])
        assert await found(reader, f"word{number}", 1) == [f"d{number}"]
    await writer.remove("acme", "manuals", ["d3"])
    assert len(list(folder.glob("segment-*"))) <= 3
    assert sorted(await found(collections_at(storage), "word", 50)) == [f"d{n}" for n in range(10) if n != 3]


async def test_a_damaged_segment_is_an_error_and_not_a_guess(storage, folder):
    await collections_at(storage).add("acme", "manuals", [MIRROR])
    (segment,) = folder.glob("segment-*")
    segment.write_bytes(segment.read_bytes()[:-1] + b"?")
    with pytest.raises(StorageError, match="damaged; restore it, or delete the collection"):
        await found(collections_at(storage))
    manifest = json.loads((folder / "collection.json").read_text())
    manifest["segments"][0]["name"] = "../../../secret"
    (folder / "collection.json").write_text(json.dumps(manifest))
    with pytest.raises(StorageError, match="not a collection of this version"):
        await found(collections_at(storage))


async def test_a_change_that_is_not_published_does_not_count(storage, folder, tmp_path):
    collections = collections_at(storage)
    await collections.add("acme", "manuals", [MIRROR])
    before = tmp_path / "before"
    shutil.copytree(folder, before)
    await collections.add("acme", "manuals", [ONION])
    shutil.copy(before / "collection.json", folder)  # as if killed before the last step
    again = collections_at(storage)
    assert await found(again) == ["mirror"]
    await again.add("acme", "manuals", [Document("next", "Something else.")])
    assert sorted(await found(collections_at(storage))) == ["mirror", "next"]


async def test_vectors_of_another_embedder_are_not_compared(storage):
    await collections_at(storage).add("acme", "manuals", [MIRROR])
    other = collections_at(storage, embedder="words-2")
    with pytest.raises(RefusedRequest, match="made with the embedder words-1") as refusal:
        await found(other)
    assert refusal.value.status == 409
    await other.delete("acme", "manuals")


async def test_many_at_once_lose_nothing(storage):
    gateways = [collections_at(storage, max_open_collections=1) for _ in range(2)]
    await asyncio.gather(
        *(
            gateways[number % 2].add("acme", f"c{number % 3}", [Document(f"d{number}", f"word{number}")])
            for number in range(18)
        )
    )
    for part in range(3):
        ids = await found(gateways[0], "word", 50, f"c{part}")
        assert sorted(ids) == sorted(f"d{number}" for number in range(18) if number % 3 == part)


async def test_large_collections_are_searched_by_the_index(storage, monkeypatch):
    monkeypatch.setattr(collection_module, "EXACT_BELOW", 1)
    collections = collections_at(storage)
    await fill(collections, 200)
    hits = [await found(collections, f"word{number}", 1) for number in range(200)]
    assert np.mean([hit == [f"d{number}"] for number, hit in enumerate(hits)]) > 0.98
