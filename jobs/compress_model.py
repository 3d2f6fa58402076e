"""Quantize the tuned model of a recipe: `python jobs/compress_model.py RECIPE [key=value ...]`.

What the stage needs is found, or made first.
"""

import sys

from heliostat.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:], "--until", "compress"])
