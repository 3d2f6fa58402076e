"""`heliostat keys`: making, listing, revoking and rotating the keys of a workspace's gateways."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.serving.access.key_records import KeyRecord, KeyScope
    from heliostat.serving.access.key_store import KeyStore

app = typer.Typer(
    help="Make, list, revoke and rotate the keys that gateways accept.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Prefix = Annotated[str, typer.Argument(metavar="PREFIX", help="As 'heliostat keys list' shows it.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, such as ci or anna.")],
    tenant: Annotated[
        str | None, typer.Option(help="What shares a cache and collections [default: NAME].")
    ] = None,
    models: Annotated[
        str, typer.Option(metavar="PATTERNS", help="Models it opens, such as 'quick*,chat'.")
    ] = "*",
    routes: Annotated[
        str | None, typer.Option(help="Such as chat,embeddings [default: all but admin and metrics].")
    ] = None,
    cidr: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="From where, such as 10.0.0.0/8; repeatable.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="After 90m, 12h, 30d, 2w, or a day: 2030-12-31.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Of prompts and answers together.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
    workspace: WorkspaceRoot = None,
) -> None:
    """Make a key and print it, once: it is kept nowhere."""
    from heliostat.records import now
    from heliostat.serving.access.key_records import moment_of

    fields: dict[str, object] = {
        "name": name,
        "tenant": tenant or name,
        "models": [pattern.strip() for pattern in models.split(",")],
        "networks": cidr or [],
        "expires_at": moment_of(expires, now()) if expires else None,
        "limits": {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "concurrency": concurrency,
        },
    }
    if routes is not None:
        fields["routes"] = [route.strip() for route in routes.split(",")]
    key, record = _store(workspace).create(_scope(fields))
    _say(f"{record.prefix} is made for {name}; keep the key now, it cannot be shown again:")
    print(key)


@app.command("list")
def list_all(workspace: WorkspaceRoot = None) -> None:
    """List all keys by their prefixes, in the order they were made."""
    rows = [_row(record) for record in _store(workspace).records()]
    header = ("PREFIX", "NAME", "TENANT", "STATE", "EXPIRES (UTC)", "MODELS", "ROUTES", "FROM", "LIMITS")
    print_columns(header, rows)


@app.command()
def revoke(prefix: Prefix, workspace: WorkspaceRoot = None) -> None:
    """End a key; running gateways refuse it within two seconds."""
    record = _store(workspace).revoke(prefix)
    print(
        f"{record.prefix} of {record.scope.name} is revoked since {record.revoked_at:%Y-%m-%d %H:%M:%S} UTC"
    )


@app.command()
def rotate(
    prefix: Prefix,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old key still works: 0, 90m, 12h, 7d.")
    ] = "1d",
    workspace: WorkspaceRoot = None,
) -> None:
    """Make a key that opens the same, print it, and let the old one end after a grace time."""
    from heliostat.serving.access.key_records import duration_of

    key, record, old = _store(workspace).rotate(prefix, duration_of(grace))
    ends = old.scope.expires_at
    when = "has ended" if old.revoked_at or ends is None else f"ends {ends:%Y-%m-%d %H:%M} UTC"
    _say(f"{record.prefix} takes over from {old.prefix}, which {when}; keep the key now:")
    print(key)


def _store(workspace: str | None) -> "KeyStore":
    from heliostat.serving.access.key_store import KeyStore
    from heliostat.workspace import Workspace

    return KeyStore(Workspace.resolve(workspace).storage)


def _scope(fields: dict[str, object]) -> "KeyScope":
    from pydantic import ValidationError

    from heliostat.errors import ConfigError
    from heliostat.records import first_problem
    from heliostat.serving.access.key_records import KeyScope

    try:
        return KeyScope.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None


def _row(record: "KeyRecord") -> tuple[str, ...]:
    import time

    from heliostat.serving.access.config import USER_ROUTES

    scope = record.scope
    limits = [
        f"{number} {what}"
        for number, what in (
            (scope.limits.requests_per_minute, "requests/min"),
            (scope.limits.tokens_per_minute, "tokens/min"),
            (scope.limits.concurrency, "at once"),
        )
        if number is not None
    ]
    return (
        record.prefix,
        scope.name,
        scope.tenant,
        record.state(time.time()),
        f"{scope.expires_at:%Y-%m-%d %H:%M}" if scope.expires_at else "never",
        ",".join(scope.models),
        "usual" if scope.routes == USER_ROUTES else ",".join(scope.routes),
        ",".join(scope.networks) or "everywhere",
        ", ".join(limits) or "none",
    )


def _say(text: str) -> None:
    """Beside the key, which stands alone on standard output so that it can be piped."""
    print(text, file=sys.stderr)
