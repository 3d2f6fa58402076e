"""cluster/make_certificate.sh: certificates that a node's peers accept, and others do not."""

import os
import socket
import ssl
import subprocess
import threading

import pytest
from tests.cluster.manifests import ROOT

SCRIPT = ROOT / "cluster" / "make_certificate.sh"


def make(folder, *addresses, days=1):
    environment = os.environ | {"HELIOSTAT_TLS_FOLDER": str(folder), "DAYS": str(days)}
    return subprocess.run([SCRIPT, *addresses], env=environment, capture_output=True, text=True, check=False)


def handshake(server, client, name):
    """Let two nodes meet over TLS as Ray's do: both show a certificate; the client checks the address."""
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server / "ca.crt")
    ours.verify_mode = ssl.CERT_REQUIRED
    ours.load_cert_chain(server / "tls.crt", server / "tls.key")
    theirs = ssl.create_default_context(cafile=client / "ca.crt")
    theirs.load_cert_chain(client / "tls.crt", client / "tls.key")
    left, right = socket.socketpair()

    def serve():
        try:
            with ours.wrap_socket(left, server_side=True) as stream:
                stream.sendall(b"known")
        except (ssl.SSLError, OSError):
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs.wrap_socket(right, server_hostname=name) as stream:
            return stream.recv(5)
    finally:
        right.close()
        thread.join()


@pytest.fixture
def nodes(tmp_path):
    """Two nodes of one cluster: the second has the first one's authority."""
    one, other = tmp_path / "one", tmp_path / "other"
    assert make(one, "10.0.0.5", "head.internal").returncode == 0
    other.mkdir()
    for file in ("ca.crt", "ca.key"):
        (other / file).write_bytes((one / file).read_bytes())
    assert make(other, "10.0.0.6", "fd00::6").returncode == 0
    return one, other


@pytest.mark.parametrize("name", ["10.0.0.5", "head.internal", "127.0.0.1", "localhost"])
def test_nodes_of_one_authority_meet(nodes, name):
    one, other = nodes
    assert handshake(one, other, name) == b"known"


def test_an_address_that_a_certificate_does_not_name_is_refused(nodes):
    one, other = nodes
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one, other, "10.0.0.6")


def test_a_node_of_another_authority_is_refused(nodes, tmp_path):
    one, _ = nodes
    stranger = tmp_path / "stranger"
    make(stranger, "10.0.0.9")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(one, stranger, "10.0.0.5")


def test_keys_are_for_their_owner_only(nodes):
    for folder in nodes:
        assert folder.stat().st_mode & 0o077 == 0
        for file in folder.iterdir():
            assert file.stat().st_mode & 0o077 == 0


def test_without_the_authoritys_key_nothing_is_signed(nodes):
    _, other = nodes
    before = (other / "tls.crt").read_bytes()
    (other / "ca.key").write_bytes(b"")
    done = make(other, "10.0.0.7")
    assert done.returncode == 2
    assert "copy the authority's key" in done.stderr
    assert (other / "tls.crt").read_bytes() == before


@pytest.mark.parametrize(("made", "expected"), [(True, "1"), (False, "")])
def test_the_start_scripts_switch_tls_on_where_there_is_a_certificate(tmp_path, made, expected):
    folder = tmp_path / "tls"
    if made:
        make(folder, "10.0.0.5")
    code = f'set -eu; . "{ROOT}/cluster/environment.sh"; echo "${{RAY_USE_TLS:-}}"'
    environment = os.environ | {"HELIOSTAT_TLS_FOLDER": str(folder)}
    environment.pop("RAY_USE_TLS", None)
    # `.` leaves $0 as it was: the scripts' own, from which environment.sh finds the repository
    done = subprocess.run(
        ["sh", "-c", code, str(ROOT / "cluster" / "start_head.sh")],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == expected
