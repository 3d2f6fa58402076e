"""Several streams as one: items in the order in which they come, none read ahead of its reader."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

Item = TypeVar("Item")


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
    waiting = {asyncio.create_task(_next(source)): place for place, source in enumerate(sources)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=waiting.__getitem__):
                place = waiting.pop(task)
                for item in task.result():
                    waiting[asyncio.create_task(_next(sources[place]))] = place
                    yield place, item
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for source in sources:
            await source.aclose()


async def _next(source: AsyncGenerator[Item]) -> tuple[Item] | tuple[()]:
    """The next item, or nothing."""
    async for item in source:
        return (item,)
    return ()
