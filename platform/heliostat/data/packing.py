"""Packing: documents laid end to end in sequences of at most `max_sequence_length` tokens.

Best fit decreasing, as in "Fewer Truncations Improve Language Modeling" (Ding et al., 2024): the longest
first, each into the fullest sequence that still has room. Nothing is cut, and `document_lengths` keeps the
documents apart (see `heliostat.tokenized`).
"""

import bisect

import numpy as np
import xxhash

from heliostat.data.encoding import Encoded
from heliostat.tokenized import PackedSequence


def pack(
    pieces: list[Encoded], max_sequence_length: int, packing: bool = True, seed: int = 0
) -> list[PackedSequence]:
    """All pieces, packed, in an order shuffled by hash; without `packing`, a sequence for each."""
    bins = _best_fit_decreasing(pieces, max_sequence_length) if packing else [[piece] for piece in pieces]
    bins.sort(key=lambda content: _shuffle_key(content, seed))
    return [_sequence(content) for content in bins]


def _best_fit_decreasing(pieces: list[Encoded], capacity: int) -> list[list[Encoded]]:
    bins: list[list[Encoded]] = []
    room: list[tuple[int, int]] = []  # (tokens left, position in bins), sorted
    for piece in sorted(pieces, key=lambda piece: -len(piece.input_ids)):  # stable: ties keep their order
        length = len(piece.input_ids)
        assert length <= capacity, "pieces are cut to fit before they are packed"
        at = bisect.bisect_left(room, (length, -1))
        if at == len(room):
            bins.append([piece])
            left, position = capacity - length, len(bins) - 1
        else:
            left, position = room.pop(at)
            bins[position].append(piece)
            left -= length
        if left:
            bisect.insort(room, (left, position))
    return bins


def _shuffle_key(content: list[Encoded], seed: int) -> tuple[int, str]:
    names = "\0".join(piece.uid for piece in content)
    return xxhash.xxh3_64_intdigest(f"{seed}\0{names}".encode()), names


def _sequence(content: list[Encoded]) -> PackedSequence:
    return PackedSequence(
        input_ids=np.concatenate([np.asarray(piece.input_ids, dtype=np.int32) for piece in content]),
        loss_mask=np.concatenate([np.asarray(piece.loss_mask, dtype=np.int8) for piece in content]),
        document_lengths=tuple(len(piece.input_ids) for piece in content),
        document_ids=tuple(piece.uid for piece in content),
    )
