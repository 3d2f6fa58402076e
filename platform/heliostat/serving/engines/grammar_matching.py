"""Which tokens an answer under a grammar may go on with, by llguidance.

For engines that have logits in hand. The grammar is checked by `json_grammar`, so that all engines refuse the
same ones; llguidance then reads the schema itself.
"""

from typing import Any

import numpy as np

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import Grammar
from heliostat.serving.engines.json_grammar import to_ebnf

ANY_OBJECT = '{"type": "object"}'
WHITESPACE_PATTERN = " ?"
"""At most one space between tokens: a weak model would otherwise fill the answer with blank lines."""


class TokenGrammar:
    """A grammar's state behind the tokens accepted so far."""

    def __init__(self, grammar: Grammar, vocabulary: Any) -> None:
        """`vocabulary` comes from `token_vocabulary`.

        Raises:
            ServingError: the grammar cannot be used.
        """
        from llguidance import LLMatcher

        to_ebnf(grammar)
        schema = grammar.schema if grammar.kind == "json_schema" else ANY_OBJECT
        compiled = LLMatcher.grammar_from_json_schema(
            schema, overrides={"whitespace_pattern": WHITESPACE_PATTERN}
        )
        self._matcher = LLMatcher(vocabulary, compiled)
        self._raise_error()

    def allowed(self, vocabulary_size: int) -> Any:
        """A bool tensor (vocabulary,) of the tokens that may come next.

        Raises:
            ServingError: the schema turned out to be too large.
        """
        import torch

        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        self._raise_error()
        mask = np.zeros(vocabulary_size, dtype=bool)
        length = min(vocabulary_size, len(bits))
        mask[:length] = bits[:length]
        return torch.from_numpy(mask)

    def accept(self, token: int) -> bool:
        """Take a token; True when the answer is complete and nothing may follow."""
        self._matcher.consume_token(token)
        self._raise_error()
        return bool(self._matcher.is_stopped())

    def _raise_error(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().strip().splitlines()[0]
            raise ServingError(f"the engine cannot keep to this JSON schema: {reason}")


def token_vocabulary(tokenizer: Any, vocabulary_size: int) -> Any:
    """A fast tokenizer's tokens in llguidance's form, for a model with that many logits. Takes a second."""
    import llguidance.hf

    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=max(vocabulary_size, len(tokenizer)))
