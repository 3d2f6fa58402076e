"""Packing: documents laid end to end in sequences of at most `max_sequence_length` tokens.

Best fit decreasing, as in "Fewer Truncations Improve Language Modeling" (Ding et al., 2024): the longest
first, each into the fullest sequence that still has room. Nothing is cut, and `document_lengths` keeps the
documents apart (see `heliostat.tokenized`).

Ding et al. find the room for one piece at a time. Here pieces of a length are placed together: the sequence
that best fits the first of them is, one piece fuller, the best fit for the second, until no more go in. So
the work grows with the different lengths and rooms there are, hardly with the number of pieces.

Best fit is near the least possible where there are many pieces of many lengths. Few pieces of a fifth of a
sequence each leave it with rests that nothing fits into; then sequences are filled one by one instead, each
as full as the pieces left allow: minimum bin slack (Gupta and Ho, 1999), by a subset sum.
"""

from collections import Counter, deque
from collections.abc import Iterator

import numpy as np
import xxhash

from heliostat.data.encoding import Encoded
from heliostat.tokenized import PackedSequence

_NEAR_ENOUGH = 0.005
"""Best fit's sequences above the least that could hold the tokens."""
_MOST_WORK = 3_000_000
"""Lengths that `minimum_slack` looks at before it gives up: about a second."""


def pack(
    pieces: list[Encoded], max_sequence_length: int, packing: bool = True, seed: int = 0
) -> list[PackedSequence]:
    """All pieces, packed, in an order shuffled by hash; without `packing`, a sequence for each.

    Preference pairs are never packed together: each is a sequence of two documents.
    """
    if any(piece.rejected_at for piece in pieces):
        packing = False
    lengths = np.fromiter((len(piece.input_ids) for piece in pieces), dtype=np.int64, count=len(pieces))
    numbers = fewest_sequences(lengths, max_sequence_length) if packing else np.arange(len(pieces))
    rows = [[pieces[at] for at in positions] for positions in contents_of(numbers, lengths)]
    rows.sort(key=lambda row: _shuffle_key(row, seed))
    return [_sequence(row) for row in rows]


def fewest_sequences(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The sequence of each piece, by best fit or, where that takes fewer sequences, by minimum slack.

    Arguments, result and repeatability are those of `best_fit`.
    """
    numbers = best_fit(lengths, capacity)
    needed = -(-int(lengths.sum()) // capacity)
    opened = int(numbers.max()) + 1 if len(numbers) else 0
    if opened > needed * (1 + _NEAR_ENOUGH):
        tighter = minimum_slack(lengths, capacity, opened)
        if tighter is not None:
            return tighter
    return numbers


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


def minimum_slack(lengths: np.ndarray, capacity: int, fewer_than: int) -> np.ndarray | None:
    """The sequence of each piece; each sequence in turn gets the longest piece left and what fills it best.

    `lengths` and the result are those of `best_fit`. None if it takes `fewer_than` sequences or more, or more
    work than is worth it: that is counted, not timed, so that the same lengths always give the same.
    """
    positions = {
        length: deque(np.flatnonzero(lengths == length).tolist()) for length in np.unique(lengths).tolist()
    }
    left = {length: len(of_length) for length, of_length in sorted(positions.items(), reverse=True)}
    numbers = np.empty(len(lengths), dtype=np.int64)
    work = opened = 0
    while left and opened < fewer_than and work < _MOST_WORK:
        work += len(left)
        row = _fullest(left, capacity)
        # As many sequences alike as there are pieces for: none could be fuller, with pieces gone.
        alike = min(left[length] // count for length, count in row.items())
        for length, count in row.items():
            for number in range(opened, opened + alike):
                for _ in range(count):
                    numbers[positions[length].popleft()] = number
            left[length] -= alike * count
            if not left[length]:
                del left[length]
        opened += alike
    return None if left or opened >= fewer_than else numbers


def _fullest(left: dict[int, int], capacity: int) -> Counter[int]:
    """The longest piece and those that fill its sequence best: how many of each length.

    `left`: how many pieces there are of each length, the longest length first.
    """
    longest = next(iter(left))
    room = capacity - longest
    groups: list[tuple[int, int]] = []
    reachable = [1]  # after n groups: a bit for each sum of some of them
    for length, group in _groups(left, room):
        groups.append((length, group))
        shifted = reachable[-1] << (length * group)
        reachable.append((reachable[-1] | shifted) & ((2 << room) - 1))
        if reachable[-1] >> room:
            break
    row = Counter((longest,))
    missing = reachable.pop().bit_length() - 1
    for (length, group), without in zip(reversed(groups), reversed(reachable), strict=True):
        if not without >> missing & 1:  # so the shortest pieces are left for later where that is possible
            missing -= length * group
            row[length] += group
    return row


def _groups(left: dict[int, int], room: int) -> Iterator[tuple[int, int]]:
    """Lengths with how many pieces go in together, in the order of `left`. Of ten pieces the groups are 1, 2,
    4 and 3: every number of them up to ten is the sum of some groups."""
    longest = next(iter(left))
    for length, count in left.items():
        if length <= room:
            rest, group = min(count - (length == longest), room // length), 1
            while rest:
                group = min(group, rest)
                yield length, group
                rest -= group
                group *= 2


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
    if row[0].rejected_at:
        row = list(row[0].halves)
    return PackedSequence(
        input_ids=np.concatenate([np.asarray(piece.input_ids, dtype=np.int32) for piece in row]),
        loss_mask=np.concatenate([np.asarray(piece.loss_mask, dtype=np.int8) for piece in row]),
        document_lengths=tuple(len(piece.input_ids) for piece in row),
        document_ids=tuple(piece.uid for piece in row),
    )
