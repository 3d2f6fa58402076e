"""What the data stage can be asked for. Nothing here opens a file."""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config, Resources

Form = Literal["auto", "alpaca", "sharegpt", "messages", "text"]

# The columns a form reads, under the names it reads them by unless `columns` says otherwise.
REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}
OPTIONAL_COLUMNS: dict[str, tuple[str, ...]] = {"alpaca": ("input", "system")}


class FileSource(Config):
    """Files of one format: a file, a folder or a glob, local or a URI that pyarrow.fs knows."""

    path: str = Field(min_length=1)
    domain: str | None = Field(default=None, min_length=1)
    """What these documents are about; by default the name of the file or folder."""


class TableSource(FileSource):
    """Files with rows and columns."""

    form: Form = "auto"
    columns: dict[str, str] = Field(default_factory=dict)
    """Where a form's column has another name in the files: `{text: body}`. `domain` may be one too."""

    @model_validator(mode="after")
    def _columns_belong_to_the_form(self) -> Self:
        known = {"domain"}
        for form in REQUIRED_COLUMNS if self.form == "auto" else (self.form,):
            known |= {*REQUIRED_COLUMNS[form], *OPTIONAL_COLUMNS.get(form, ())}
        unknown = sorted(self.columns.keys() - known)
        if unknown:
            reads = ", ".join(sorted(known))
            raise ValueError(f"columns: form '{self.form}' has no column '{unknown[0]}'; it reads {reads}")
        if self.domain and "domain" in self.columns:
            raise ValueError("give 'domain' or 'columns: {domain: ...}', not both")
        return self


class JsonlSource(TableSource):
    """One JSON object a line."""

    kind: Literal["jsonl"] = "jsonl"


class ParquetSource(TableSource):
    """Parquet tables."""

    kind: Literal["parquet"] = "parquet"


class CsvSource(TableSource):
    """Separated values with a header line."""

    kind: Literal["csv"] = "csv"
    delimiter: str = Field(default=",", min_length=1, max_length=1)


class TextSource(FileSource):
    """Plain text: a file is a document, or several with `separator` between them."""

    kind: Literal["text"] = "text"
    separator: str | None = Field(default=None, min_length=1)


class PythonDocsSource(Config):
    """Questions and answers, or plain text, from the docstrings of this Python installation.

    `stdlib` covers the standard library, its built-in types and functions and the language's help topics;
    other names are installed packages. No package is imported. An answer is cut at a paragraph so that it
    has at most `max_characters`; a docstring whose first paragraph is longer gives no document.
    """

    kind: Literal["python_docs"] = "python_docs"
    packages: Literal["all"] | tuple[str, ...] = ("stdlib",)
    form: Literal["conversations", "text", "both"] = "conversations"
    max_documents: int | None = Field(default=None, ge=1)
    min_characters: int = Field(default=40, ge=1)
    max_characters: int = Field(default=600, ge=1)
    seed: int = 0
    """Decides which documents `max_documents` leaves, and which form a name takes under `form: both`."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.min_characters > self.max_characters:
            raise ValueError(
                f"min_characters={self.min_characters} is above max_characters={self.max_characters}; "
                "no document could be both"
            )
        if not self.packages:
            raise ValueError("packages is empty; name some, for example [stdlib], or say all")
        return self


Source = Annotated[
    JsonlSource | ParquetSource | CsvSource | TextSource | PythonDocsSource, Field(discriminator="kind")
]


class NormaliseStep(Config):
    """Repair white space, line ends, control and zero-width characters; compose Unicode."""

    kind: Literal["normalise"] = "normalise"
    unicode_form: Literal["NFC", "NFKC"] = "NFC"


class LengthStep(Config):
    """Keep documents whose length lies between the limits, both included.

    Characters are those of the text or of all messages. Tokens are those the model will see: a conversation's
    chat template and the token that ends a plain text count.
    """

    kind: Literal["length"] = "length"
    min_characters: int | None = Field(default=None, ge=0)
    max_characters: int | None = Field(default=None, ge=1)
    min_tokens: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        limits = (self.min_characters, self.max_characters, self.min_tokens, self.max_tokens)
        if all(limit is None for limit in limits):
            raise ValueError("give at least one of min_characters, max_characters, min_tokens, max_tokens")
        for unit, least, most in (("characters", *limits[:2]), ("tokens", *limits[2:])):
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{unit}={least} is above max_{unit}={most}; no document could be both")
        return self

    @property
    def counts_tokens(self) -> bool:
        """Whether this needs a tokenizer."""
        return self.min_tokens is not None or self.max_tokens is not None


class ExactDedupStep(Config):
    """Of documents with the same normalised text keep the first, in the order of the sources."""

    kind: Literal["exact_dedup"] = "exact_dedup"


class PiiStep(Config):
    """Find personal data; put a mark in its place, or drop the document."""

    kind: Literal["pii"] = "pii"
    find: tuple[Literal["email", "ip"], ...] = Field(default=("email", "ip"), min_length=1)
    action: Literal["redact", "drop"] = "redact"


Step = Annotated[NormaliseStep | LengthStep | ExactDedupStep | PiiStep, Field(discriminator="kind")]


class SplitConfig(Config):
    """Shares of the documents; which document goes where depends on its uid and the seed alone."""

    train: float = Field(default=0.8, gt=0, le=1)
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class TokenizeConfig(Config):
    """How documents become packed sequences.

    A conversation longer than `max_sequence_length` is dropped or truncated, as `too_long` says; plain text
    is cut into pieces, and no token of it is lost.
    """

    max_sequence_length: int = Field(default=2048, ge=8)
    packing: bool = True
    too_long: Literal["drop", "truncate"] = "drop"


class CleanConfig(Config):
    """What decides the cleaned documents."""

    sources: tuple[Source, ...] = Field(min_length=1)
    steps: tuple[Step, ...] = (NormaliseStep(), ExactDedupStep())
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _one_dedup(self) -> Self:
        if sum(step.kind == "exact_dedup" for step in self.steps) > 1:
            raise ValueError("steps: exact_dedup can be there once; put it behind the steps that change text")
        return self

    @property
    def needs_tokenizer(self) -> bool:
        """Whether a step counts tokens, so that the cleaned documents depend on the model's tokenizer."""
        return any(isinstance(step, LengthStep) and step.counts_tokens for step in self.steps)


class DataConfig(CleanConfig):
    """The data stage: documents in, a tokenized dataset out."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"resources"})

    name: str = Field(default="dataset", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    tokenize: TokenizeConfig = TokenizeConfig()
    resources: Resources = Resources()
    """Of each task; Ray runs as many as fit."""

    @property
    def cleaning(self) -> CleanConfig:
        """The part that decides the cleaned documents; changing the rest does not clean again."""
        return CleanConfig(sources=self.sources, steps=self.steps, split=self.split)
