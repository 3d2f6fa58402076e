"""Which document goes to train, validation and test. Looks at no text: numbers in, numbers out.

Each document has a stratum (its domain), a cluster (near-duplicates share one) and a key (a hash of its
content). The rules:

1. A cluster goes to one side as a whole, and so do documents with equal keys, which say the same: what
   shares a member or a key is one cluster here. It counts for the stratum of the member whose key comes
   first.
2. Within a stratum clusters stand in an order that keys and seed alone decide. Validation is filled from the
   front, test from the back, each up to its share of the stratum's documents, to the nearest document. A
   cluster that would go over it is passed by, and stays in train.
3. A stratum of at least `min_per_stratum` documents for each side that has a share gives every side that
   many, if need be by a cluster that goes over. A smaller stratum goes to train as a whole.

So nothing depends on the order or the sharding of the input, and no stratum on another. Documents that join
a stratum move only neighbours of the two borders: k of them move at most k + 1 others at each, and about the
square root of k as a rule, since their keys fall on both sides of it. (A newcomer that ties two clusters
together moves those.)
"""

import numpy as np

from heliostat.data.split_config import SplitConfig

TRAIN, VALIDATION, TEST = range(3)  # positions in heliostat.tokenized.SPLITS
_WORD = 2**64 - 1


def stirred(keys: np.ndarray, seed: int, purpose: int) -> np.ndarray:
    """Other keys, (num_keys,) uint64, that look random and differ wherever `keys` do.

    The finaliser of SplitMix64 (Steele, Lea and Flood, 2014), a one-to-one map. `purpose` tells uses of one
    seed apart.
    """
    salt = _splitmix(np.array([seed & _WORD], dtype=np.uint64)) + np.uint64(purpose)
    return _splitmix(np.asarray(keys, dtype=np.uint64) ^ _splitmix(salt))


def _splitmix(words: np.ndarray) -> np.ndarray:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ (words >> np.uint64(31)))


def split_codes(
    strata: np.ndarray, clusters: np.ndarray, keys: np.ndarray, config: SplitConfig
) -> np.ndarray:
    """TRAIN, VALIDATION or TEST for each document, int8.

    All arrays are (num_documents,): `strata` integers from 0 (ignored without `stratify_by`), `clusters` any
    integers, `keys` uint64, equal for equal content only.
    """
    if not len(keys):
        return np.zeros(0, dtype=np.int8)
    if config.stratify_by is None:
        strata = np.zeros(len(keys), dtype=np.int64)
    units = _Units(np.asarray(strata), np.asarray(clusters), stirred(keys, config.seed, 1))
    order = units.order()
    codes = np.empty(len(order), dtype=np.int8)
    codes[order] = _fill(units.strata[order], units.sizes[order], config)
    return np.asarray(codes[units.of_document])


class _Units:
    """Clusters: what goes to one side as a whole."""

    def __init__(self, strata: np.ndarray, clusters: np.ndarray, keys: np.ndarray) -> None:
        clusters = _joined_by_key(clusters, keys)
        _, self.of_document, self.sizes = np.unique(clusters, return_inverse=True, return_counts=True)
        self.keys = np.full(len(self.sizes), _WORD, dtype=np.uint64)
        np.minimum.at(self.keys, self.of_document, keys)
        leads = keys == self.keys[self.of_document]
        self.strata = np.full(len(self.sizes), np.iinfo(np.int64).max)
        np.minimum.at(self.strata, self.of_document[leads], strata[leads])

    def order(self) -> np.ndarray:
        """By stratum and, within it, by key."""
        by_key = np.argsort(self.keys)
        strata = self.strata[by_key]
        if strata.max() < 2**16:  # numpy sorts these in one pass
            strata = strata.astype(np.uint16)
        return by_key[np.argsort(strata, kind="stable")]


def _joined_by_key(clusters: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The clusters, one number for those that are tied together by equal keys."""
    _, same_key = np.unique(keys, return_inverse=True)
    if same_key.max() == len(keys) - 1:
        return clusters
    _, own = np.unique(clusters, return_inverse=True)
    joined = own
    while True:  # each turn carries the smallest number one tie further
        before = joined
        for group in (same_key, own):
            smallest = np.full(len(keys), len(keys))
            np.minimum.at(smallest, group, joined)
            joined = smallest[group]
        if np.array_equal(before, joined):
            return joined


def _fill(strata: np.ndarray, sizes: np.ndarray, config: SplitConfig) -> np.ndarray:
    """The codes of units that are sorted by stratum and, within it, stand in their order."""
    codes = np.full(len(strata), TRAIN, dtype=np.int8)
    starts = np.flatnonzero(np.diff(strata, prepend=strata[0] - 1))
    ends = np.append(starts[1:], len(strata))
    behind = np.cumsum(sizes)
    before = behind - sizes
    totals = behind[ends - 1] - before[starts]
    validation, test = _targets(totals, config)
    for code, wanted, reach in (
        (VALIDATION, validation, behind - np.repeat(before[starts], ends - starts)),
        (TEST, test, np.repeat(behind[ends - 1], ends - starts) - before),
    ):
        taken = reach <= np.repeat(wanted, ends - starts)
        codes[taken] = code
        short = np.add.reduceat(np.where(taken, sizes, 0), starts) < wanted
        for stratum in np.flatnonzero(short).tolist():
            span = slice(starts[stratum], ends[stratum])
            _top_up(codes[span], sizes[span], code, int(wanted[stratum]), config.min_per_stratum)
    return codes


def _targets(totals: np.ndarray, config: SplitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Documents for validation and for test of strata that have so many."""
    shares = (config.validation, config.test)
    least = config.min_per_stratum
    enough = totals >= least * (1 + sum(share > 0 for share in shares))
    targets = [
        np.where(enough, np.maximum(np.floor(share * totals + 0.5), least), 0).astype(np.int64)
        if share
        else np.zeros(len(totals), dtype=np.int64)
        for share in shares
    ]
    # Two shares rounded up can leave train without its own, in a stratum of a few documents.
    over = np.maximum(0, targets[0] + targets[1] + least - totals)
    from_test = np.minimum(over, np.maximum(0, targets[1] - least))
    return targets[0] - np.minimum(over - from_test, targets[0]), targets[1] - from_test


def _top_up(codes: np.ndarray, sizes: np.ndarray, code: int, wanted: int, least: int) -> None:
    """Give one side of a stratum more units that fit, in their order, and its minimum in any case."""
    towards = slice(None) if code == VALIDATION else slice(None, None, -1)
    codes, sizes = codes[towards], sizes[towards]
    missing = wanted - int(sizes[codes == code].sum())
    while missing > 0:
        fitting = np.flatnonzero((codes == TRAIN) & (sizes <= missing))
        reach = np.cumsum(sizes[fitting])
        taken = fitting[reach <= missing]
        if not len(taken):
            break
        codes[taken] = code
        missing -= int(sizes[taken].sum())
    while int(sizes[codes == code].sum()) < least:
        in_train = np.flatnonzero(codes == TRAIN)
        smallest = in_train[np.argmin(sizes[in_train])] if len(in_train) else 0
        if int(sizes[in_train].sum()) - sizes[smallest] < least:
            break  # train first
        codes[smallest] = code
