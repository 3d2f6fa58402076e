"""Text that is longer than a sequence: cut into pieces, or read through windows that overlap.

A cut leaves the first tokens of each piece without what stood in front of them. A window begins with the last
`stride` tokens of the window before, as context: those are read there, not learned, because the window before
has taught them. So either way each token lies behind exactly one `learn_from`, and

    the sum of (end - learn_from) over the windows is the length of the text, and
    the sum of (learn_from - start) is what a receipt counts as repeated.

The first token of a piece has nothing in front of it and is never learned (see `heliostat.tokenized`): a cut
costs one learned token for each piece, windows only one for each text. Knows nothing of tokenizers or files.
"""

from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """Tokens `start` to below `end` of a text; those in front of `learn_from` are context, read only."""

    start: int
    end: int
    learn_from: int

    @property
    def num_repeated_tokens(self) -> int:
        """Tokens that the window before has, too."""
        return self.learn_from - self.start


def windows_over(length: int, max_sequence_length: int, stride: int = 0) -> list[Window]:
    """The windows over a text of `length` tokens, each at most `max_sequence_length` long, in order.

    `stride` tokens are repeated from one to the next, 0 cuts. A text that fits is one window.
    """
    assert 0 <= stride < max_sequence_length, "the config sees to it"
    windows: list[Window] = []
    taught = 0
    while taught < length:
        start = max(0, taught - stride)
        end = min(length, start + max_sequence_length)
        windows.append(Window(start, end, taught))
        taught = end
    return windows


def mask_in(loss_mask: np.ndarray, window: Window) -> np.ndarray:
    """The loss mask, int8, of a window over a text with this one: 0 where it repeats the window before."""
    mask = np.array(loss_mask[window.start : window.end], dtype=np.int8)
    mask[: window.num_repeated_tokens] = 0
    return mask
