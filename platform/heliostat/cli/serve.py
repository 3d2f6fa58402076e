"""`heliostat serve`: bring endpoints up, see how they do, and change them while they answer."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliostat.cli.arguments import Overrides, RecipePath, WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.control.gateway_key import GatewayKey
    from heliostat.control.roles import Actor
    from heliostat.workspace import Workspace

app = typer.Typer(
    help="Deploy endpoints, see how they are doing, and change them while they answer.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
EndpointName = Annotated[str, typer.Argument(metavar="NAME", help="An endpoint, by its name in the API.")]
_DECISIONS = 3
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
    key = _key(workspace)
    for gateway in _gateways(workspace, name, url):
        for endpoint in endpoints_at(gateway, key):
            if name in (None, endpoint["name"]):
                notes += [f"{endpoint['name']}: {endpoint['note']}"] if endpoint["note"] else []
                notes += [
                    _said(endpoint["name"], each) for each in endpoint.get("decisions", [])[:_DECISIONS]
                ]
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
    for replica, said in endpoint_logs(gateway, name, lines, _key(workspace)).items():
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
    from heliostat.control.endpoint_actions import set_canary

    print(set_canary(*_here(workspace), name, weight, url).said)


@app.command()
def promote(name: EndpointName, workspace: WorkspaceRoot = None, url: GatewayUrl = None) -> None:
    """Give the newest version all requests, and end the others."""
    from heliostat.control.endpoint_actions import promote as give_all

    print(give_all(*_here(workspace), name, url).said)


@app.command()
def rollback(name: EndpointName, workspace: WorkspaceRoot = None, url: GatewayUrl = None) -> None:
    """End the canary, or bring the version before the last promotion back."""
    from heliostat.control.endpoint_actions import roll_back

    print(roll_back(*_here(workspace), name, url).said)


@app.command()
def scale(
    name: EndpointName,
    fewest: Annotated[int, typer.Option("--min", min=0, help="Replicas at least; 0 lets it rest.")],
    most: Annotated[int, typer.Option("--max", min=1, help="Replicas at most.")],
    workspace: WorkspaceRoot = None,
    url: GatewayUrl = None,
) -> None:
    """Set between how many replicas each version has."""
    from heliostat.control.endpoint_actions import scale as set_bounds

    print(set_bounds(*_here(workspace), name, (fewest, most), url).said)


@app.command()
def delete(name: EndpointName, workspace: WorkspaceRoot = None, url: GatewayUrl = None) -> None:
    """Take an endpoint down, behind the answers it is giving."""
    from heliostat.control.endpoint_actions import delete as take_down

    print(take_down(*_here(workspace), name, url).said)


def _here(workspace: str | None) -> "tuple[Actor, Workspace]":
    from heliostat.control.roles import local_actor
    from heliostat.workspace import Workspace

    return local_actor(), Workspace.resolve(workspace)


def _key(workspace: str | None) -> "GatewayKey | None":
    from heliostat.control.gateway_key import find_gateway_key
    from heliostat.workspace import Workspace

    return find_gateway_key(Workspace.resolve(workspace))


def _said(name: str, decision: dict[str, Any]) -> str:
    """A scaling decision in words."""
    change = f"{decision['before']} to {decision['after']} replicas"
    return f"{name} {decision['version']}: {change} at {decision['at']}: {decision['reason']}"


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
