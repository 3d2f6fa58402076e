"""Order and split by hash: where a document goes depends on its uid and a seed, not on others."""

import xxhash

from heliostat.data.config import SplitConfig

ORDERS = 2**62
_RANGE = float(2**64)


def order_of(uid: str, seed: int) -> int:
    """Where the document stands in the shuffled order: a number below ORDERS."""
    return xxhash.xxh3_64_intdigest(f"order\0{seed}\0{uid}".encode()) >> 2


def order_range(part: int, num_parts: int) -> tuple[int, int]:
    """The orders that belong to one of so many equal parts: from the first number to below the second."""
    return part * ORDERS // num_parts, (part + 1) * ORDERS // num_parts


def split_of(uid: str, split: SplitConfig) -> str:
    """train, validation or test."""
    share = xxhash.xxh3_64_intdigest(f"split\0{split.seed}\0{uid}".encode()) / _RANGE
    if share < split.train:
        return "train"
    return "validation" if share < split.train + split.validation else "test"
