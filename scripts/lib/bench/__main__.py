"""The command `scripts/bench`, and in its child processes the sides: see `bench/__init__.py`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    scripts = Path(__file__).resolve().parents[2]
    # In place of this folder, whose files have names such as "report".
    sys.path[:1] = [str(scripts / "lib"), str(scripts.parent / "pkg")]
    if sys.argv[1:2] == ["side"]:
        # Nothing that an interpreter which has the side alone could not import.
        from bench.process import serve

        serve(sys.argv[2])
        sys.exit()
    from bench.command import main

    sys.exit(main(sys.argv[1:]))
