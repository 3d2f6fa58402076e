"""Serve the newest model of a recipe: `python jobs/deploy_model.py RECIPE [key=value ...]`.

What the stage needs is found, or made first. In a submitted job the endpoint outlives the job; by hand it
answers until Ctrl-C.
"""

import os
import sys

from heliostat.cli import main

if __name__ == "__main__":
    keep = [] if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else ["--keep"]
    main(["run", *sys.argv[1:], "--until", "serve", *keep])
