"""Exact dedup: which documents say the same as one that comes before them.

Tasks hash each document; this looks at the hashes of all of them, or of all that share a key. What stays
depends on the documents alone and not on workers, shards, retries or the order of reading.
"""

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


def exact_duplicates(keys: U64, ranks: I64) -> tuple[I64, I64]:
    """Positions of the documents that go, rising, and of the one that stays in the place of each.

    Args:
        keys: (n, 2) uint64, equal for documents that say the same.
        ranks: (n,) places in a total order, all different; of equal keys the lowest stays.
    """
    shared = repeated(keys[:, 0])
    first, second, rank = keys[shared, 0], keys[shared, 1], ranks[shared]
    by_key = np.lexsort((rank, second, first))
    rows, first, second = shared[by_key], first[by_key], second[by_key]
    goes = np.flatnonzero((first[1:] == first[:-1]) & (second[1:] == second[:-1])) + 1
    start = np.arange(len(rows))
    start[goes] = 0
    kept = rows[np.maximum.accumulate(start)][goes]
    rising = np.argsort(rows[goes])
    return rows[goes][rising], kept[rising]


def repeated(hashes: U64) -> I64:
    """Positions, rising, of all hashes that occur more than once, and of few others.

    Most hashes occur once: to sort them alone and look each up in a table is far quicker than to sort them
    with their positions.
    """
    in_order = np.sort(hashes)
    twice = in_order[1:][in_order[1:] == in_order[:-1]]
    bits = min(max(len(twice).bit_length() + 3, 8), 27)
    shift = np.uint64(64 - bits)
    occurs = np.zeros(1 << bits, np.bool_)
    occurs[(twice >> shift).view(np.int64)] = True
    return np.flatnonzero(occurs[(hashes >> shift).view(np.int64)])
