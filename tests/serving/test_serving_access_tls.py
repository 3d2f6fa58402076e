"""TLS: what is wrong with the files is said at start; a real server speaks it, mutual too."""

import ssl
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from tests.serving.over_http import listening

from heliostat.errors import ServingError
from heliostat.serving.access.config import AccessConfig, TLSConfig
from heliostat.serving.access.tls import server_context, uvicorn_options
from heliostat.serving.config import ServeConfig


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> None:
    openssl(
        *(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "90",
        ),
        *("-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
    )


def make_certificate(folder: Path, name: str, authority: str, days: int = 90) -> None:
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        *(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            f"/CN={name}",
        ),
        *("-keyout", folder / f"{name}.key", "-out", request),
    )
    openssl(
        *(
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            folder / f"{authority}.pem",
            "-CAkey",
            folder / f"{authority}.key",
        ),
        *("-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", folder / f"{name}.pem"),
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for authority in ("ca", "stranger"):
        make_authority(folder, authority)
    for name, authority in (("server", "ca"), ("client", "ca"), ("foreign", "stranger"), ("other", "ca")):
        make_certificate(folder, name, authority)
    make_certificate(folder, "ending", "ca", days=3)
    make_certificate(folder, "lasting", "ca", days=900)
    openssl(
        "pkey", "-in", folder / "server.key", "-aes256", "-passout", "pass:x", "-out", folder / "locked.key"
    )
    (folder / "empty").write_text("")
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "cut.pem").write_text((folder / "server.pem").read_text()[:200])
    return folder


def config(files: Path, certificate="server.pem", key="server.key", client_ca=None, **fields) -> TLSConfig:
    ca = str(files / client_ca) if client_ca else None
    return TLSConfig(certificate=str(files / certificate), key=str(files / key), client_ca=ca, **fields)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"certificate": "none"}, "tls.certificate .*none: cannot be read: No such file"),
        ({"key": "none"}, "tls.key .*none: cannot be read: No such file"),
        ({"client_ca": "none"}, "tls.client_ca .*none: cannot be read: No such file"),
        ({"certificate": "."}, "cannot be read: Is a directory"),
        ({"certificate": "empty"}, "holds no certificate in PEM"),
        ({"certificate": "binary"}, "holds no certificate in PEM"),
        ({"certificate": "cut.pem"}, "holds no certificate in PEM"),
        ({"certificate": "server.key"}, "holds no certificate in PEM"),
        ({"client_ca": "empty"}, "tls.client_ca .*holds no certificate"),
        ({"key": "empty"}, "tls.key .*is no private key"),
        ({"key": "server.pem"}, "tls.key .*is no private key"),
        ({"key": "locked.key"}, "tls.key .*is encrypted; decrypt it"),
        ({"key": "other.key"}, "does not belong to tls.certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files, wrong, message):
    with pytest.raises(ServingError, match=message) as caught:
        server_context(config(files, **wrong))
    assert "\n" not in str(caught.value)


def test_certificates_out_of_their_time_are_refused_and_ending_ones_warned_of(files, caplog):
    present = datetime.now(UTC)
    with pytest.raises(ServingError, match=r"CN=ending has expired on .*renew it"):
        server_context(config(files, "ending.pem", "ending.key"), present + timedelta(days=4))
    with pytest.raises(ServingError, match="is valid only from"):
        server_context(config(files), present - timedelta(days=1))
    lasting = config(files, "lasting.pem", "lasting.key", client_ca="ca.pem")
    with pytest.raises(ServingError, match=r"tls\.client_ca .*CN=ca has expired"):
        server_context(lasting, present + timedelta(days=100))
    server_context(config(files))
    assert caplog.text == ""
    server_context(config(files, "ending.pem", "ending.key"))
    assert "renew it soon" in caplog.text


def test_no_section_means_plain_http_and_old_versions_cannot_be_asked_for(files):
    assert uvicorn_options(None) == {}
    with pytest.raises(ValidationError):
        config(files, minimum_version="1.1")


async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@asynccontextmanager
async def running(tls: TLSConfig):
    async with listening(application, config=ServeConfig(access=AccessConfig(tls=tls))) as port:
        yield f"https://localhost:{port}"


def client(files: Path, name: str | None = None, maximum: ssl.TLSVersion | None = None) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=str(files / "ca.pem"))
    if maximum is not None:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = maximum
    if name is not None:
        context.load_cert_chain(files / f"{name}.pem", files / f"{name}.key")
    return httpx.AsyncClient(verify=context, trust_env=False)


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_a_server_speaks_tls_from_its_least_version_on(files):
    async with running(config(files)) as url:
        async with client(files) as connected:
            assert (await connected.get(url)).text == "https"
        async with client(files, maximum=ssl.TLSVersion.TLSv1_2) as connected:
            assert (await connected.get(url)).text == "https"
        async with client(files, maximum=ssl.TLSVersion.TLSv1_1) as connected:
            with pytest.raises(httpx.TransportError):
                await connected.get(url)
    newest = config(files, minimum_version="1.3")
    async with running(newest) as url, client(files, maximum=ssl.TLSVersion.TLSv1_2) as connected:
        with pytest.raises(httpx.TransportError):
            await connected.get(url)


@pytest.mark.anyio
async def test_with_mutual_tls_only_clients_of_the_authority_get_in(files):
    async with running(config(files, client_ca="ca.pem")) as url:
        async with client(files, "client") as connected:
            assert (await connected.get(url)).text == "https"
        for stranger in (None, "foreign"):
            async with client(files, stranger) as connected:
                with pytest.raises(httpx.TransportError):
                    await connected.get(url)
        async with httpx.AsyncClient(trust_env=False) as plain:
            with pytest.raises(httpx.TransportError):
                await plain.get(url.replace("https", "http"))
