"""`heliostat data`: look at data before and after it is made into a dataset."""

from typing import Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

app = typer.Typer(help="Look at data, and compare datasets.", rich_markup_mode=None, no_args_is_help=True)


@app.command()
def inspect(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A file, a folder, a glob or a URI that pyarrow.fs knows.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="What a recipe's source may say, for example columns.text=body."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Count tokens and render a sample with the tokenizer of this model."
        ),
    ] = None,
    workspace: WorkspaceRoot = None,
) -> None:
    """Show what files hold: format, columns, form, rows, lengths, broken rows and a sample."""
    from heliostat.data.inspection import inspect_path, load_tokenizer_of
    from heliostat.data.source_drawing import print_inspection

    tokenizer = load_tokenizer_of(model, workspace) if model else None
    print_inspection(inspect_path(path, tuple(overrides or ()), tokenizer))


@app.command()
def diff(
    before: Annotated[
        str, typer.Argument(metavar="A", help="A dataset: its id, its folder's name, or a path.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="The dataset to compare it with.")],
    workspace: WorkspaceRoot = None,
) -> None:
    """Compare two cleaned datasets: which documents came in, went out or changed, and by which step."""
    from heliostat.data.comparison import compare_datasets, find_dataset
    from heliostat.workspace import Workspace

    place = Workspace.resolve(workspace)
    found = compare_datasets(find_dataset(before, place), find_dataset(after, place))
    for line in found.config:
        print(f"config: {line}")
    print(f"{found.same:,} documents are the same in both")
    if found.moved:
        rows = [
            (f"{each.documents:,}", each.before, each.after, ", ".join(each.examples[:2]))
            for each in found.moved
        ]
        print_columns(("DOCUMENTS", "IN A", "IN B", "FOR EXAMPLE"), rows)
