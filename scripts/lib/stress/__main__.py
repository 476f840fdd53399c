"""The command `scripts/stress`, and the coordinators that it kills: see `stress/__init__.py`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    scripts = Path(__file__).resolve().parents[2]
    # In place of this folder, whose files have names such as "report".
    sys.path[:1] = [str(scripts / "lib"), str(scripts.parent / "pkg")]
    from stress.command import main

    sys.exit(main(sys.argv[1:]))
