"""The `heliostat` command. Each command is a few lines over a stage, the pipeline, or control/."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run the command line with these arguments, else the process's own, and end the process."""
    from heliostat.cli.app import execute

    sys.exit(execute(sys.argv[1:] if arguments is None else arguments))
