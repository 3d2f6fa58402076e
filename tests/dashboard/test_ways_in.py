"""The other ways in, over real HTTP: without accounts on this machine, by a proxy, over TLS."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from served import environment, form_token, lines, log_in, run_page, served, user
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.heavy
PASSWORD = "vera looks on"
SECRET = "the proxy and the server know"
PROXY = """
trusted: [127.0.0.1/32]
roles: {ml: operator, ml-admins: admin}
secret_file: SECRET_FILE
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Nobody has an account; whoever looks may look only."""
    with served(tmp_path_factory.mktemp("local"), "--read-only") as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxied")
    secret, config = folder / "secret", folder / "proxy.yaml"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    config.write_text(PROXY.replace("SECRET_FILE", str(secret)))
    with served(folder, "--proxy-login", str(config)) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encrypted")
    assert user(folder / "workspace", "add", "vera", password=PASSWORD).returncode == 0
    certificate, key = folder / "cert.pem", folder / "key.pem"
    write_certificate(certificate, key)
    with served(
        folder, "--tls-cert", str(certificate), "--tls-key", str(key), certificate=certificate
    ) as dashboard:
        yield dashboard


def write_certificate(certificate, key) -> None:
    """One for 127.0.0.1, signed by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "heliostat")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    built = built.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    built = built.not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = built.add_extension(names, critical=False)
    certificate.write_bytes(built.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def test_without_accounts_this_machine_is_let_in_as_what_the_command_says(local):
    with local.client() as client, local.stream(client) as stream:
        assert client.get("/runs").status_code == 200
        assert any(line.endswith(" · viewer") for line in lines(run_page(stream, "home")))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "[", "a@b"]
)
def test_by_another_sites_name_nothing_is_to_be_had(local, host):
    with local.client() as client:
        for path in ("/", "/look.js", "/_stcore/host-config", "/login"):
            answer = client.get(path, headers={"Host": host})
            assert answer.status_code == 421
            assert answer.text == "open this dashboard as http://127.0.0.1 or http://localhost\n"
        assert client.get("/", headers={"Host": "localhost:8501"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
def test_without_accounts_too_a_websocket_from_another_sites_page_is_refused(local, origin):
    with pytest.raises(InvalidStatus) as caught:
        local.stream(origin=origin)
    assert caught.value.response.status_code == 403


def test_the_first_account_closes_the_open_way_at_once(tmp_path):
    with served(tmp_path) as dashboard, dashboard.client() as client:
        assert client.get("/runs").status_code == 200
        with dashboard.stream(client) as stream:
            run_page(stream, "home")
            assert user(dashboard.workspace, "add", "vera", password=PASSWORD).returncode == 0
            assert client.get("/runs").status_code == 401
            with pytest.raises(InvalidStatus):
                dashboard.stream(client)
        assert user(dashboard.workspace, "remove", "vera").returncode == 0
        assert client.get("/runs").status_code == 401


def by_proxy(**others: str) -> dict[str, str]:
    headers = {
        "X-Forwarded-User": "anna",
        "X-Forwarded-Groups": "staff, ml",
        "X-Heliostat-Proxy-Secret": SECRET,
    }
    return headers | {name.replace("_", "-"): value for name, value in others.items()}


def test_the_proxy_names_who_it_is_and_what_he_may(proxied):
    with proxied.client(headers=by_proxy()) as client:
        assert client.get("/runs").status_code == 200
        with proxied.stream(headers=by_proxy()) as stream:
            assert "anna · operator" in lines(run_page(stream, "home"))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        by_proxy(X_Heliostat_Proxy_Secret="guessed"),
        by_proxy(X_Heliostat_Proxy_Secret=""),
        by_proxy(X_Forwarded_User=""),
        by_proxy(X_Forwarded_Groups="staff"),
        {"X-Forwarded-User": "anna", "X-Forwarded-Groups": "ml"},
        {"Cookie": "heliostat_session=e30.00", "Remote-User": "anna", "X-Forwarded-For": "127.0.0.1"},
    ],
)
def test_who_is_not_named_as_agreed_is_not_let_in(proxied, headers):
    with proxied.client(headers=headers) as client:
        answer = client.get("/runs", headers={"Accept": "text/html"})
        assert (answer.status_code, answer.text) == (
            403,
            "log in through the proxy in front of this dashboard\n",
        )
    with pytest.raises(InvalidStatus):
        proxied.stream(headers=headers)


def test_from_another_address_the_same_headers_are_worth_nothing(proxied):
    with proxied.client(local_address="127.0.0.2", headers=by_proxy()) as client:
        assert client.get("/runs").status_code == 403
        forwarded = by_proxy(X_Forwarded_For="127.0.0.1", Forwarded="for=127.0.0.1", X_Real_IP="127.0.0.1")
        assert client.get("/runs", headers=forwarded).status_code == 403


