"""openvino-genai's continuous batching as an engine: starts the process that steps it, and talks to it.

Imports no OpenVINO: `openvino_process.py` does, in a process of its own, and says why.
"""

import os
import sys
from pathlib import Path

from heliostat.serving.engines.child import ChildEngine
from heliostat.serving.engines.config import OpenVINOEngineConfig
from heliostat.serving.engines.interface import Capabilities

PROCESS_MODULE = "heliostat.serving.engines.openvino_process"
CAPABILITIES = Capabilities(
    max_top_logprobs=0,
    penalties=False,  # openvino-genai's presence and frequency penalties raise logits below 0
    repetition_penalty=True,
    min_p=True,
    logit_bias=False,
    grammar=True,
    adapters=True,
    embeddings=False,
)


class OpenVINOEngine(ChildEngine):
    """An engine whose model lives in OpenVINO's process; made by `start`.

    The first adapter, and one that changes layers which none before it did, load the model anew when the
    requests under way have ended.
    """

    @classmethod
    async def start(
        cls, folder: Path, config: OpenVINOEngineConfig, max_context_tokens: int
    ) -> "OpenVINOEngine":
        """Load an exported folder; returns when the pipeline is ready.

        Raises:
            ServingError: OpenVINO cannot load it.
        """
        engine = cls(CAPABILITIES, max_context_tokens, config.stall_timeout_seconds)
        # -P and an explicit path: the child must find the same heliostat, and nothing in the working folder.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        command = [sys.executable, "-P", "-m", PROCESS_MODULE, str(folder), config.model_dump_json()]
        return await engine.connect(command, environment, f"{folder}: OpenVINO cannot load this model")
