"""The perplexity of plain texts under a model folder, for those who judge texts one by one."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heliostat.tokenized import PackedSequence, collate

Scorer = Callable[[list[str]], list[float]]


def load_text_scorer(folder: Path, max_tokens: int, num_threads: int = 1) -> Scorer:
    """A function from texts to their perplexities per token, over the first `max_tokens` of each.

    The first token is read and not scored; a text with fewer than two gets nan. Texts go through the model
    one at a time: in a padded batch the last digits would depend on the texts beside.

    Raises:
        ModelError: the folder cannot be loaded.
    """
    import torch

    from heliostat.models.loading import load_model, load_tokenizer
    from heliostat.models.scoring import summed_loss, to_tensors

    torch.set_num_threads(num_threads)
    tokenizer, model = load_tokenizer(folder), load_model(folder).eval()

    def perplexity(text: str) -> float:
        text = text.encode("utf-8", "replace").decode()  # lone surrogates, which tokenizers refuse
        # Tokens of text are shorter than that; without a limit a huge document would be tokenized whole.
        ids = tokenizer(text[: 32 * max_tokens], add_special_tokens=False)["input_ids"][:max_tokens]
        if len(ids) < 2:
            return math.nan
        tokens = np.array(ids, dtype=np.int32)
        sequence = PackedSequence(tokens, np.ones(len(ids), dtype=np.int8), (len(ids),), ("",))
        with torch.inference_mode():
            loss = summed_loss(model, to_tensors(collate([sequence], padding_id=0)))
        return math.exp(min(float(loss) / (len(ids) - 1), 700.0))

    return lambda texts: [perplexity(text) for text in texts]
