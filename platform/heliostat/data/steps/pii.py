"""Personal data and secrets in a document: redacted, masked, or a reason to drop it."""

from collections import Counter
from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.pii_kinds import REGIONS, Kind


class PiiStep(Config):
    """Find personal data and secrets; put a mark in their place, or drop the document.

    `redact` puts `[EMAIL]`, `[PHONE]` and so on; `mask` puts a `*` for each letter and digit, so that the
    length and the form stay, and of phone, card and account numbers the last four characters. `drop` drops:
    the dropped document is kept beside the dataset as it was, with all that was found in it.

    Looked at are texts and the contents of messages; arguments of tool calls and the source's own metadata
    are not. Names and postal addresses are not found at all.
    """

    kind: Literal["pii"] = "pii"
    find: tuple[Kind, ...] = Field(default=("email", "ip"), min_length=1)
    action: Literal["redact", "mask", "drop"] = "redact"
    regions: tuple[str, ...] = REGIONS
    """Countries (ISO 3166) whose national ids are looked for, and whose phone numbers as written at home."""

    @model_validator(mode="after")
    def _knows_the_regions(self) -> Self:
        unknown = [region for region in self.regions if region not in REGIONS]
        if unknown and "phone" not in self.find:
            known = ", ".join(REGIONS)
            raise ValueError(f"regions: '{unknown[0]}' has no national ids here; known are {known}")
        if unknown:
            import phonenumbers  # 0.07 s, and needed for other regions only

            strangers = sorted(set(unknown) - set(phonenumbers.SUPPORTED_REGIONS))
            if strangers:
                raise ValueError(f"regions: '{strangers[0]}' has no phone numbers; use codes such as US")
        if "national_id" in self.find and not set(self.regions) & set(REGIONS):
            raise ValueError(f"find: national_id needs one of regions {', '.join(REGIONS)}")
        return self


def make_pii(config: PiiStep) -> DocumentStep:
    """The step. It notes in `metadata["pii"]` where something was found, never what.

    The note is a list of [kind, message, start, end]: the message's index (0 for plain text) and the place
    in its text as it was in front of this step. A second step adds its own places to the list. A document
    without a find comes back as it was.

    With `drop` the reason is `contains_<kind>`, of the first find; the score is how many there were; the
    detail says how many of each kind.
    """
    from heliostat.text.pii import make_finder, mask, redact  # compiles some forty forms

    find = make_finder(config.find, config.regions)
    replace = mask if config.action == "mask" else redact

    def step(document: Document) -> Document | Refusal:
        contents = document.contents
        found = [find(text) for text in contents]
        if not any(found):
            return document
        places = [[span.kind, at, span.start, span.end] for at, spans in enumerate(found) for span in spans]
        if config.action == "drop":
            counts = Counter(str(kind) for kind, *_ in places)
            detail = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            return Refusal(f"contains_{places[0][0]}", float(len(places)), detail)
        changed = [replace(text, spans) for text, spans in zip(contents, found, strict=True)]
        earlier = document.metadata.get("pii", [])
        return document.with_contents(changed).with_metadata("pii", [*earlier, *places])

    return step
