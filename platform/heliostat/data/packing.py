"""Packing: documents laid end to end in sequences of at most `max_sequence_length` tokens.

Best fit decreasing, as in "Fewer Truncations Improve Language Modeling" (Ding et al., 2024): the longest
first, each into the fullest sequence that still has room. Nothing is cut, and `document_lengths` keeps the
documents apart (see `heliostat.tokenized`).

Ding et al. find the room for one piece at a time. Here pieces of a length are placed together: the sequence
that best fits the first of them is, one piece fuller, the best fit for the second, until no more go in. So
the work grows with the different lengths and rooms there are, hardly with the number of pieces.
"""

import numpy as np
import xxhash

from heliostat.data.encoding import Encoded
from heliostat.tokenized import PackedSequence


def pack(
    pieces: list[Encoded], max_sequence_length: int, packing: bool = True, seed: int = 0
) -> list[PackedSequence]:
    """All pieces, packed, in an order shuffled by hash; without `packing`, a sequence for each."""
    lengths = np.fromiter((len(piece.input_ids) for piece in pieces), dtype=np.int64, count=len(pieces))
    numbers = best_fit(lengths, max_sequence_length) if packing else np.arange(len(pieces))
    rows = [[pieces[at] for at in positions] for positions in contents_of(numbers, lengths)]
    rows.sort(key=lambda row: _shuffle_key(row, seed))
    return [_sequence(row) for row in rows]


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The sequence of each piece, numbered from 0 as they are opened; the same for the same lengths.

    `lengths`: (num_pieces,) integers from 1 to `capacity`. Returns (num_pieces,) int64. Pieces of a length
    are placed in the order they come in.
    """
    assert not len(lengths) or (lengths.min() > 0 and lengths.max() <= capacity), "cut pieces to fit first"
    numbers = np.empty(len(lengths), dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    rooms = _Rooms(capacity)
    start = end = 0
    for shortened, count in zip(*np.unique(-lengths, return_counts=True), strict=True):
        end += int(count)
        while start < end:
            chosen, each = rooms.take(-int(shortened), end - start)
            placed = np.repeat(np.array(chosen, dtype=np.int64), each)[: end - start]
            numbers[order[start : start + len(placed)]] = placed
            start += len(placed)
    return numbers


class _Rooms:
    """Sequences by the room they have left. A bit of `_some` says that there is one with that much."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._opened = 0
        self._with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
        self._some = 0

    def take(self, length: int, count: int) -> tuple[list[int], int]:
        """Sequences for the next of `count` pieces, and how many go into each (the last may get fewer)."""
        large_enough = self._some >> length
        if large_enough:
            room = length + (large_enough & -large_enough).bit_length() - 1
            each, found = room // length, self._with_room[room]
            num = min(len(found), -(-count // each))
            chosen = found[-num:]
            del found[-num:]
            if not found:
                self._some ^= 1 << room
        else:
            room, each = self._capacity, self._capacity // length
            num = -(-count // each)
            chosen = list(range(self._opened, self._opened + num))
            self._opened += num
        last = min(each, count - each * (num - 1))
        self._put(chosen[:-1], room - each * length)
        self._put(chosen[-1:], room - last * length)
        return chosen, each

    def _put(self, sequences: list[int], room: int) -> None:
        if sequences and room:
            self._with_room[room] += sequences
            self._some |= 1 << room


def contents_of(numbers: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """For each sequence the positions of its pieces, the longest first."""
    if not len(numbers):
        return []
    order = np.lexsort((-lengths, numbers))
    borders = np.flatnonzero(np.diff(numbers[order])) + 1
    return [positions.tolist() for positions in np.split(order, borders)]


def _shuffle_key(row: list[Encoded], seed: int) -> tuple[int, str]:
    names = "\0".join(piece.uid for piece in row)
    return xxhash.xxh3_64_intdigest(f"{seed}\0{names}".encode()), names


def _sequence(row: list[Encoded]) -> PackedSequence:
    return PackedSequence(
        input_ids=np.concatenate([np.asarray(piece.input_ids, dtype=np.int32) for piece in row]),
        loss_mask=np.concatenate([np.asarray(piece.loss_mask, dtype=np.int8) for piece in row]),
        document_lengths=tuple(len(piece.input_ids) for piece in row),
        document_ids=tuple(piece.uid for piece in row),
    )
