"""Runs a script for Caffe2 as it is.

python -m procession.caffe2 [--processes] script.py args...
python -m procession.caffe2 [--processes] -m module args...
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import traceback
from types import TracebackType

import procession.caffe2
from procession.caffe2 import mode

_RUNNERS = (
    "<frozen ",
    runpy.__file__,
    os.path.join(os.path.dirname(os.path.abspath(procession.caffe2.__file__)), "__main__"),
)
"""Where the frames are that ran the script."""


def parsed(arguments: list[str]) -> argparse.Namespace:
    """What is asked for: `processes`, `module` and `rest`, which begins with the script."""
    parser = argparse.ArgumentParser(
        prog="python -m procession.caffe2",
        usage="%(prog)s [--processes] (script.py | -m module) [args ...]",
        description="Run a script that was written for caffe2.python, with Procession behind it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--processes",
        action="store_true",
        help="let each node of the script's LocalSessions be a worker process",
    )
    parser.add_argument("-m", dest="module", action="store_true", help="run a module, as python -m")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="script.py args ...")
    found = parser.parse_args(arguments)
    if not found.rest:
        parser.error("which script?")
    return found


def _of_script(error: BaseException) -> TracebackType | None:
    """The traceback, from where the script begins; None if it was not begun."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_RUNNERS):
        frame = frame.tb_next
    return frame


def _show(error: BaseException) -> None:
    """Print the traceback, without the frames that ran the script."""
    if isinstance(error, (ImportError, OSError)) and _of_script(error) is None:
        # There is no such module, or it cannot be run, or read.
        print(f"python -m procession.caffe2: {error}", file=sys.stderr)
        return
    chain: BaseException | None = error
    while chain is not None:
        # An error of the runner's own keeps its frames; where a syntax error is, it says itself.
        found = _of_script(chain)
        if found is not None or isinstance(chain, SyntaxError):
            chain.__traceback__ = found
        chain = chain.__cause__ or chain.__context__
    traceback.print_exception(error)


def main(arguments: list[str]) -> int:
    """Run the script; returns the exit code of one that fails."""
    asked = parsed(arguments)
    mode.processes = asked.processes
    target = asked.rest[0]
    sys.argv = list(asked.rest)
    try:
        if asked.module:
            sys.path[0] = os.getcwd()
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            if not os.path.exists(target):
                print(f"python -m procession.caffe2: there is no {target!r}", file=sys.stderr)
                return 2
            # The folder of the script is where it imports from.
            sys.path[0] = os.path.dirname(os.path.abspath(target))
            runpy.run_path(target, run_name="__main__")
    except Exception as error:
        _show(error)
        return 1
    except KeyboardInterrupt:
        # Python ends itself by the signal then, so that shells and the like know.
        sys.excepthook = lambda kind, error, frames: _show(error)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
