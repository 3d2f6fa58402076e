"""A key or a password that is mistyped, misplaced or refused: the line that says so does not show it."""

import http.server
import threading

import pytest

from heliostat.cli.app import execute
from heliostat.control.auth_token import find_auth_token
from heliostat.control.gateway_key import find_gateway_key
from heliostat.control.ray_api import RayApi
from heliostat.control.store import Store
from heliostat.errors import (
    ClusterError,
    ConfigError,
    HeliostatError,
    ServingError,
    StoreError,
    TrackingError,
)
from heliostat.recipe import Recipe
from heliostat.storage import Storage
from heliostat.text.concealing import holds_password, is_sendable, without_secrets
from heliostat.tracking import check_reachable
from heliostat.workspace import Workspace

PLANTED = "4f1d9c7ab2e85603"
UNSENDABLE = (f"{PLANTED}\n{PLANTED}", f"{PLANTED}\x01", f"“{PLANTED}”", f"{PLANTED}\r\nX: y")


@pytest.fixture
def refusing():
    """A server that answers everything with 401 and an echo of the key it was sent."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.end_headers()
            self.wfile.write(str(self.headers).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refusal(kind: type[HeliostatError], doing) -> str:
    with pytest.raises(kind) as caught:
        doing()
    said = str(caught.value)
    assert PLANTED not in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pw@host/x", "postgresql://u:***@host/x"),
        ("postgresql://u:p/w@x:@host/x", "postgresql://u:***@host/x"),
        ("mysql://host/x?user=u&password=pw&ssl=1", "mysql://host/x?user=u&password=***&ssl=1"),
        ("https://host/hook?access_token=pw", "https://host/hook?access_token=***"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("sqlite:////folder/x.db", "sqlite:////folder/x.db"),
        ("http://host:8265", "http://host:8265"),
        ("s3://bucket/w?secret_key=pw&scheme=http", "s3://bucket/w?secret_key=***&scheme=http"),
        ("/folder/a:b@c", "/folder/a:b@c"),
        ("no url", "***"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(url, shown):
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    ("url", "held"),
    [
        ("s3://key:secret@bucket/folder", True),
        ("http://:secret@host", True),
        ("s3://bucket/folder?scheme=http&endpoint_override=127.0.0.1:5000", False),
        ("postgresql://u@host/x", False),
        ("http://host:8265/a@b", False),
        ("see http://host for who: what@where", False),
        ("/folder/a:b@c", False),
    ],
)
def test_a_url_with_a_password_is_known(url, held):
    assert holds_password(url) is held


@pytest.mark.parametrize("key", UNSENDABLE)
def test_a_token_that_no_header_can_carry_is_refused_unseen(monkeypatch, tmp_path, key):
    assert not is_sendable(key)
    monkeypatch.setenv("RAY_AUTH_TOKEN", key)
    assert "RAY_AUTH_TOKEN" in refusal(ClusterError, lambda: RayApi("http://127.0.0.1:9"))
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / "token").write_text(key)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert str(tmp_path / "token") in refusal(ClusterError, find_auth_token)


@pytest.mark.parametrize("key", UNSENDABLE)
def test_a_gateways_key_that_no_header_can_carry_is_refused_unseen(monkeypatch, tmp_path, key):
    place = Workspace.resolve(str(tmp_path))
    monkeypatch.setenv("HELIOSTAT_API_KEY", key)
    assert "HELIOSTAT_API_KEY" in refusal(ServingError, lambda: find_gateway_key(place))
    monkeypatch.delenv("HELIOSTAT_API_KEY")
    (tmp_path / "gateway").mkdir()
    file = tmp_path / "gateway" / "operator.key"
    file.touch(mode=0o600)
    file.write_text(key)
    assert "operator.key" in refusal(ServingError, lambda: find_gateway_key(place))


def test_a_token_that_is_refused_is_named_by_its_place(monkeypatch, capsys, refusing):
    monkeypatch.setenv("RAY_AUTH_TOKEN", PLANTED)
    assert execute(["cluster", "status", "--address", f"http://{refusing}"]) == 2
    monkeypatch.setenv("HELIOSTAT_API_KEY", PLANTED)
    assert execute(["serve", "status", "--url", f"http://{refusing}"]) != 0
    said = capsys.readouterr()
    assert "asks for a token" in said.err
    assert PLANTED not in said.out + said.err


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{PLANTED}@127.0.0.1:1/x",
        f"postgresql://u:a@b/{PLANTED}@127.0.0.1:1/x",
        f"postgresql+psycopg://u:p@{PLANTED}@127.0.0.1:1/x",
        f"postgresql+psycopg://127.0.0.1:{PLANTED}/x",
        f"mysql://127.0.0.1:1/x?password={PLANTED}",
        f"postgresql+nothing://u:{PLANTED}@127.0.0.1/x",
        f"//u:{PLANTED}@host/x",
        PLANTED,
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url):
    def ask():
        with Store(url).begin():
            raise AssertionError("there is no such database")

    refusal(StoreError, ask)


def test_a_tracking_server_that_refuses_is_named_without_its_password(refusing):
    for host in ("127.0.0.1:9", refusing, "[nothing"):
        said = refusal(TrackingError, lambda host=host: check_reachable(f"http://u:{PLANTED}@{host}"))
        assert "http://u:***@" in said


def test_places_and_addresses_that_name_a_password_are_refused(tmp_path):
    refusal(ConfigError, lambda: Storage.at(f"s3://key:{PLANTED}@bucket/workspace"))
    refusal(ClusterError, lambda: RayApi(f"http://u:{PLANTED}@head:8265"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: x\ndata:\n  name: x\n  sources:\n    - {kind: jsonl, path: rows.jsonl}\n    - kind: jsonl\n"
        f"      path: s3://key:{PLANTED}@bucket/rows.jsonl\n"
    )
    assert "data.sources.1.path holds a password" in refusal(ConfigError, lambda: Recipe.load(recipe))
    changes = (f"data.sources.0.path=s3://k:{PLANTED}@bucket/rows.jsonl", "data.sources.1.path=rows.jsonl")
    assert "data.sources.0.path holds a password" in refusal(
        ConfigError, lambda: Recipe.load(recipe, changes)
    )
