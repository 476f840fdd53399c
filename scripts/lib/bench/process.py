"""A side's interpreter, and the line protocol to it.

Each side has a process of its own, which lives from its first question to the end, so that sides
can take turns. A question is a line of JSON on its standard input: what to measure and with which
options. The answer is a line of JSON on what was its standard output when it began: {"answer": ...}
or {"error": ...}. Whatever else is printed in there goes to a file, whose end is shown when the
side dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from bench.peers import SIDES

MAIN = Path(__file__).with_name("__main__.py")
ANSWER_WITHIN = 180.0
"""Seconds for one question."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
"""The variables that say how many threads; Procession's workers heed them, too."""
END_WITHIN = 30.0
"""Seconds for a side to end by itself."""


class SideError(Exception):
    """A side could not do what it was asked."""


class SideProcess:
    """A side's interpreter, seen from the command.

    Args:
        name: A key of `peers.SIDES`.
        threads: How many threads its BLAS and its OpenMP are held to; None leaves them alone.
        ranks: Of how many processes it is made, if it is started by a launcher.
    """

    def __init__(self, name: str, threads: int | None = None, ranks: int = 2) -> None:
        self.name = name
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the side
        self._heard = b""
        search = [str(MAIN.parents[1]), str(MAIN.parents[3] / "pkg"), os.environ.get("PYTHONPATH")]
        python = os.environ.get(SIDES[name].variable or "") or sys.executable
        launcher = [part.format(ranks=ranks) for part in SIDES[name].launcher]
        command = [*launcher, python, str(MAIN), "side", name]
        if SIDES[name].launcher:
            command[0] = beside_python(command[0])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, search))}
            | ({} if threads is None else dict.fromkeys(THREADS, str(threads))),
            start_new_session=True,
        )

    def ask(self, what: str, **options: Any) -> Any:
        """Its answer to a question.

        Raises:
            SideError: It raised, ended, or took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([what, options]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None
        answer: dict[str, Any] = json.loads(self._line())
        if "error" in answer:
            raise SideError(answer["error"])
        return answer["answer"]

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + ANSWER_WITHIN
        while b"\n" not in self._heard:
            # What the side started may hold the other end open after it has ended.
            ended = self._process.poll() is not None
            if select.select([self._process.stdout], [], [], 0.0 if ended else 1.0)[0]:
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self._ended()
                self._heard += chunk
            elif ended:
                raise self._ended()
            elif time.monotonic() > deadline:
                raise SideError(f"no answer within {ANSWER_WITHIN:.0f} s")
        line, self._heard = self._heard.split(b"\n", 1)
        return line

    def _ended(self) -> SideError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_WITHIN)
        self._noise.seek(0)
        lines = self._noise.read().decode(errors="replace").strip().splitlines()
        return SideError("\n".join([f"ended with {self._process.returncode}", *lines[-15:]]))

    def close(self) -> None:
        """End it, and what it started."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: see above
        process.wait()
        process.stdout.close()
        self._noise.close()


def beside_python(command: str) -> str:
    """A command that came with a package of this environment, or else the one on the PATH."""
    path = Path(sys.executable).with_name(command)
    return str(path) if path.exists() else command


def serve(name: str) -> None:
    """Be a side: answer the questions on standard input until it ends."""
    end_with_parent()
    questions = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    side = importlib.import_module(f"bench.sides.{name}").Side()
    try:
        for line in questions:
            what, options = json.loads(line)
            try:
                reply = {"answer": getattr(side, what)(**options)}
            except Exception as error:
                traceback.print_exc()
                reply = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(reply) + "\n")
            answers.flush()
    finally:
        side.close()


def end_with_parent() -> None:
    """On Linux: have this process ended when the one that started it ends, however that does."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
