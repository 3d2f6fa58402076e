"""What can be asked of deduplication and decontamination. Nothing here computes."""

from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config


class ExactDedupStep(Config):
    """Of documents with the same normalised text keep one: of the first source, the longest."""

    kind: Literal["exact_dedup"] = "exact_dedup"


class NearDedupStep(Config):
    """Delete a document when another one that stays, and is not shorter, says nearly all it says.

    MinHash only nominates pairs; a pair counts when the texts themselves agree. With the defaults, which are
    FineWeb's (word 5-grams, 14 bands of 8), 92 of 100 pairs of similarity 0.8 meet, 57 of 0.7, and 5 of 0.5.
    Documents that share a long passage and differ in a short question about it are near-duplicates by this
    measure: for such data raise `min_similarity`, or leave the step out.
    """

    kind: Literal["near_dedup"] = "near_dedup"
    num_bands: int = Field(default=14, ge=1, le=128)
    rows_per_band: int = Field(default=8, ge=1, le=64)
    shingle_words: int = Field(default=5, ge=1, le=32)
    min_similarity: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of the two texts' shingles."""
    min_containment: float = Field(default=0.8, ge=0, le=1)
    """The share of the deleted document's shingles that the kept one has too."""
    min_words: int = Field(default=32, ge=1)
    """Shorter documents are left to exact dedup. With fewer than 32 words, one changed word in the middle is
    too much for 0.7, so that only texts could meet which differ at an end: an answer, say."""
    same_numbers: bool = True
    """Keep both when they are one form filled in differently: when their numbers are much of what differs."""
    max_bucket: int = Field(default=1000, ge=2)
    """Of a bucket with more documents, few pairs are compared, and the report names it."""

    @model_validator(mode="after")
    def _finds_what_it_looks_for(self) -> Self:
        found = self.share_found(self.min_similarity)
        if found < 0.05:
            raise ValueError(
                f"{self.num_bands} bands of {self.rows_per_band} rows find {found:.1%} of the pairs at "
                f"min_similarity={self.min_similarity:g}; lower rows_per_band or raise num_bands"
            )
        if self.min_words < self.shingle_words:
            raise ValueError(
                f"min_words={self.min_words} is below shingle_words={self.shingle_words}, so there would be "
                f"nothing to compare; set min_words to {self.shingle_words} or more"
            )
        return self

    @property
    def num_places(self) -> int:
        """The length of a signature."""
        return self.num_bands * self.rows_per_band

    def share_found(self, similarity: float) -> float:
        """The share of pairs of that similarity which are nominated."""
        return 1 - (1 - similarity**self.rows_per_band) ** self.num_bands


class DecontaminateStep(Config):
    """Drop documents that share a run of words with an evaluation set.

    By default any run of 13 words counts (GPT-3). Evaluation texts that are quoted far and wide cost many
    documents: for them raise `min_matches`, or `min_overlap`.
    """

    kind: Literal["decontaminate"] = "decontaminate"
    against: tuple[str, ...] = Field(min_length=1)
    """Evaluation sets: files, folders or globs."""
    ngram_words: int = Field(default=13, ge=2, le=64)
    min_ngram_words: int = Field(default=8, ge=1)
    """Evaluation texts with fewer words than `ngram_words`, but so many, are looked for as a whole."""
    min_matches: int = Field(default=1, ge=1)
    """So many different runs of one evaluation text, or all if it has fewer, must be in a document."""
    min_overlap: float = Field(default=0.0, ge=0, le=1)
    """And such a share of its runs."""

    @model_validator(mode="after")
    def _short_is_shorter(self) -> Self:
        if self.min_ngram_words > self.ngram_words:
            raise ValueError(
                f"min_ngram_words={self.min_ngram_words} is above ngram_words={self.ngram_words}; set it to "
                f"{self.ngram_words} to look for no shorter texts"
            )
        return self
