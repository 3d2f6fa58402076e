"""llama.cpp's server out of its Python bindings, in an environment of its own; knows nothing of Heliostat.

PYTHON serving_llama_cpp_server.py '{"file": ..., "port": n, "slots": n, "context": n, "threads": n}'
"""

import json
import signal
import sys
from typing import Any

import xllamacpp


def main() -> None:
    """Serve until it is terminated."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = asked["file"]
    params.hostnames = ["127.0.0.1"]
    params.port = asked["port"]
    params.n_parallel = asked["slots"]
    params.n_ctx = asked["context"]
    params.cont_batching = True
    params.warmup = True
    params.cpuparams.n_threads = asked["threads"]
    params.cpuparams_batch.n_threads = asked["threads"]
    server = xllamacpp.Server(params)
    print(f"listening at {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
