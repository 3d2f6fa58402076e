"""`heliostat evaluate`: evaluated models side by side, and a version against its own record."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import Overrides, RecipePath, WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.evaluation.comparison import Disagreement, MetricComparison
    from heliostat.records import Artifact

app = typer.Typer(
    help="Compare evaluated models, and check on one.", rich_markup_mode=None, no_args_is_help=True
)

NUM_EXAMPLES = 5
SHOWN_CHARACTERS = 100


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A report: its id, its folder's name, or a path.")],
    b: Annotated[
        str, typer.Argument(metavar="B", help="The report to compare it with; perhaps the same one.")
    ],
    model_a: Annotated[str | None, typer.Option(metavar="NAME", help="The model of A, by its name.")] = None,
    model_b: Annotated[str | None, typer.Option(metavar="NAME", help="The model of B, by its name.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as a page, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    fail_if_worse: Annotated[
        bool, typer.Option(help="Exit with 1 when B is worse in any metric with p < 0.01.")
    ] = False,
    workspace: WorkspaceRoot = None,
) -> None:
    """Say how B differs from A on the same examples, and whether that is more than chance."""
    import json
    from dataclasses import asdict

    from heliostat.evaluation.comparison import compare_reports, disagreements, find_report, paired_suites
    from heliostat.evaluation.gate import significantly_worse
    from heliostat.workspace import Workspace

    place = Workspace.resolve(workspace)
    report_a, report_b = find_report(a, place), find_report(b, place)
    found = compare_reports(report_a, report_b, model_a, model_b)
    if html is not None:
        _write_page(html, (report_a, report_b), (model_a, model_b), found)
    if as_json:
        rows = [{**asdict(each), "worse_by": each.worse_by} for each in found]
        print(json.dumps(rows, indent=2))
    else:
        _print_table(found)
        for pairs in paired_suites(report_a, report_b, model_a, model_b):
            _print_disagreements(disagreements(pairs, next(iter(pairs.metrics)), NUM_EXAMPLES))
    if fail_if_worse and significantly_worse(found):
        raise typer.Exit(1)


def _write_page(
    file: Path,
    reports: "tuple[Artifact, Artifact]",
    given: tuple[str | None, str | None],
    found: "list[MetricComparison]",
) -> None:
    from heliostat.errors import StorageError
    from heliostat.evaluation.comparison import model_in, paired_suites
    from heliostat.evaluation.report_page import comparison_page

    names = [model_in(report, name) for report, name in zip(reports, given, strict=True)]
    if names[0] == names[1]:
        names = [f"{names[0]} ({report.id})" for report in reports]
    pairs = list(paired_suites(*reports, *given))
    examples = {
        names[0]: {each.suite: each.a for each in pairs},
        names[1]: {each.suite: each.b for each in pairs},
    }
    title = f"{names[1]} against {names[0]}"
    try:
        file.write_text(comparison_page(title, (names[0], names[1]), found, examples), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{file}: cannot be written: {error.strerror}") from None


def _print_table(found: "list[MetricComparison]") -> None:
    rows = [
        (
            each.suite,
            f"{each.metric} ({'higher' if each.higher_is_better else 'lower'} is better)",
            f"{each.value_a:.4g}",
            f"{each.value_b:.4g}",
            f"{each.difference:+.4g} [{each.low:+.4g}, {each.high:+.4g}]",
            f"{each.p_value:.4f}",
            f"{each.wins}/{each.losses}/{each.ties}",
        )
        for each in found
    ]
    print_columns(("SUITE", "METRIC", "A", "B", "B - A [95 %]", "P", "B WINS/LOSES/TIES"), rows)


def _print_disagreements(found: "list[Disagreement]") -> None:
    if not found:
        return
    print(f"\n{found[0].suite}: the largest differences in {found[0].metric}")
    for each in found:
        print(f"  {each.id}  {each.difference:+.4g}  {_short(each.a.prompt)}")
        if each.a.output is not None or each.b.output is not None:
            print(f"    A: {_short(each.a.output)}\n    B: {_short(each.b.output)}")
            print(f"    right: {_short(each.a.target)}")


def _short(value: object) -> str:
    text = " ".join(str(value if value is not None else "").split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


@app.command()
def health(recipe: RecipePath, overrides: Overrides = None, workspace: WorkspaceRoot = None) -> None:
    """Evaluate a version anew and compare it with its record; exit with 1 when it is damaged or worse."""
    from heliostat.health import HealthConfig, check_health
    from heliostat.locks import using
    from heliostat.ray_session import ray_session
    from heliostat.versions.registry import Registry
    from heliostat.versions.resolving import find_version
    from heliostat.workspace import Workspace

    config = HealthConfig.load(recipe, tuple(overrides or ()))
    place = Workspace.resolve(workspace)
    find_version(config.model, Registry(place))  # before a cluster is started
    with using(place.storage), ray_session():
        found = check_health(config, place)
    if found.comparisons:
        _print_table(list(found.comparisons))
    for file in found.damaged:
        print(f"{file}: is not the file that was registered (its hash is another)")
    for each in found.regressions:
        print(f"{each.suite}/{each.metric}: worse by {each.worse_by:.2%} (p = {each.p_value:.2g})")
    print(
        f"{found.version.reference}: {found.verdict}, by its record {found.record.id} {found.failure}".strip()
    )
    if found.verdict != "healthy":
        raise typer.Exit(1)
