"""Labels that annotators gave a text: one column, a list, an object, or a column an annotator."""

import re
from collections.abc import Mapping
from typing import Any

from heliostat.data.source_messages import Unusable, from_json

_ANNOTATOR_COLUMN = re.compile(r"(annotator|annotation|coder|label|rater)[_ -]?[0-9a-z]{1,2}", re.IGNORECASE)
_ANNOTATOR_KEYS = ("annotator", "annotator_id", "rater", "worker")


def annotator_columns(there: list[str]) -> tuple[str, ...]:
    """The columns that look like one annotator's labels each (`label_1`, `rater_a`); () when not several."""
    found = tuple(name for name in there if _ANNOTATOR_COLUMN.fullmatch(name) and name.lower() != "labels")
    return found if len(found) > 1 else ()


def labels_of(row: Mapping[str, Any], columns: Mapping[str, str | tuple[str, ...]]) -> dict[str, Any]:
    """What goes into a document's metadata: `label`, one value; `labels`, a list; `annotators`, if named.

    None stands for an annotator who gave no label, so that positions mean the same in each document; where
    annotators are named, labels are in the order of the names.

    Raises:
        Unusable: there is no label, or it is no number, text or truth value.
    """
    found: dict[str, Any] = {}
    if "label" in columns:
        found["label"] = _label(row.get(str(columns["label"])))
    if "labels" in columns:
        column = columns["labels"]
        given = row.get(column) if isinstance(column, str) else [row.get(name) for name in column]
        found["labels"], annotators = _labels(given)
        if annotators:
            found["annotators"] = annotators
    if all(label is None for label in (found.get("label"), *found.get("labels", ()))):
        raise Unusable("missing_value")
    return {name: value for name, value in found.items() if value is not None and value != []}


def _labels(given: Any) -> tuple[list[Any], list[str]]:
    """The labels, and who gave them where that is said. A value that is no list is one annotator's."""
    if isinstance(given, str) and given.lstrip()[:1] in ("[", "{"):
        given = from_json(given, "broken_labels")
    if given is None or given == "":
        return [], []
    if isinstance(given, dict):
        given = [{"annotator": annotator, "label": label} for annotator, label in given.items()]
    if not isinstance(given, list):
        return [_label(given)], []
    if given and all(isinstance(each, dict) for each in given):
        named = sorted(map(_named_label, given), key=lambda pair: pair[0])
        return [label for _, label in named], [annotator for annotator, _ in named]
    return [_label(each) for each in given], []


def _named_label(entry: dict[str, Any]) -> tuple[str, Any]:
    for key in _ANNOTATOR_KEYS:
        if key in entry and "label" in entry:
            return str(entry[key]), _label(entry["label"])
    raise Unusable("broken_labels")


def _label(value: Any) -> Any:
    """A label as it is; an empty field of a csv file is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, (str, int, float, bool)):
        raise Unusable("broken_labels")
    return value
