"""Asking an engine in a test: a whole answer at once."""

from itertools import count

from heliostat.serving.engines.interface import SamplingParameters, TokenLogprob

numbers = count()


async def collect(
    engine, prompt, parameters: SamplingParameters, adapter: str | None = None
) -> tuple[list[int], str | None]:
    """An answer's token ids and its finish reason."""
    ids, reason, _ = await collect_all(engine, prompt, parameters, adapter)
    return ids, reason


async def collect_all(
    engine, prompt, parameters: SamplingParameters, adapter: str | None = None
) -> tuple[list[int], str | None, list[TokenLogprob]]:
    """An answer's token ids, its finish reason and its logprobs."""
    ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    reason = None
    async for delta in engine.generate(prompt, parameters, f"asked-{next(numbers)}", adapter):
        ids += delta.token_ids
        logprobs += delta.logprobs
        reason = delta.finish_reason
    return ids, reason, logprobs
