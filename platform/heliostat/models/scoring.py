"""What a model says of a packed batch: logits and losses at its labels, and the scores of whole answers.

`model` is a transformers causal model, a PEFT model or a DeepSpeed engine around one; `batch` comes from
`collate` or `collate_documents` and `to_tensors`.
"""

from typing import Any

import numpy as np

from heliostat.tokenized import IGNORED


def to_tensors(batch: dict[str, np.ndarray], device: Any = "cpu") -> dict[str, Any]:
    """A collated batch as torch tensors on a device."""
    import torch

    return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}


def labelled_logits(model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Logits where the batch has labels, and these: (batch, k, vocabulary) float32 and (batch, k), IGNORED
    where only another row of the batch has a label.

    Two things matter. `use_cache=False` and, for packed rows, no attention mask, or transformers does not see
    the document borders in `position_ids` and packed documents read each other. And only the positions that
    predict a label are projected onto the vocabulary, a fifth of the work of a small model.
    """
    positions, labels = _predicting(batch)
    logits = model(
        **{name: values for name, values in batch.items() if name != "labels"},
        use_cache=False,
        # counted from the end: prompt tuning puts its tokens in front of the row
        logits_to_keep=positions - batch["input_ids"].shape[1],
    ).logits
    return logits.float(), labels


def summed_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Cross entropy summed over the batch's labels: a float32 tensor without dimensions, differentiable."""
    logits, labels = labelled_logits(model, batch)
    return label_losses(logits, labels).sum()


def label_losses(logits: Any, labels: Any) -> Any:
    """The cross entropy of each label, (batch, k), 0 where it is IGNORED; its log-probability, negated.

    The arguments are what `labelled_logits` returns.
    """
    import torch

    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(labels.shape)


def pair_log_probabilities(model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Of preference pairs, a row each: log-probability (nats) and number of the labels of both answers.

    Both (batch, 2): the chosen answer, the rejected one. The first float32 and differentiable, the second
    int64. A row is the two documents of a `PreferencePair`.
    """
    import torch

    positions, _ = _predicting(batch)
    logits, labels = labelled_logits(model, batch)
    losses = label_losses(logits, labels)
    # documents begin where positions do: the chosen answer is the first of its row, the rejected the second
    number = (batch["position_ids"] == 0).cumsum(dim=1)[:, positions + 1]
    halves = [(number == each) & (labels != IGNORED) for each in (1, 2)]
    log_probabilities = torch.stack([-(losses * half).sum(dim=1) for half in halves], dim=1)
    return log_probabilities, torch.stack([half.sum(dim=1) for half in halves], dim=1)


def answer_scores(model: Any, batch: dict[str, Any]) -> Any:
    """The scores a reward model gives to conversations, (num_documents,) float32, differentiable.

    `batch` comes from `collate_documents`; the score is read at a row's last token that is not padding, by
    transformers' own rule, so that whoever loads the model's folder gets the same.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return model(**inputs, use_cache=False).logits.float().squeeze(-1)


def _predicting(batch: dict[str, Any]) -> tuple[Any, Any]:
    """The positions at which some row predicts a label, (k,), and the labels predicted there, (batch, k)."""
    labels = batch["labels"][:, 1:]  # the token at t is predicted at t - 1
    positions = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
    return positions, labels[:, positions]
