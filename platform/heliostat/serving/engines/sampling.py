"""Choosing the next token from logits, for engines that have logits in hand.

The order is: `logit_bias`, repetition penalty, presence and frequency penalties, grammar, temperature, top-k,
top-p, min-p. Up to the grammar it is vLLM's, from there on transformers'.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from heliostat.serving.engines.interface import SamplingParameters, TokenLogprob

GREEDY_BELOW = 1e-5
"""Temperatures below this take the likeliest token: dividing by them overflows (vLLM's limit)."""


class AnswerGrammar(Protocol):
    """Which tokens an answer may go on with."""

    def allowed(self, vocabulary_size: int) -> Any:
        """A bool tensor (vocabulary,)."""

    def accept(self, token: int) -> bool:
        """Take a token; True when the answer is complete and nothing may follow."""


class Sampler:
    """Chooses the tokens of one answer, and remembers what the penalties need of them."""

    def __init__(
        self, prompt_ids: Sequence[int], parameters: SamplingParameters, grammar: AnswerGrammar | None = None
    ) -> None:
        import torch

        self._parameters = parameters
        self._grammar = grammar
        self._seen = set(prompt_ids)
        self._counts: Counter[int] = Counter()
        self._generator = torch.Generator()
        if parameters.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(parameters.seed % 2**63)
        self.complete = False
        """Whether the grammar lets nothing follow."""

    def next_token(self, logits: Any) -> int:
        """The next token's id from float logits of shape (vocabulary,), which stay as they are."""
        adjusted = penalised(logits.float(), self._parameters, self._seen, self._counts)
        if self._grammar:
            adjusted = adjusted.masked_fill(~self._grammar.allowed(len(adjusted)), -float("inf"))
        token = next_token(adjusted, self._parameters, self._generator)
        self._counts[token] += 1
        self._seen.add(token)
        if self._grammar:
            self.complete = self._grammar.accept(token)
        return token


def penalised(logits: Any, parameters: SamplingParameters, seen: set[int], generated: Counter[int]) -> Any:
    """Logits (vocabulary,) behind bias and penalties; the ones given are not changed.

    `seen` holds the prompt's and the answer's token ids, `generated` counts the answer's. The repetition
    penalty divides positive logits of what was seen and multiplies negative ones (CTRL, arXiv 1909.05858);
    OpenAI's two are subtracted, once and as often as the token was generated.
    """
    import torch

    logits = logits.clone()
    for token, bias in parameters.logit_bias:
        logits[token] += bias
    if parameters.repetition_penalty != 1 and seen:
        ids = torch.tensor(sorted(seen))
        values, factor = logits[ids], parameters.repetition_penalty
        logits[ids] = torch.where(values > 0, values / factor, values * factor)
    if (parameters.presence_penalty or parameters.frequency_penalty) and generated:
        ids = torch.tensor(list(generated))
        counts = torch.tensor(list(generated.values()), dtype=logits.dtype)
        logits[ids] -= parameters.presence_penalty + parameters.frequency_penalty * counts
    return logits


def next_token(logits: Any, parameters: SamplingParameters, generator: Any) -> int:
    """The next token's id from float logits of shape (vocabulary,), by temperature and what to keep.

    Top-p keeps the smallest set of likeliest tokens whose probabilities add up to at least `top_p`; min-p
    those that are at least `min_p` times as likely as the likeliest.
    """
    import torch

    if parameters.temperature < GREEDY_BELOW:
        return int(logits.argmax())
    values, ids = (logits.float() / parameters.temperature).sort(descending=True)
    if parameters.top_k:
        values, ids = values[: parameters.top_k], ids[: parameters.top_k]
    probabilities = values.softmax(dim=0)
    before = probabilities.cumsum(dim=0) - probabilities
    left_out = (before >= parameters.top_p) | (probabilities < parameters.min_p * probabilities[0])
    probabilities = probabilities.masked_fill(left_out, 0)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])


def token_logprob(logits: Any, token: int, num_top: int) -> TokenLogprob:
    """The chosen token's and the likeliest tokens' logprobs from the model's own logits (vocabulary,)."""
    logprobs = logits.float().log_softmax(dim=0)
    top = logprobs.topk(min(num_top, len(logprobs)))
    likeliest = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return TokenLogprob(float(logprobs[token]), likeliest)
