"""vLLM as an engine: starts the process that has it, under the interpreter that has it, and talks to it.

Imports no vLLM: `vllm_process.py` does, in an environment of its own, because vLLM pins other versions of
torch and transformers than ours.
"""

import os
import shutil
from pathlib import Path

from heliostat.errors import ServingError
from heliostat.serving.engines.child import ChildEngine
from heliostat.serving.engines.config import VLLMEngineConfig
from heliostat.serving.engines.interface import Capabilities

PROCESS_FILE = Path(__file__).with_name("vllm_process.py")
NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OMP_NUM_THREADS")
"""Ours would be found before what its interpreter has; and Ray sets one thread for whoever does not ask."""


class VLLMEngine(ChildEngine):
    """An engine whose model lives in vLLM's process; made by `start`."""

    @classmethod
    async def start(cls, folder: Path, config: VLLMEngineConfig, max_context_tokens: int) -> "VLLMEngine":
        """Load a Hugging Face folder; returns when the engine is ready.

        Raises:
            ServingError: no such interpreter, no vLLM there or too old a one, or vLLM cannot load the folder.
        """
        engine = cls(capabilities(config), max_context_tokens, config.stall_timeout_seconds)
        python = find_python(config.python)
        command = [python, "-P", str(PROCESS_FILE), str(folder), config.model_dump_json()]
        return await engine.connect(command, _environment(python), f"{folder}: vLLM cannot load this model")


def capabilities(config: VLLMEngineConfig) -> Capabilities:
    """What vLLM can do, set up like this."""
    return Capabilities(
        max_top_logprobs=20,
        penalties=True,
        repetition_penalty=True,
        min_p=True,
        logit_bias=True,
        grammar=True,
        adapters=config.max_adapters > 0,
    )


def find_python(name: str) -> str:
    """The interpreter's path.

    Raises:
        ServingError: there is none.
    """
    found = shutil.which(os.path.expanduser(name))
    if found is None:
        raise ServingError(
            f"engine.python: {name} is no program on this node; give the path of a Python that has vllm, "
            "such as /opt/vllm/bin/python"
        )
    return found


def _environment(python: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    openmp = Path(python).parent.parent / "lib" / "libiomp5.so"
    if openmp.is_file():  # vLLM for CPUs brings it, and asks for it to be loaded first
        environment.setdefault("LD_PRELOAD", str(openmp))
    return environment
