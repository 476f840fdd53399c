"""What tests of a ProcessSession run on its nodes, and the segments it has made."""

from __future__ import annotations

import os
from typing import Any

from procession import Net, Node, Session
from procession.blobs.segment import PREFIX


def python_net(function: Any, inputs: Any = (), outputs: Any = (), **options: Any) -> Net:
    """A net of one operator that calls the function."""
    net = Net(function.__name__)
    net.Python(function, **options)(list(inputs), list(outputs))
    return net


def run_on(session: Session, node: str, runnable: Any, **options: Any) -> None:
    with Node(node):
        session.run(runnable, **options)


def segments() -> set[str]:
    """The names of this process's segments of shared memory."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(f"{PREFIX}{os.getpid()}-")}
