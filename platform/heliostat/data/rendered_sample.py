"""`python -m heliostat.data.rendered_sample`: one document of a recipe's data as the model sees it.

A process of its own, because a tokenizer may load torch. On standard input a JSON object: `data` (a
DataConfig), `folder` (of the tokenizer), `added_tokens`. On standard output the answer of `render_sample`.
"""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from heliostat.data.config import DataConfig
from heliostat.data.documents import Document
from heliostat.data.encoding import Encoded, Encoder, fit, runs_of
from heliostat.data.python_docs import plan_modules
from heliostat.data.source_config import PythonDocsSource, Source
from heliostat.data.sources import FileUnit, ModuleUnit, units_of
from heliostat.errors import HeliostatError
from heliostat.models.loading import load_tokenizer

DOCUMENTS = 40
"""Of each source; cleaning has not been done to them."""
TOKENS_SHOWN = 600


def render_sample(data: DataConfig, folder: Path, added_tokens: tuple[str, ...] = ()) -> dict[str, Any]:
    """The first document that teaches something, cut where learning starts and stops; how others do.

    `runs` are [text, is it learned]; `too_long` counts conversations beyond `max_sequence_length`.

    Raises:
        HeliostatError: a source cannot be read, or there is no tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    if added_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": list(added_tokens)})
    documents = _documents(data)
    encoded = Encoder(tokenizer).encode(documents)
    usable = [each for each in encoded if isinstance(each, Encoded)]
    refused = [each for each in encoded if not isinstance(each, Encoded)]
    shown = next((each for each in usable if each.teaches), None)
    outcomes = [
        fit(each, bool(document.messages), data.tokenize)
        for document, each in zip(documents, encoded, strict=True)
        if isinstance(each, Encoded)
    ]
    return {
        "looked_at": len(documents),
        "refused": len(refused),
        "why": refused[0].detail if refused else "",
        "teaching": sum(each.teaches for each in usable),
        "too_long": sum("max_sequence_length" in (each.reason or "") for each in outcomes)
        + sum(each.truncated_tokens > 0 for each in outcomes),
        "uid": shown.uid if shown else None,
        "sample_tokens": len(shown.input_ids) if shown else 0,
        "learned_tokens": int(shown.loss_mask.sum()) if shown else 0,
        "runs": [list(run) for run in runs_of(shown, tokenizer, TOKENS_SHOWN)] if shown else [],
    }


def _documents(data: DataConfig) -> list[Document]:
    found: list[Document] = []
    for source in data.sources:
        here: list[Document] = []
        for unit in _units(source):
            outcomes = (each for each in unit.read() if isinstance(each, Document))
            here += islice(outcomes, DOCUMENTS - len(here))
            if len(here) >= DOCUMENTS:
                break
        found += here
    return found


def _units(source: Source) -> list[ModuleUnit] | list[FileUnit]:
    if not isinstance(source, PythonDocsSource):
        return units_of(source)
    few = source.model_copy(update={"max_documents": DOCUMENTS})
    return [ModuleUnit(few, module, limit, "python_docs") for module, limit in plan_modules(few)]


def main() -> int:
    """Read a request, print the answer."""
    request = json.loads(sys.stdin.read())
    data = DataConfig.model_validate(request["data"])
    try:
        found = render_sample(data, Path(request["folder"]), tuple(request["added_tokens"]))
    except HeliostatError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
