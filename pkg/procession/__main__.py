"""What the package does on the command line.

python -m procession clean [--dry-run]
"""

from __future__ import annotations

import argparse
import sys

from procession.blobs.clean import clean
from procession.version import __version__


def main(arguments: list[str]) -> int:
    """Do what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m procession", description="Tools for people who use Procession."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="command", dest="command")
    cleaning = commands.add_parser(
        "clean",
        help="remove what sessions left in shared memory that were killed",
        description="Remove what sessions left in shared memory that were killed. A session does "
        "that, too, when it starts. What belongs to a living process, or to another user, is left "
        "alone.",
    )
    cleaning.add_argument(
        "-n", "--dry-run", action="store_true", help="list it, and remove nothing"
    )
    asked = parser.parse_args(arguments)
    if asked.command is None:
        parser.print_help()
        return 0
    for line in clean(remove=not asked.dry_run):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
