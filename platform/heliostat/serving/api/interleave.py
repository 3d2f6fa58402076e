"""Several streams as one: items in the order in which they come, none read far ahead of its reader."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")
News = asyncio.Queue[tuple[int, tuple[Item] | None]]


async def interleave(sources: Sequence[AsyncGenerator[Item]]) -> AsyncGenerator[tuple[int, Item]]:
    """(number of the source, item) until all have ended; a fault of one ends all, as does closing this.

    Of each source one item at most waits here: what piles up meanwhile piles up in front of the source, where
    it becomes one item.
    """
    if len(sources) == 1:
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield 0, item
        return
    news: News[Item] = asyncio.Queue()
    taken = [asyncio.Event() for _ in sources]
    pumps = [
        asyncio.create_task(_pump(place, source, news, taken[place])) for place, source in enumerate(sources)
    ]
    try:
        going_on = len(pumps)
        while going_on:
            place, found = await news.get()
            if found is None:
                await pumps[place]  # raises its fault
                going_on -= 1
                continue
            taken[place].set()
            yield place, found[0]
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for source in sources:
            await source.aclose()


async def _pump(place: int, source: AsyncGenerator[Item], news: News[Item], taken: asyncio.Event) -> None:
    """Hand on one item after the other, the next when the last was taken; None at the end or at a fault."""
    try:
        async for item in source:
            news.put_nowait((place, (item,)))
            await taken.wait()
            taken.clear()
    finally:
        news.put_nowait((place, None))
