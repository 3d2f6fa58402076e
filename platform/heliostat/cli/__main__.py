"""`python -m heliostat.cli` is the `heliostat` command."""

from heliostat.cli import main

main()
