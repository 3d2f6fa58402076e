"""Our endpoint for the benchmark: SmolLM2 in INT8 behind the gateway, on a local Ray.

    python -m tests.bench.serving_ours FOLDER '{"port": 0}'

The folder holds the quantized artifact; what follows changes the endpoint's config. Writes where it answers
as one line of JSON, and serves until standard input ends.
"""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.corpus import cache_folder

from heliostat.ray_session import ray_session
from heliostat.records import Artifact
from heliostat.serving.config import ServeConfig
from heliostat.serving.run import deploy_model, shutdown_endpoint
from heliostat.workspace import Workspace


def main() -> None:
    """Serve, say where, wait."""
    settings: dict[str, Any] = {"name": "smollm2", "port": 0, "startup_timeout_seconds": 300}
    settings |= json.loads(sys.argv[2])
    artifact = Artifact.model_validate_json((Path(sys.argv[1]) / "artifact.json").read_bytes())
    workspace = Workspace.resolve(str(cache_folder() / "serving-workspace"))
    with ray_session(num_cpus=2):
        endpoint = deploy_model(ServeConfig.model_validate(settings), artifact, workspace)
        place = urlsplit(endpoint.base_url)
        said = {
            "host": place.hostname,
            "port": place.port,
            "path": f"{place.path}/completions",
            "model": endpoint.model_id,
        }
        print(json.dumps(said), flush=True)
        sys.stdin.read()
        shutdown_endpoint(endpoint)


if __name__ == "__main__":
    main()