@pytest.mark.parametrize("name", ["X-Forwarded-User", "X-Forwarded-Groups", "X-Heliostat-Proxy-Secret"])
def test_a_name_that_came_with_the_request_beside_the_proxys_own_is_refused(proxied, name):
    twice = [(name, "ml-admins"), *by_proxy().items()]
    with httpx.Client(base_url=proxied.url) as client:
        assert client.get("/runs", headers=[*by_proxy().items()]).status_code == 200
        assert client.get("/runs", headers=twice).status_code == 403
        assert client.get("/runs", headers=list(reversed(twice))).status_code == 403


def test_over_tls_the_cookie_is_for_tls_only_and_the_browser_is_told_to_stay(encrypted):
    assert encrypted.url.startswith("https://")
    with encrypted.client() as client:
        answer = log_in(client, "vera", PASSWORD)
        assert answer.status_code == 303
        cookies = answer.headers.get_list("set-cookie")
        (cookie,) = [line for line in cookies if line.startswith("heliostat_session=")]
        assert {"secure", "httponly", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
        assert all("secure" in line.lower() for line in client.get("/login").headers.get_list("set-cookie"))
        assert client.get("/runs").headers["strict-transport-security"] == "max-age=31536000"


def logged_in_by_https(dashboard, local_address) -> httpx.Response:
    """As a proxy passes it on, with the cookies of a browser that speaks https to it."""
    headers = {"X-Forwarded-Proto": "https"}
    with dashboard.client(local_address=local_address, headers=headers) as client:
        form = client.get("/login")
        fields = {"token": form_token(form.text), "name": "vera", "password": PASSWORD}
        cookie = form.headers["set-cookie"].partition(";")[0]
        return client.post("/login", data=fields, headers={"Cookie": cookie})


def test_behind_a_named_proxy_with_tls_the_cookie_is_for_tls_only(tmp_path):
    assert user(tmp_path / "workspace", "add", "vera", password=PASSWORD).returncode == 0
    with served(tmp_path, "--trusted-proxy", "127.0.0.1") as dashboard:
        answer, unnamed = (logged_in_by_https(dashboard, at) for at in ("127.0.0.1", "127.0.0.2"))
    assert answer.status_code == unnamed.status_code == 303
    assert "strict-transport-security" in answer.headers
    for told, secure in ((answer, True), (unnamed, False)):
        (cookie,) = [each for each in told.headers.get_list("set-cookie") if "heliostat_session=" in each]
        assert ("secure" in cookie.lower()) == secure


def test_over_tls_plain_words_are_refused(encrypted):
    with pytest.raises(httpx.TransportError):
        httpx.get(encrypted.url.replace("https", "http") + "/healthz")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])
def test_it_does_not_open_to_others_without_an_account(tmp_path, host):
    done = command(tmp_path, "--host", host)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"heliostat: error: --host {host} can be reached by others, and nobody has an account"
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("trusted: [0.0.0.0/0]", "everybody"),
        ("trusted: []", "trusted"),
        ("trusted: [10.0.0.1]\nsecret_file: /nowhere/secret", "/nowhere/secret: No such file"),
    ],
)
def test_a_proxy_login_that_would_believe_everybody_is_refused_in_one_line(tmp_path, content, says):
    (tmp_path / "proxy.yaml").write_text(content)
    done = command(tmp_path, "--host", "0.0.0.0", "--proxy-login", str(tmp_path / "proxy.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line


def test_the_server_itself_refuses_too(tmp_path):
    """Started around the command."""
    (tmp_path / "workspace").mkdir()
    values = environment(tmp_path) | {"HELIOSTAT_WORKSPACE": str(tmp_path / "workspace")}
    done = subprocess.run(
        [sys.executable, "dashboard", "--host", "0.0.0.0", "--port", "0"],
        env=values, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nobody has an account" in done.stderr.splitlines()[-1]


def test_nothing_listens_where_others_could_reach_it_unless_told(local):
    port = int(local.url.rpartition(":")[2])
    with open(f"/proc/{local.process.pid}/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    listening = {row[1] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    assert listening == {f"0100007F:{port:04X}"}


def command(folder, *words: str) -> subprocess.CompletedProcess:
    workspace = ["--workspace", str(folder / "workspace")]
    return subprocess.run(
        [sys.executable, "-m", "heliostat.cli", "dashboard", "--port", "0", *workspace, *words],
        env=environment(folder), capture_output=True, text=True, timeout=60, cwd=os.path.dirname(__file__),
    )  # fmt: skip
