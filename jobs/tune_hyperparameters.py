"""Find the best values for a recipe's training: `python jobs/tune_hyperparameters.py RECIPE [key=value ...]`.

What the stage needs is found, or made first.
"""

import sys

from heliostat.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:], "--until", "tune"])
