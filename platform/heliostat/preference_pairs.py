"""Preference pairs in a tokenized dataset: one prompt, and after it a chosen and a rejected answer."""

from dataclasses import dataclass
from pathlib import Path

from heliostat.errors import DataError
from heliostat.tokenized import PackedSequence, TokenizedRows


@dataclass(frozen=True)
class PreferencePair:
    """Two conversations that begin with the same prompt; only the tokens behind it have labels."""

    both: PackedSequence
    """End to end, the chosen one first, so that one pass of a model reads both."""

    @property
    def chosen(self) -> PackedSequence:
        """The conversation with the chosen answer."""
        return self.both.documents()[0]

    @property
    def rejected(self) -> PackedSequence:
        """The conversation with the rejected answer."""
        return self.both.documents()[1]

    @property
    def document_id(self) -> str:
        """The document it comes from."""
        return self.both.document_ids[0]


class TokenizedPairs(TokenizedRows):
    """One split of a tokenized dataset of preference pairs."""

    def __init__(self, folder: Path, split: str) -> None:
        """Open a split.

        Raises:
            ArtifactError: the folder is not a tokenized dataset.
            DataError: it does not hold pairs, or the split holds nothing.
        """
        super().__init__(folder, split)
        if not self.holds_pairs:
            raise DataError(
                f"{folder}: holds no preference pairs, which objectives dpo and reward compare; prepare data "
                "with the columns chosen and rejected, or set objective: {kind: sft}"
            )

    def __getitem__(self, position: int) -> PreferencePair:
        """The pair at a position, 0 <= position < len."""
        return PreferencePair(self.row(position))
