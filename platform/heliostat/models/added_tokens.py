"""Tokens added to a base model: its tokenizer knows them, and its embeddings have a row for each.

The result is a model like any other, so data, training, evaluation and serving need not know of it; LoRA
trains the new rows beside its matrices.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.config import Config
from heliostat.errors import ConfigError
from heliostat.models.loading import load_model, load_tokenizer, model_facts, tokenizer_fingerprint
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication, artifact_folder
from heliostat.workspace import Workspace

if TYPE_CHECKING:
    import torch

ADDED_TOKENS = "added_token_ids"
"""The fact of a model artifact that lists the ids of its added tokens."""


class AddTokensConfig(Config):
    """What is added to a model, in this order."""

    tokens: tuple[str, ...]


def add_tokens(
    model: Artifact, tokens: tuple[str, ...], workspace: Workspace, force: bool = False
) -> Artifact:
    """The model with these tokens added as special ones: text is cut at them, answers are shown without.

    Each new row of the embeddings, and of the output layer where that is another matrix, is the mean of the
    rows there were (Hewitt, 2021, "Initializing new word embeddings for pretrained language models"): an
    untrained model so gives its other tokens nearly the probabilities they had.

    Raises:
        ConfigError: the model has one of the tokens already.
    """
    config = AddTokensConfig(tokens=tokens)
    name = Path(model.uri).name.rsplit("-", 1)[0]

    def work(publication: Publication, run: StageRun) -> None:
        publication.facts |= _extend(artifact_folder(model), publication.folder, tokens) | {
            name: model.facts.get(name) for name in ("chat_template", "licence", "source")
        }

    return find_or_make(
        workspace, Request("import", "model", name, config, (model,), repeatable=True), work, force
    )


def _extend(source: Path, target: Path, tokens: tuple[str, ...]) -> dict[str, Any]:
    """Write the extended model's folder; returns its facts."""
    from tokenizers import AddedToken

    tokenizer = load_tokenizer(source)
    vocabulary = tokenizer.get_vocab()
    there = [token for token in tokens if token in vocabulary]
    if there:
        raise ConfigError(f"added_tokens: the model has {', '.join(map(repr, there))} already; leave it out")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], True)
    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    model = load_model(source, dtype="auto")
    _add_rows(model, ids)
    model.save_pretrained(str(target))
    tokenizer.save_pretrained(str(target))
    for file in source.glob("LICENSE*"):
        shutil.copyfile(file, target / file.name)
    facts = model_facts(target).model_dump() | {"tokenizer": tokenizer_fingerprint(target)}
    return facts | {ADDED_TOKENS: ids}


def _add_rows(model: Any, ids: list[int]) -> None:
    """Some models have more rows than tokens: then the new tokens take the first that are free."""
    import torch

    num_rows = model.get_input_embeddings().weight.shape[0]
    if max(ids) >= num_rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    with torch.no_grad():
        for parameter in {id(p): p for layer in layers if layer for p in _by_token(layer)}.values():
            parameter[ids] = parameter[: min(ids)].float().mean(dim=0).to(parameter.dtype)


def _by_token(layer: Any) -> "list[torch.nn.Parameter]":
    """What of a layer has a row or a value for each token."""
    return [p for p in (layer.weight, getattr(layer, "bias", None)) if p is not None]
