"""Compress a model: from a transformers model to a smaller folder that passed the perplexity gate."""

from heliostat.compression.config import CompressStep, MergeConfig
from heliostat.compression.kinds import artifact_kind, check_inputs
from heliostat.models.importing import model_folder_facts
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication
from heliostat.tokenized import require_same_tokenizer
from heliostat.workspace import Workspace

LOGGED = ("perplexity_before", "perplexity_after", "bytes_after", "tokens_per_second_after")


def compress_model(
    config: CompressStep,
    model: Artifact,
    dataset: Artifact,
    workspace: Workspace,
    force: bool = False,
    others: tuple[Artifact, ...] = (),
) -> Artifact:
    """Compress `model` as told and publish it, if its perplexity on `dataset` did not rise too much.

    `others` are further artifacts that the kind works with, such as a healed model.

    Returns:
        An artifact whose facts hold `perplexity_*`, `bytes_*` (of the weights) and `tokens_per_second_*` (one
        stream), each `before` and `after`, and `kind`, `scheme` and `seconds`. It is `quantized` when it is a
        folder for openvino-genai, an `export` when it is for other software, else a `model`.

    Raises:
        ClusterError: the cluster can never give what is asked.
        DataError: the dataset was tokenized with another tokenizer than the model's.
        ModelError: the model cannot be compressed so, or the gate was not passed.
    """
    require_same_tokenizer(dataset, model)
    others = (*others, *check_inputs(config, model))
    name = f"{config.name}-{config.scheme_name}"
    request = Request("compress", artifact_kind(config), name, config, (model, dataset, *others))

    def compress(publication: Publication, run: StageRun) -> None:
        from heliostat.compression.edge import CompressionJob, compress_on_cluster

        require_resources(config.resources, 1, "compress.resources")
        facts = compress_on_cluster(CompressionJob(config, model, dataset, others), publication.folder)
        publication.facts.update(facts | {"tokenizer": model.facts.get("tokenizer")})
        if request.kind == "model":
            source, licence = model.facts.get("source") or model.id, model.facts.get("licence")
            publication.facts.update(model_folder_facts(publication.folder, source, licence))
        run.log({f"compress/{key}": facts[key] for key in LOGGED if facts[key] is not None})

    return find_or_make(workspace, request, compress, force)


def check_step(config: CompressStep, base: Artifact) -> None:
    """Refuse what a step cannot do with models of this family, before any document is read.

    Raises:
        ModelError: what stands in the way.
    """
    if not isinstance(config, MergeConfig):  # which looks at the model itself, not at its family
        check_inputs(config, base)
