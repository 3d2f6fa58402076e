"""A model card, in Markdown, from the records alone: what is not on record is not in it. Pure."""

from collections.abc import Iterator
from typing import Any

import yaml

from heliostat.records import Artifact, Receipt, total
from heliostat.versions.contents import Contents
from heliostat.versions.lineage import Lineage
from heliostat.versions.registry import ModelVersion
from heliostat.versions.tree import tree_lines

MEGA = 1_000_000


def model_card(artifact: Artifact, version: ModelVersion | None, contents: Contents) -> str:
    """The card of an artifact, or of the version that it bears."""
    ancestors = _ancestors(artifact, contents)
    lines = [f"# {version.reference if version else artifact.id}", ""]
    lines += _what_it_is(artifact, version)
    lines += _base(ancestors)
    lines += _data(ancestors)
    lines += _training([artifact, *ancestors])
    lines += _compression(artifact)
    lines += _evaluation(artifact, ancestors, contents)
    lines += _provenance(artifact)
    start = version.reference if version else artifact.id
    lines += ["## Lineage", "", "```", *tree_lines(Lineage.of(contents), start), "```"]
    return "\n".join(lines) + "\n"


def _ancestors(artifact: Artifact, contents: Contents) -> list[Artifact]:
    """What it was made from, the nearest first."""
    by_id = {each.id: each for each in contents.artifacts.values()}
    found: dict[str, Artifact] = {}
    waiting = [artifact]
    while waiting:
        parents = [by_id[each] for each in waiting.pop(0).parents if each in by_id]
        waiting += [each for each in parents if each.id not in found]
        found |= {each.id: each for each in parents}
    return list(found.values())


def _what_it_is(artifact: Artifact, version: ModelVersion | None) -> Iterator[str]:
    yield from _table(
        {
            "kind": artifact.kind,
            "artifact": artifact.id,
            "content (SHA-256)": artifact.content,
            "size": f"{artifact.bytes / MEGA:.1f} MB in {len(artifact.files)} files",
            "parameters": _number(artifact.facts.get("num_parameters")),
            "made (UTC)": f"{artifact.created_at:%Y-%m-%d %H:%M}",
            "registered (UTC)": f"{version.created_at:%Y-%m-%d %H:%M}" if version else None,
            "aliases": ", ".join(version.aliases) if version else None,
        }
    )


def _base(ancestors: list[Artifact]) -> Iterator[str]:
    base = next(
        (each for each in reversed(ancestors) if each.kind == "model" and each.facts.get("source")), None
    )
    if base is None:
        return
    yield from ("## Base model", "")
    licence = base.facts.get("licence")
    yield from _table(
        {
            "source": base.facts["source"],
            "artifact": base.id,
            "parameters": _number(base.facts.get("num_parameters")),
            "licence": licence or "not on record",
        }
    )


def _data(ancestors: list[Artifact]) -> Iterator[str]:
    for dataset in (
        each for each in ancestors if each.kind in ("tokenized", "dataset") and "receipt" in each.facts
    ):
        receipt = Receipt.model_validate(dataset.facts["receipt"])
        kept, dropped = total(receipt.kept), total(receipt.dropped)
        yield from (f"## Data: {dataset.id}", "")
        sources = dataset.facts.get("sources") or []
        yield from _table(
            {
                "kind": dataset.kind,
                "read": _amount(receipt.read.documents, receipt.read.tokens),
                "kept": _amount(kept.documents, kept.tokens),
                "dropped": _amount(dropped.documents, dropped.tokens),
                **{f"kept: {split}": _amount(c.documents, c.tokens) for split, c in receipt.kept.items()},
                **{f"dropped: {why}": _amount(c.documents, c.tokens) for why, c in receipt.dropped.items()},
                "source files": f"{len(sources):,}, {sum(each['bytes'] for each in sources):,} bytes"
                if sources
                else None,
            }
        )


def _training(artifacts: list[Artifact]) -> Iterator[str]:
    for trained in (each for each in artifacts if "last_loss" in each.facts and "adapter" not in each.facts):
        facts = trained.facts
        yield from (f"## Training: {trained.id}", "")
        yield from _table(
            {
                "objective": facts.get("objective"),
                "adapter": facts.get("adapter_kind"),
                "steps": _number(facts.get("steps")),
                "loss, first and last tenth": f"{facts['first_loss']:.4f}, {facts['last_loss']:.4f}",
                "trained parameters": _number(facts.get("trainable_parameters")),
                "tokens/s": _number(round(facts["tokens_per_second"], 1)),
            }
        )
        config = yaml.safe_dump(trained.config, sort_keys=False, allow_unicode=True)
        yield from ("```yaml", config.rstrip(), "```", "")


def _compression(artifact: Artifact) -> Iterator[str]:
    facts = artifact.facts
    if "bytes_before" not in facts:
        return
    before, after = facts["perplexity_before"], facts["perplexity_after"]
    yield from ("## Compression", "")
    yield from _table(
        {
            "scheme": facts.get("scheme"),
            "weights": f"{facts['bytes_before'] / MEGA:.1f} -> {facts['bytes_after'] / MEGA:.1f} MB",
            "perplexity": f"{before:.3f} -> {after:.3f} ({after / before - 1:+.2%})",
        }
    )


def _evaluation(artifact: Artifact, ancestors: list[Artifact], contents: Contents) -> Iterator[str]:
    """The latest report on the artifact, else on the nearest model that it was made from."""
    models = [artifact, *(each for each in ancestors if each.kind == "model")]
    found = ((model, report) for model in models for report in contents.reports_on(model.id))
    model, report = next(found, (None, None))
    if model is None or report is None:
        return
    names = [name for name, held in report.facts.get("models", {}).items() if held == model.id]
    scores = report.facts.get("scores", {}).get(names[0], {}) if names else {}
    rows = [
        f"| {suite} | {metric} | {said['value']:.4g} | {_interval(said)} |"
        for suite, metrics in scores.items()
        for metric, said in metrics.items()
    ]
    if not rows:
        return
    of = "" if model is artifact else f", of {model.id}, from which this was made"
    yield from (f"## Evaluation: {report.id}{of}", "")
    yield from ("| suite | metric | value | 95 % interval |", "|---|---|---:|---|", *rows, "")


def _interval(said: dict[str, Any]) -> str:
    low, high = said.get("low"), said.get("high")
    return "" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def _provenance(artifact: Artifact) -> Iterator[str]:
    made = artifact.provenance
    yield from ("## Provenance", "")
    changed = " with uncommitted changes" if made.git_dirty else ""
    yield from _table(
        {
            "heliostat": made.heliostat_version,
            "commit": f"{made.git_commit}{changed}" if made.git_commit else None,
            "user": made.user,
            "command": f"`{' '.join(made.argv)}`",
            "Python": made.python_version,
            "packages": ", ".join(f"{name} {version}" for name, version in made.package_versions.items()),
            "Ray job": made.ray_job_id,
        }
    )


def _table(rows: dict[str, str | None]) -> Iterator[str]:
    """Two columns; what is not known is left out."""
    yield from ("| | |", "|---|---|")
    for name, value in rows.items():
        if value is not None and value != "":
            yield f"| {name} | {value} |".replace("\n", " ")
    yield ""


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,}"


def _amount(documents: int, tokens: int) -> str:
    return f"{documents:,} documents" + (f", {tokens:,} tokens" if tokens else "")
