"""That collections and torch can live in one process."""

import subprocess
import sys

import pytest

TRACE = """
import heliostat.serving.retrieval.collection
import torch
torch.jit.trace(lambda x: torch.arange(x.shape[0]) + x, (torch.zeros(3),))
"""


@pytest.mark.heavy
def test_torch_traces_where_an_index_was_loaded_before_it():
    subprocess.run([sys.executable, "-c", TRACE], check=True, timeout=120, capture_output=True)
