"""Shared fixtures: a workspace, a tiny real model made on the spot, one Ray cluster for the session."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from hypothesis import settings
from small_models import small_llama

from heliostat.ray_session import ENVIRONMENT, ray_session
from heliostat.tracking import Tracker
from heliostat.workspace import Workspace

os.environ.update(ENVIRONMENT)
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)

settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
settings.register_profile("quick", deadline=None, max_examples=10)  # make check
settings.load_profile("unhurried")


@pytest.hookimpl(tryfirst=True)  # before pytest and pytest-xdist look at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, one has all that need a cluster; a file's stay together.
    What needs the tiny model imports torch, and is heavy."""
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
        if {"tiny_model_folder", "tiny_encoder"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.heavy)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their length: what is packed with gzip holds the time, and two processes that share the
    tests must call each by the same name."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def empty_tracking_store(tmp_path_factory) -> Path:
    """A fresh mlflow.db. Making one takes some seconds, so each workspace below gets a copy."""
    folder = tmp_path_factory.mktemp("tracking")
    Tracker.of(Workspace.resolve(str(folder)))
    return folder / "mlflow.db"


@pytest.fixture
def workspace(tmp_path, empty_tracking_store) -> Workspace:
    (tmp_path / "workspace").mkdir()
    shutil.copy(empty_tracking_store, tmp_path / "workspace")
    return Workspace.resolve(str(tmp_path / "workspace"))


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """A Hugging Face folder: a two-layer Llama of some 200,000 parameters, its tokenizer trained on prose."""
    return small_llama(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_model_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """A Hugging Face folder: a sentence encoder of two layers that knows three words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder") / "tiny-encoder"
    words = {"[PAD]": 0, "[UNK]": 1, "light": 2, "mirror": 3, "光": 4}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=5, max_position_embeddings=256, **shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def ray_cluster():
    """A real local cluster of two CPUs, shared by the session."""
    with ray_session(num_cpus=2) as ray:
        yield ray


@pytest.fixture(scope="session")
def s3_root(tmp_path_factory):
    """The URI of a bucket on a real S3 server (moto's), in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    os.environ.update(environment)
    try:
        _create_bucket(f"http://127.0.0.1:{port}", log)
        yield f"s3://bucket/workspace?scheme=http&endpoint_override=127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
        for name in environment:
            os.environ.pop(name)


def _create_bucket(address: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            request = urllib.request.Request(f"{address}/bucket", method="PUT")
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
