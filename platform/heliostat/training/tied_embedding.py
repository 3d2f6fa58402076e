"""The gradient of embeddings that are the head, too, without a second matrix of their size.

torch makes the gradient of looked-up rows as a matrix of zeros with these rows in it, and adds it to the
head's: for SmolLM2 two more passes over 113 MB, some 5 % of a step on a CPU. As a sparse gradient its rows
are added to those of the head's, and nothing else is touched.
"""

from typing import Any

from heliostat.training.layout_config import LayoutConfig


def use_sparse_lookup(model: Any, layout: LayoutConfig) -> bool:
    """Let the lookup of a transformers model have a sparse gradient where it is added to that of its head.

    True where that is: the head has the same weight, it is trained, and each worker has it as a whole. Their
    sum is a dense gradient, as the head's comes first: no optimizer sees a sparse one.
    """
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embeddings.weight and embeddings.weight.requires_grad
    whole = layout.zero.stage < 3 and layout.model_parallel == 1
    if tied and whole:
        embeddings.sparse = True
    return tied and whole
