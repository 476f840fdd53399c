"""Observers: what is told each time that a net of a workspace has run, and how long its parts took.

A net that is observed runs as it does otherwise, as one function, with a mark before each of its
operators and one behind the last. A mark takes about a microsecond.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from procession.compiler.compiled import CompiledRunnable
from procession.errors import WorkspaceError
from procession.operators.registry import define
from procession.runtime.program import NetProgram, Operation, StepProgram


class NetObserver(ABC):
    """Is told of each run of a net; see `Workspace.net` and `WorkspaceNet.add_observer`."""

    @abstractmethod
    def ran(self, marks: Sequence[float], seconds: float | None) -> None:
        """The net has run, or failed.

        Args:
            marks: When each operator began that did begin and, behind them, when the last ended;
                in seconds. Those that operators run, such as If, are not among them.
            seconds: How long the whole run took; None: an operator failed, or the run was called
                off. Then there is no mark for the end.
        """

    def average_time(self) -> float:
        """Milliseconds for a run.

        Raises:
            WorkspaceError: This observer does not measure it.
        """
        raise self._unknown("how long runs take")

    def average_time_children(self) -> float:
        """Milliseconds for an operator.

        Raises:
            WorkspaceError: This observer does not measure it.
        """
        raise self._unknown("how long operators take")

    def debug_info(self) -> str:
        """What it has found, for the reader."""
        return repr(self)

    def _unknown(self, what: str) -> WorkspaceError:
        return WorkspaceError(f"a {type(self).__name__} does not know {what}: use a TimeObserver")


class TimeObserver(NetObserver):
    """Measures how long a net takes, and how long its operators do. Caffe2: TimeObserver.

    Runs that failed do not count. Before the first run all times are NaN.
    """

    def __init__(self) -> None:
        self.runs = 0
        self._seconds = 0.0
        self._operators: list[float] = []

    def ran(self, marks: Sequence[float], seconds: float | None) -> None:
        """Add what the run took, unless it failed."""
        if seconds is None:
            return
        took = [end - begin for begin, end in pairwise(marks)]
        before = self._operators or [0.0] * len(took)
        self._operators = [old + new for old, new in zip(before, took, strict=True)]
        self._seconds += seconds
        self.runs += 1

    def operator_times(self) -> list[float]:
        """Milliseconds for each operator, in order; empty before the first run."""
        return [seconds * 1000 / self.runs for seconds in self._operators]

    def average_time(self) -> float:
        """Milliseconds for a run of the net."""
        return self._seconds * 1000 / self.runs if self.runs else float("nan")

    def average_time_children(self) -> float:
        """Milliseconds for an operator: the mean over the runs, and over the operators."""
        times = self.operator_times()
        return sum(times) / len(times) if times else float("nan")

    def __repr__(self) -> str:
        return f"<TimeObserver: {self.runs} runs, {self.average_time():.3g} ms each>"


class RunCountObserver(NetObserver):
    """Counts how many operators of a net have run, or begun to. Caffe2: RunCountObserver."""

    def __init__(self) -> None:
        self.count = 0

    def ran(self, marks: Sequence[float], seconds: float | None) -> None:
        """Add the operators that began."""
        self.count += len(marks) - (seconds is not None)

    def debug_info(self) -> str:
        """The count, as text."""
        return f"operators run: {self.count}"

    def __repr__(self) -> str:
        return f"<RunCountObserver: {self.count} operators>"


OBSERVERS: dict[str, Callable[[], NetObserver]] = {
    "RunCountObserver": RunCountObserver,
    "TimeObserver": TimeObserver,
}
"""Those that `core.Net.AddObserver` of scripts for Caffe2 makes, by name."""


def make_observer(name: str) -> NetObserver:
    """An observer of the kind of that name.

    Raises:
        WorkspaceError: There is no such kind.
    """
    if name not in OBSERVERS:
        raise WorkspaceError(f"there is no observer {name!r}: there are {', '.join(OBSERVERS)}")
    return OBSERVERS[name]()


def _mark(*, marking: Callable[[], None]) -> None:
    marking()


_MARK = define("Mark", _mark, outputs=0)


class Watch:
    """A compiled net with marks in it.

    What its operators keep, such as random states, is not what those of the net without marks do.
    """

    def __init__(self, compiled: CompiledRunnable) -> None:
        whole = compiled.merged
        tasks = tuple(replace(task, step=self._step(task.step)) for task in whole.tasks)
        program = replace(whole, tasks=tasks, definitions=(*whole.definitions, _MARK))
        self._compiled = CompiledRunnable(compiled.name, (program,), compiled.outputs)
        self._marks: list[float] = []
        self._lock = threading.RLock()

    def _note(self) -> None:
        self._marks.append(time.perf_counter())

    def _step(self, step: StepProgram) -> StepProgram:
        body = (
            self._net(part) if isinstance(part, NetProgram) else self._step(part)
            for part in step.body
        )
        return replace(step, body=tuple(body))

    def _net(self, net: NetProgram) -> NetProgram:
        mark: Any = Operation(0, net.name, _MARK.name, (), (), {"marking": self._note}, "")
        marked = [each for operation in net.operations for each in (mark, operation)]
        return replace(net, operations=(*marked, mark))

    def run(
        self, run: Callable[[CompiledRunnable], None], observers: Iterable[NetObserver]
    ) -> None:
        """Run it, and tell the observers."""
        with self._lock:
            # A Python operator may run the very net that it is in.
            around, self._marks = self._marks, []
            begin = time.perf_counter()
            seconds: float | None = None
            try:
                run(self._compiled)
                seconds = time.perf_counter() - begin
            finally:
                marks, self._marks = self._marks, around
                for observer in observers:
                    observer.ran(marks, seconds)
