"""Exact dedup: which documents repeat an earlier one.

Tasks hash; this looks at the hashes of all documents in one total order (source order, then row), so the
decision depends on neither workers nor retries. 16 bytes a document and its uid are all that is held.
"""

from collections.abc import Iterable

from heliostat.data.documents import Document
from heliostat.text.normalise import comparison_key

STEP = "exact_dedup"
REASON = "exact_duplicate"


def key_of_document(document: Document) -> bytes:
    """16 bytes, equal for documents that say the same: roles and contents count, white space does not."""
    texts = [part for message in document.messages for part in (message["role"], message["content"])]
    return comparison_key(texts or [document.text])


def find_duplicates(keys: Iterable[tuple[bytes, str]]) -> dict[str, str]:
    """For (key, uid) in order: the uids that go, each with the uid of the first with its key, which stays."""
    first: dict[bytes, str] = {}
    duplicates: dict[str, str] = {}
    for key, uid in keys:
        kept = first.setdefault(key, uid)
        if kept != uid:
            duplicates[uid] = kept
    return duplicates
