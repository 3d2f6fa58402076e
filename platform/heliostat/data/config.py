"""What the data stage can be asked for. Nothing here opens a file."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config, Resources
from heliostat.data.dedup_config import DecontaminateStep, ExactDedupStep, NearDedupStep
from heliostat.data.mix_config import MixConfig
from heliostat.data.source_config import CsvSource as CsvSource
from heliostat.data.source_config import FileSource as FileSource
from heliostat.data.source_config import JsonlSource as JsonlSource
from heliostat.data.source_config import ParquetSource as ParquetSource
from heliostat.data.source_config import PythonDocsSource as PythonDocsSource
from heliostat.data.source_config import Source as Source
from heliostat.data.source_config import TableSource as TableSource
from heliostat.data.source_config import TextSource as TextSource
from heliostat.data.split_config import SplitConfig
from heliostat.data.steps.agreement import LABEL, LabelAgreementStep
from heliostat.data.steps.blocklist import BlocklistStep
from heliostat.data.steps.c4 import C4Step
from heliostat.data.steps.fineweb import FineWebStep
from heliostat.data.steps.gopher import GopherQualityStep
from heliostat.data.steps.language import LanguageStep
from heliostat.data.steps.length import LengthStep
from heliostat.data.steps.normalise import NormaliseStep
from heliostat.data.steps.perplexity import PerplexityStep
from heliostat.data.steps.pii import PiiStep
from heliostat.data.steps.quality import QualityStep
from heliostat.data.steps.repetition import GopherRepetitionStep
from heliostat.data.steps.topics import EmbeddingTopicStep, LdaTopicStep

DocumentStepConfig = (
    NormaliseStep
    | LengthStep
    | LanguageStep
    | GopherQualityStep
    | GopherRepetitionStep
    | C4Step
    | FineWebStep
    | BlocklistStep
    | PerplexityStep
    | QualityStep
    | LdaTopicStep
    | EmbeddingTopicStep
    | LabelAgreementStep
    | PiiStep
    | DecontaminateStep
)
"""Steps over one document at a time."""

DecisionConfig = ExactDedupStep | NearDedupStep
"""Steps that look at all documents."""

Step = Annotated[DocumentStepConfig | DecisionConfig, Field(discriminator="kind")]


class TokenizeConfig(Config):
    """How documents become packed sequences.

    A conversation longer than `max_sequence_length` is dropped or truncated, as `too_long` says; plain text
    is cut into pieces, and no token of it is lost.
    """

    max_sequence_length: int = Field(default=2048, ge=8)
    window_stride: int = Field(default=0, ge=0)
    """Tokens of a long text that each piece repeats from the one before, to read but not to learn; 0 cuts."""
    packing: bool = True
    too_long: Literal["drop", "truncate"] = "drop"

    @model_validator(mode="after")
    def _windows_move_on(self) -> Self:
        if self.window_stride >= self.max_sequence_length:
            raise ValueError(
                f"window_stride={self.window_stride} leaves nothing new in a sequence of "
                f"{self.max_sequence_length} tokens; a quarter of that is usual"
            )
        return self


class PackConfig(Config):
    """What decides the packed dataset, beside the cleaned documents and the tokenizer."""

    tokenize: TokenizeConfig = TokenizeConfig()
    mix: MixConfig | None = None
    """How the train split's tokens are shared among groups of sources or domains; all once by default."""


class CleanConfig(Config):
    """What decides the cleaned documents."""

    sources: tuple[Source, ...] = Field(min_length=1)
    steps: tuple[Step, ...] = (NormaliseStep(), ExactDedupStep())
    split: SplitConfig = SplitConfig()
    domain_terms: str | None = None
    """A text file with the domain's terms, one a line: the report says which share of them is mentioned."""

    @model_validator(mode="after")
    def _annotators_are_learned_once(self) -> Self:
        learning = [
            each for each in self.steps if isinstance(each, LabelAgreementStep) and each.needs_all_labels
        ]
        if len(learning) > 1:
            raise ValueError("label_agreement: method dawid_skene stands twice in the steps; once is enough")
        return self

    @model_validator(mode="after")
    def _steps_have_names_of_their_own(self) -> Self:
        finds: set[str] = {step.kind for step in self.steps}
        finds |= {LABEL} if "label_agreement" in finds else set()
        for source in self.sources:
            taken = sorted(finds.intersection(getattr(source, "keep_columns", ())))
            if taken:
                raise ValueError(
                    f"keep_columns: a step notes what it finds as '{taken[0]}'; leave the column or the step "
                    "out, or name the column otherwise in the source"
                )
        return self

    @property
    def needs_tokenizer(self) -> bool:
        """Whether a step counts tokens, so that the cleaned documents depend on the model's tokenizer."""
        return any(isinstance(step, LengthStep) and step.counts_tokens for step in self.steps)


class DataConfig(CleanConfig, PackConfig):
    """The data stage: documents in, a tokenized dataset out."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"resources"})

    name: str = Field(default="dataset", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    resources: Resources = Resources()
    """Of each task; Ray runs as many as fit."""

    @property
    def cleaning(self) -> CleanConfig:
        """The part that decides the cleaned documents; changing the rest does not clean again."""
        return CleanConfig(
            sources=self.sources, steps=self.steps, split=self.split, domain_terms=self.domain_terms
        )

    @property
    def packing(self) -> PackConfig:
        """The part that decides how the cleaned documents are packed."""
        return PackConfig(tokenize=self.tokenize, mix=self.mix)
