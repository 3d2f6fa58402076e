"""`heliostat dashboard`: serve the dashboard, and keep the accounts that may log in to it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot

if TYPE_CHECKING:
    from heliostat.control.accounts import Accounts

app = typer.Typer(
    help="Serve the dashboard, and keep the accounts that may log in to it.",
    rich_markup_mode=None,
    invoke_without_command=True,
)
users = typer.Typer(
    help="Add, list, change and remove the accounts that may log in.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(users, name="user")

UserName = Annotated[str, typer.Argument(metavar="NAME", help="Whom they log in as, such as anna.")]
UserRole = Annotated[
    str, typer.Option("--role", help="viewer looks, operator acts, admin also keeps models and accounts.")
]


@app.callback()
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Where to listen; others reach it with 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8501,
    address: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The cluster [default: $RAY_API_SERVER_ADDRESS, else none]."),
    ] = None,
    workspace: WorkspaceRoot = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="A certificate, in PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, in PEM.")] = None,
    proxy_login: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A YAML file: which proxies are believed to name the user."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="A proxy with TLS before it, which is believed to say that a request came by https and from "
            "where; may be repeated, and may be a network. [default: $HELIOSTAT_DASHBOARD_TRUSTED_PROXIES]",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option(help="Without accounts: whoever looks may look only, not act.")
    ] = False,
    cluster: Annotated[
        bool, typer.Option(help="Where no cluster is named, start one here that ends with the dashboard.")
    ] = True,
    browser: Annotated[bool, typer.Option(help="Open a browser where there is one.")] = True,
) -> None:
    """Serve the dashboard until Ctrl-C; on this machine only, unless --host says otherwise."""
    if context.invoked_subcommand is not None:
        return
    from heliostat.errors import ConfigError

    if (tls_cert is None) != (tls_key is None):
        raise ConfigError("--tls-cert and --tls-key go together; give both or none")
    for file in (tls_cert, tls_key, proxy_login):
        if file is not None and not file.is_file():
            raise ConfigError(f"{file}: no such file")
    folder = _dashboard_folder()
    _check_way_in(host, workspace, proxy_login, tuple(trusted_proxy or ()))
    values = {
        "HELIOSTAT_WORKSPACE": _absolute(workspace or os.environ.get("HELIOSTAT_WORKSPACE")),
        "HELIOSTAT_ADDRESS": address or os.environ.get("RAY_API_SERVER_ADDRESS"),
        "HELIOSTAT_DASHBOARD_PROXY": str(proxy_login.resolve()) if proxy_login else None,
        "HELIOSTAT_DASHBOARD_TRUSTED_PROXIES": ",".join(trusted_proxy or ()),
        "HELIOSTAT_DASHBOARD_ROLE": "viewer" if read_only else "admin",
        "HELIOSTAT_DASHBOARD_NO_CLUSTER": None if cluster else "1",
    }
    environment = os.environ | {name: value for name, value in values.items() if value}
    arguments = ["--host", host, "--port", str(port)]
    if tls_cert and tls_key:
        arguments += ["--tls-cert", str(tls_cert), "--tls-key", str(tls_key)]
    arguments += [] if browser else ["--no-browser"]
    os.execve(sys.executable, [sys.executable, str(folder), *arguments], environment)


@users.command()
def add(name: UserName, role: UserRole = "viewer", workspace: WorkspaceRoot = None) -> None:
    """Make an account; the password is asked for, or read from standard input."""
    from heliostat.control.accounts import as_role

    account = _accounts(workspace).add(name, as_role(role), _password())
    print(f"{account.name} may log in as {account.role}")


@users.command("list")
def list_all(workspace: WorkspaceRoot = None) -> None:
    """List who may log in, and as what."""
    from heliostat.cli.columns import print_columns

    print_columns(("USER", "ROLE"), [(one.name, one.role) for one in _accounts(workspace).all()])


@users.command()
def remove(name: UserName, workspace: WorkspaceRoot = None) -> None:
    """End an account and all its sessions, at once."""
    _accounts(workspace).remove(name)
    print(f"{name} may no longer log in")


@users.command()
def password(name: UserName, workspace: WorkspaceRoot = None) -> None:
    """Give an account a new password, and end its sessions."""
    _accounts(workspace).set_password(name, _password())
    print(f"{name} has a new password")


@users.command()
def role(
    name: UserName,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="viewer, operator or admin.")],
    workspace: WorkspaceRoot = None,
) -> None:
    """Give an account another role, and end its sessions."""
    from heliostat.control.accounts import as_role

    _accounts(workspace).set_role(name, as_role(role))
    print(f"{name} is {role} now")


def _accounts(workspace: str | None) -> "Accounts":
    from heliostat.control.accounts import Accounts
    from heliostat.workspace import Workspace

    return Accounts.of(Workspace.resolve(workspace))


def _check_way_in(
    host: str, workspace: str | None, proxy_login: Path | None, trusted: tuple[str, ...]
) -> None:
    from heliostat.control.door import check_trusted, check_way_in
    from heliostat.control.proxy_login import ProxyLogin

    check_way_in(host, _accounts(workspace), ProxyLogin.load(proxy_login) if proxy_login else None)
    check_trusted(trusted)


def _password() -> str:
    """Typed twice on a terminal, else a line of standard input; never an argument, which others could see."""
    import getpass

    from heliostat.errors import ConfigError

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise ConfigError("the two passwords differ; nothing was changed")
    return first


def _absolute(workspace: str | None) -> str | None:
    return workspace if workspace is None or "://" in workspace else str(Path(workspace).resolve())


def _dashboard_folder() -> Path:
    """The dashboard's folder: beside platform/ in a checkout, inside the package in a wheel.

    Raises:
        ConfigError: Streamlit is missing.
    """
    from importlib.util import find_spec

    import heliostat
    from heliostat.errors import ConfigError

    if find_spec("streamlit") is None:
        raise ConfigError("the dashboard needs Streamlit: pip install 'heliostat[dashboard]'")
    package = Path(heliostat.__file__).resolve().parent
    places = (package / "roof" / "dashboard", package.parent.parent / "dashboard")
    return next(place for place in places if (place / "app.py").is_file())
