"""Where documents come from: what can be asked of a source. Nothing here opens a file."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from heliostat.config import Config

Form = Literal["auto", "preference", "messages", "sharegpt", "alpaca", "labels", "text"]

# The columns a form reads, under the names it reads them by unless `columns` says otherwise. The first form
# whose columns are there is taken: preference pairs often have `messages` too.
REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "labels": ("text",),
    "text": ("text",),
}
OPTIONAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "preference": ("prompt", "system", "tools"),
    "messages": ("system", "tools"),
    "sharegpt": ("system", "tools"),
    "alpaca": ("input", "system"),
    "labels": ("label", "labels"),
}
# Other names that published data sets give to these columns, looked for when no form has its own.
ALIASES: dict[str, tuple[str, ...]] = {
    "conversations": ("conversation",),
    "input": ("context",),
    "instruction": ("prompt", "question", "query"),
    "output": ("response", "answer", "completion"),
    "prompt": ("question", "instruction", "conversations"),
    "system": ("system_prompt",),
    "text": ("content", "raw_content"),
    "tools": ("functions",),
}


class FileSource(Config):
    """Files of one format: a file, a folder or a glob, local or a URI that pyarrow.fs knows."""

    path: str = Field(min_length=1)
    domain: str | None = Field(default=None, min_length=1)
    """What these documents are about; by default the name of the file or folder."""


class TableSource(FileSource):
    """Files with rows and columns."""

    form: Form = "auto"
    columns: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Where a form's column has another name in the files: `{text: body}`. `domain` may be one too.

    `labels` may name several columns, one an annotator: `{labels: [first, second]}`.
    """
    keep_columns: tuple[str, ...] = ()
    """Further columns to keep as the documents' metadata, under their own names."""

    @model_validator(mode="after")
    def _columns_belong_to_the_form(self) -> Self:
        known = {"domain"}
        for form in REQUIRED_COLUMNS if self.form == "auto" else (self.form,):
            known |= {*REQUIRED_COLUMNS[form], *OPTIONAL_COLUMNS.get(form, ())}
        unknown = sorted(self.columns.keys() - known)
        if unknown:
            reads = ", ".join(sorted(known))
            raise ValueError(f"columns: form '{self.form}' has no column '{unknown[0]}'; it reads {reads}")
        for name, column in self.columns.items():
            if not isinstance(column, str) and name != "labels":
                raise ValueError(f"columns: '{name}' is read from one column; only 'labels' from several")
        if self.domain and "domain" in self.columns:
            raise ValueError("give 'domain' or 'columns: {domain: ...}', not both")
        return self


class FilesSource(TableSource):
    """Files whose format is told from their endings, else from their content."""

    kind: Literal["files"] = "files"


class JsonlSource(TableSource):
    """One JSON object a line; packed with gzip, zstd or bz2 when the name ends so."""

    kind: Literal["jsonl"] = "jsonl"


class JsonSource(TableSource):
    """A JSON array of objects, or an object that holds one."""

    kind: Literal["json"] = "json"
    key: str | None = Field(default=None, min_length=1)
    """Of an object: the key under which the rows are; by default the only one with a list of objects."""


class ParquetSource(TableSource):
    """Parquet tables."""

    kind: Literal["parquet"] = "parquet"


class CsvSource(TableSource):
    """Separated values with a header line."""

    kind: Literal["csv"] = "csv"
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """By default a tab in .tsv files, else the most frequent of `, ; | tab` in the header line."""


class TextSource(FileSource):
    """Plain text: a file is a document, or several with `separator` between them."""

    kind: Literal["text"] = "text"
    separator: str | None = Field(default=None, min_length=1)


class HtmlSource(FileSource):
    """Web pages: the main text of each, without menus, footers and comments."""

    kind: Literal["html"] = "html"


class WarcSource(FileSource):
    """Web archives: the main text of each page that was answered with success; the texts of WET files."""

    kind: Literal["warc"] = "warc"


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


def _with_kind(given: Any) -> Any:
    """A bare path, or a path without a kind: files of whatever format."""
    if isinstance(given, str):
        return {"kind": "files", "path": given}
    if isinstance(given, dict) and "path" in given and "kind" not in given:
        return {"kind": "files", **given}
    return given


_AnySource = Annotated[
    FilesSource
    | JsonlSource
    | JsonSource
    | ParquetSource
    | CsvSource
    | TextSource
    | HtmlSource
    | WarcSource
    | PythonDocsSource,
    Field(discriminator="kind"),
]
Source = Annotated[_AnySource, BeforeValidator(_with_kind, json_schema_input_type=str | _AnySource)]
