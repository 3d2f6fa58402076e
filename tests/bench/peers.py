"""The peers' environments: each in a virtual environment of its own, made once, outside the repository."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.bench.corpus import cache_folder
from tests.bench.corpus_contents import Say


@dataclass(frozen=True)
class Peer:
    """A tool that does the same work, and the requirements of its environment."""

    name: str
    requirements: tuple[str, ...]
    distributions: tuple[str, ...]
    """Whose versions go into the report."""
    unwanted: tuple[str, ...] = ()
    """What pip brings along and is taken out again."""


DATATROVE = Peer(
    "datatrove",
    ("datatrove[processing,io]==0.10.1", "xxhash<4", "spacy"),
    ("datatrove", "spacy", "numpy", "xxhash"),
)
DATA_JUICER = Peer(
    "data-juicer", ("py-data-juicer[distributed]==1.6.1",), ("py-data-juicer", "ray", "numpy", "datasets")
)
LLAMA_FACTORY = Peer(
    "llama-factory",
    ("llamafactory==0.9.5", f"torch=={version('torch').partition('+')[0]}"),
    ("llamafactory", "torch", "transformers", "peft", "accelerate", "datasets"),
    unwanted=("torchvision", "torchaudio"),
)
"""With our torch, so that the same kernels compute. PyPI's pictures and sound do not load beside a torch for
CPUs, and transformers with them; text needs neither."""

LM_EVAL = Peer(
    "lm-eval",
    ("lm_eval[hf]==0.4.13", f"torch=={version('torch').partition('+')[0]}"),
    ("lm_eval", "torch", "transformers", "datasets"),
    unwanted=("torchvision", "torchaudio"),
)
LLM_COMPRESSOR = Peer(
    "llm-compressor",
    ("llmcompressor==0.14.0.1", f"torch=={version('torch').partition('+')[0]}"),
    ("llmcompressor", "compressed-tensors", "torch", "transformers"),
)


def python_of(peer: Peer, say: Say = print) -> Path:
    """The interpreter of the peer's environment, which is made first when there is none: some minutes.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    folder = cache_folder() / f"venv-{peer.name}"
    ready = folder / "requirements.json"
    python = folder / "bin" / "python"
    if ready.is_file() and json.loads(ready.read_text()) == list(peer.requirements):
        return python
    say(f"making an environment for {peer.name} in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements]
    subprocess.run(pip, check=True)
    if peer.unwanted:
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *peer.unwanted], check=True)
    ready.write_text(json.dumps(peer.requirements))
    return python


def versions_of(peer: Peer, python: Path) -> dict[str, str]:
    """The installed versions of what matters."""
    code = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run(
        [python, "-c", code, *peer.distributions], check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
