"""`python dashboard` is the dashboard's server; `heliostat dashboard` starts it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # was this folder, whose modules are to be known as dashboard.NAME only
    from dashboard.server import main

    main()
