"""What a recipe may say about serving, and what is refused before anything starts."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from heliostat.errors import ServingError
from heliostat.records import Artifact, FileEntry, Provenance, now
from heliostat.serving.config import OpenVINOEngineConfig, ServeConfig, TransformersEngineConfig
from heliostat.serving.engines.selection import choose_engine
from heliostat.serving.fleet.shares import first_reason
from heliostat.serving.ports import check_port_free, free_port
from heliostat.serving.run import model_name


def artifact(kind: str, *names: str) -> Artifact:
    return Artifact(
        id=f"{kind}-1",
        kind=kind,
        uri=f"/workspace/models/small-{'0123456789ab'}",
        key="k",
        content="c",
        bytes=1,
        files=tuple(FileEntry(path=name, bytes=1, sha256="0") for name in names),
        parents=(),
        config={},
        facts={},
        created_at=now(),
        provenance=Provenance.collect(),
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_a_host_that_others_reach_needs_a_key_file(host):
    with pytest.raises(ValidationError, match="api_key_file is required"):
        ServeConfig(host=host)
    ServeConfig(host=host, api_key_file="keys.txt")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_loopback_host_needs_no_key(host):
    ServeConfig(host=host)


def test_the_default_length_must_fit_the_limit():
    with pytest.raises(ValidationError, match="default_max_tokens=512 exceeds"):
        ServeConfig(max_output_tokens=100)


def test_auto_takes_the_engine_that_fits_the_artifact():
    auto = ServeConfig().engine
    assert choose_engine(auto, artifact("model")).kind == "transformers"
    assert choose_engine(auto, artifact("quantized", "openvino_model.xml")).kind == "openvino"


@pytest.mark.parametrize(
    ("engine", "kind", "message"),
    [
        (OpenVINOEngineConfig(), "model", "engine openvino cannot serve a model artifact"),
        (TransformersEngineConfig(), "quantized", "engine transformers cannot serve a quantized artifact"),
        (ServeConfig().engine, "tokenized", "a tokenized artifact cannot be served"),
        (ServeConfig().engine, "quantized", "has no openvino_model.xml"),
    ],
)
def test_an_engine_that_does_not_fit_is_one_line(engine, kind, message):
    with pytest.raises(ServingError, match=message) as caught:
        choose_engine(engine, artifact(kind))
    assert "\n" not in str(caught.value)


def test_the_served_name_is_the_artifacts_without_its_key():
    assert model_name(artifact("model")) == "small"


def test_a_port_in_use_is_refused_and_a_free_one_is_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} on 127.0.0.1 is in use.*set port"):
            check_port_free("127.0.0.1", port)
    check_port_free("127.0.0.1", free_port("127.0.0.1"))


def test_a_free_port_is_none_that_an_outgoing_connection_could_take_meanwhile():
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not first <= free_port("127.0.0.1") <= last


def test_ports_that_are_taken_are_passed_over_until_there_is_none(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        taken = [server.getsockname()[1] for server in (one, other)]
        monkeypatch.setattr("heliostat.serving.ports.CHOSEN_PORTS", taken)
        with pytest.raises(ServingError, match=r"all ports from \d+ to \d+ on 127\.0\.0\.1 are in use"):
            free_port("127.0.0.1")
        one.close()
        assert free_port("127.0.0.1") == taken[0]


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ServingError, match="set host to an address of this machine"):
        check_port_free("192.0.2.1", 8000)


def test_the_reason_is_taken_out_of_a_replicas_traceback():
    report = """The deployment failed to start 1 times in a row. Error:
ray::ServeReplica:x:Engine.initialize_and_get_metadata()
  File "replica.py", line 1, in initialize
RuntimeError: Traceback (most recent call last):
  File "edge.py", line 5, in __init__
heliostat.errors.ServingError: /models/x: OpenVINO cannot load this model: bad magic"""
    assert first_reason(report) == "/models/x: OpenVINO cannot load this model: bad magic"
    assert first_reason("Waiting for 1 CPU.") == "Waiting for 1 CPU."
