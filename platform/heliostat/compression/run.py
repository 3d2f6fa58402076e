"""Compress a model: from a transformers model to an engine folder that passed the perplexity gate."""

from heliostat.compression.config import CompressConfig
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication
from heliostat.tokenized import require_same_tokenizer
from heliostat.workspace import Workspace


def compress_model(
    config: CompressConfig, model: Artifact, dataset: Artifact, workspace: Workspace, force: bool = False
) -> Artifact:
    """Export `model` in `config.scheme` and publish it, if its perplexity on `dataset` did not rise too much.

    Returns:
        A quantized artifact: a folder for openvino-genai. Its facts hold `perplexity_before`,
        `perplexity_after`, `bytes_before` and `bytes_after` (of the weights), `scheme` and `seconds`.

    Raises:
        ClusterError: the cluster can never give what is asked.
        DataError: the dataset was tokenized with another tokenizer than the model's.
        ModelError: the architecture cannot be exported, or the gate was not passed.
    """
    require_same_tokenizer(dataset, model)
    name = f"{config.name}-{config.scheme}"
    request = Request("compress", "quantized", name, config, (model, dataset))

    def compress(publication: Publication, run: StageRun) -> None:
        from heliostat.compression.edge import CompressionJob, compress_on_cluster

        require_resources(config.resources, 1, "compress.resources")
        facts = compress_on_cluster(CompressionJob(config, model, dataset), publication.folder)
        publication.facts.update(facts | {"tokenizer": model.facts.get("tokenizer")})
        run.log(
            {
                f"compress/{key}": facts[key]
                for key in ("perplexity_before", "perplexity_after", "bytes_after")
            }
        )

    return find_or_make(workspace, request, compress, force)
