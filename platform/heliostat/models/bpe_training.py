"""Learning a byte-level BPE tokenizer from cleaned documents. The same documents give the same tokenizer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from heliostat.errors import DataError
from heliostat.models.scratch_config import TrainedTokenizer

PADDING, TURN_BEGINS, TURN_ENDS = "<|pad|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ROWS_AT_ONCE = 1024


def learn_tokenizer(config: TrainedTokenizer, dataset: Path, target: Path) -> int:
    """Learn from the train split of cleaned documents, and write the tokenizer's files into `target`.

    Byte-level BPE (Radford et al., 2019, "Language models are unsupervised multitask learners") with every
    digit a token of its own. `<|im_end|>` ends a turn and a plain text; padding is a token apart, which
    the embeddings leave at zero.

    Returns:
        The tokens there are: `config.vocab_size`, or fewer where the documents hold no more pairs to merge.

    Raises:
        DataError: the train split is empty.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    parts = sorted((dataset / "train").glob("*.parquet"))
    if not any(pq.read_metadata(part).num_rows for part in parts):
        raise DataError(f"{dataset}: the train split holds no documents to learn a tokenizer from")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[PADDING, TURN_BEGINS, TURN_ENDS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts_of(parts), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PADDING,
        eos_token=TURN_ENDS,
        additional_special_tokens=[TURN_BEGINS],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(str(target))
    return len(tokenizer)


def texts_of(parts: list[Path]) -> Iterator[str]:
    """All texts and all contents of messages in parts of cleaned documents, in their order."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=["text", "messages", "rejected"]):
                for row in batch.to_pylist():
                    if row["text"]:
                        yield row["text"]
                    for message in (*(row["messages"] or ()), *(row["rejected"] or ())):
                        yield message["content"]
