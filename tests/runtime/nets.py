"""Nets that do what a test says, and running them in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from procession import Net, Workspace
from procession.compiler.lower import lower
from procession.runtime.executor import Executable
from procession.runtime.monitor import Deadline, Monitor

PATIENCE = 20
"""Seconds after which a test gives up waiting; nothing takes that long unless it is broken."""


def execute(runnable: Any, workspace: Workspace, monitor: Monitor | None = None) -> None:
    """Compile and run it."""
    monitor = monitor or Deadline()
    Executable(lower(runnable, isolated=False).merged).run(workspace, monitor)
    monitor.check()


def call(
    function: Callable[..., Any],
    *,
    inputs: Any = (),
    outputs: Any = (),
    workspace: bool = False,
    name: str = "n",
) -> Net:
    """A net that calls a Python function."""
    net = Net(name)
    net.Python(function, pass_workspace=workspace)(list(inputs), list(outputs))
    return net


def note(log: list[Any], what: Any) -> Net:
    """A net that appends to a list."""
    return call(lambda inputs, outputs: log.append(what))


def stop_after(count: int, blob: str = "stop") -> Net:
    """A net that sets the blob to whether it has run so many times."""
    runs = []

    def count_up(inputs: Any, outputs: Any) -> None:
        runs.append(1)
        outputs[0].feed(np.array(len(runs) >= count))

    return call(count_up, outputs=[blob])
