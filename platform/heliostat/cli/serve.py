"""`heliostat serve`: bring endpoints up, see how they do, and change them while they answer."""

from typing import Annotated, Any

import typer

from heliostat.cli.arguments import Overrides, RecipePath, WorkspaceRoot
from heliostat.cli.columns import print_columns

app = typer.Typer(
    help="Deploy endpoints, see how they are doing, and change them while they answer.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
EndpointName = Annotated[str, typer.Argument(metavar="NAME", help="An endpoint, by its name in the API.")]
GatewayUrl = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The gateway, as http://head:8000; default: by the record."),
]


@app.command()
def deploy(
    recipe: RecipePath,
    overrides: Overrides = None,
    workspace: WorkspaceRoot = None,
    weight: Annotated[
        float,
        typer.Option(
            min=0, max=100, help="Percent of the requests for the new version; below 100 it is a canary."
        ),
    ] = 100,
) -> None:
    """Serve what a recipe makes, beside what is served; on this machine until Ctrl-C, or at $RAY_ADDRESS."""
    from heliostat.cli.pipelines import run
    from heliostat.ray_session import joined_cluster

    asked = [*(overrides or ()), f"serve.weight={weight:g}"] if weight != 100 else overrides
    run(recipe, asked, workspace, until="serve", keep=not joined_cluster())


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this endpoint.")] = None,
    workspace: WorkspaceRoot = None,
    url: GatewayUrl = None,
) -> None:
    """Show the endpoints, their versions with shares, how the replicas are doing, and which of them have
    which adapters.
    """
    from heliostat.control.serving import endpoints_at

    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for gateway in _gateways(workspace, name, url):
        for endpoint in endpoints_at(gateway):
            if name in (None, endpoint["name"]):
                notes += [f"{endpoint['name']}: {endpoint['note']}"] if endpoint["note"] else []
                for version in endpoint["versions"]:
                    rows += [_row(endpoint, version), *_adapter_rows(endpoint, version)]
    heads = ("NAME", "VERSION", "SHARE", "REPLICAS", "REQUESTS", "TOKENS/S", "KV", "ENGINE", "ARTIFACT")
    print_columns(heads, rows)
    for note in notes:
        print(note)


@app.command()
def logs(
    name: EndpointName,
    lines: Annotated[int, typer.Option(min=1, max=10_000, help="Of each replica.")] = 100,
    workspace: WorkspaceRoot = None,
    url: GatewayUrl = None,
) -> None:
    """Show the end of each replica's log."""
    from heliostat.control.serving import endpoint_logs

    (gateway,) = _gateways(workspace, name, url)
    for replica, said in endpoint_logs(gateway, name, lines).items():
        print(f"== {replica}")
        print("\n".join(said) or "(nothing)")


@app.command()
def canary(
    name: EndpointName,
    weight: Annotated[float, typer.Option(min=0, max=100, help="Percent of the requests.")],
    workspace: WorkspaceRoot = None,
    url: GatewayUrl = None,
) -> None:
    """Give the newest version another share of the requests."""
    _change(name, "canary", {"weight": weight}, workspace, url)


@app.command()
def promote(name: EndpointName, workspace: WorkspaceRoot = None, url: GatewayUrl = None) -> None:
    """Give the newest version all requests, and end the others."""
    _change(name, "promote", {}, workspace, url)


@app.command()
def rollback(name: EndpointName, workspace: WorkspaceRoot = None, url: GatewayUrl = None) -> None:
    """End the canary, or bring the version before the last promotion back."""
    _change(name, "rollback", {}, workspace, url)


@app.command()
def scale(
    name: EndpointName,
    fewest: Annotated[int, typer.Option("--min", min=0, help="Replicas at least; 0 lets it rest.")],
    most: Annotated[int, typer.Option("--max", min=1, help="Replicas at most.")],
    workspace: WorkspaceRoot = None,
    url: GatewayUrl = None,
) -> None:
    """Set between how many replicas each version has."""
    _change(name, "scale", {"fewest": fewest, "most": most}, workspace, url)


@app.command()
def delete(name: EndpointName, workspace: WorkspaceRoot = None, url: GatewayUrl = None) -> None:
    """Take an endpoint down, behind the answers it is giving."""
    _change(name, "delete", {}, workspace, url)


def _change(name: str, what: str, values: dict[str, Any], workspace: str | None, url: str | None) -> None:
    from heliostat.control.serving import change_endpoint

    (gateway,) = _gateways(workspace, name, url)
    versions = change_endpoint(gateway, name, what, values)
    shares = ", ".join(f"{version['label']} {version['weight']:.3g} %" for version in versions)
    print(f"{name}: {shares or 'is taken down'}")


def _gateways(workspace: str | None, name: str | None, url: str | None) -> list[str]:
    from heliostat.control.serving import gateway_urls
    from heliostat.workspace import Workspace

    return [url.rstrip("/")] if url else gateway_urls(Workspace.resolve(workspace), name)


def _adapter_rows(endpoint: dict[str, Any], version: dict[str, Any]) -> list[tuple[str, ...]]:
    """Each adapter: how many replicas have it, and the requests that use it or wait for it."""
    rows: list[tuple[str, ...]] = []
    for adapter in version["adapters"]:
        uses = [
            use
            for replica in version["replicas"]
            for use in replica["adapters"]
            if use["artifact_id"] == adapter["artifact_id"]
        ]
        waiting = sum(use["num_waiting"] for use in uses)
        in_use = str(sum(use["num_requests"] for use in uses))
        rows.append(
            (
                f"{endpoint['name']}:{adapter['name']}",
                version["label"],
                "-",
                f"{sum(use['loaded'] for use in uses)} of {len(version['replicas'])}",
                f"{in_use} (+{waiting} wait)" if waiting else in_use,
                *("-", "-", "adapter"),
                adapter["artifact_id"],
            )
        )
    return rows


def _row(endpoint: dict[str, Any], version: dict[str, Any]) -> tuple[str, ...]:
    replicas = version["replicas"]
    fewest, most = version["fewest_replicas"], version["most_replicas"]
    bounds = f"{len(replicas)} of {most}" if fewest == most else f"{len(replicas)} ({fewest}-{most})"
    usage = [each["kv_cache_usage"] for each in replicas if each["kv_cache_usage"] is not None]
    return (
        endpoint["name"],
        version["label"],
        f"{version['weight']:.3g} %",
        bounds,
        str(sum(each["num_requests"] for each in replicas)),
        f"{sum(each['tokens_per_second'] for each in replicas):.0f}",
        f"{max(usage):.0%}" if usage else "-",
        version["engine"],
        version["artifact_id"],
    )
