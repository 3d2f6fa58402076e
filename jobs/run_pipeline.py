"""Run a recipe from its first stage to its last: `python jobs/run_pipeline.py RECIPE [key=value ...]`."""

import sys

from heliostat.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
