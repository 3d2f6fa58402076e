"""Vectors of texts for the gateway: one embedder in one thread, shared by the cache and the collections."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np

from heliostat.models.embedding import Embed
from heliostat.models.embedding_graph import load_serving_embedder

TEXTS_AT_ONCE = 4
"""A document of a thousand chunks takes a turn for every so many, and questions come in between."""


class TextEmbedder:
    """An `AsyncEmbed` over an embedder's folder; the event loop never waits for it."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._thread = ThreadPoolExecutor(1, "embedder")

    @classmethod
    async def load(cls, folder: Path, num_threads: int = 1) -> Self:
        """Read the folder's weights once, in a thread.

        Raises:
            ModelError: it cannot be loaded.
        """
        return cls(await asyncio.to_thread(load_serving_embedder, folder, num_threads))

    async def __call__(self, texts: list[str]) -> np.ndarray:
        """A row for each text; whoever stops waiting for it leaves at most `TEXTS_AT_ONCE` texts behind."""
        loop = asyncio.get_running_loop()
        parts = [texts[at : at + TEXTS_AT_ONCE] for at in range(0, max(len(texts), 1), TEXTS_AT_ONCE)]
        return np.concatenate([await loop.run_in_executor(self._thread, self._embed, part) for part in parts])

    def close(self) -> None:
        """End the thread behind the work it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)
