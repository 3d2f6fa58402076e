"""LLaMA-Factory's `train` in its own environment: training_llama_factory_runner.py CONFIG

It imports its sound library whatever it trains on, and PyPI's does not load beside a torch for CPUs. Text has
no use for it: an empty module stands in its place.
"""

import sys
import types

from transformers.utils import is_torchaudio_available

if not is_torchaudio_available():  # the answer is kept: transformers goes on without it
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")

if __name__ == "__main__":
    from llamafactory.train.tuner import run_exp

    run_exp()
