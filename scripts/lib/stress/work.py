"""What sessions are given to run."""

from __future__ import annotations

import numpy as np

from procession import Net, Task, TaskGroup, execution_step
from stress import inside


def group(
    kind: str, places: tuple[tuple[str, str], ...], target: str, times: int, seconds: float = 0.0
) -> TaskGroup:
    """A group that does something with one blob on each of some nodes.

    Args:
        kind: "count" adds 1 to the blob in place; "fail" does so and raises; "busy" does so and
            computes for a while; "double" writes twice the blob to the target; "fill" writes a
            large array of sevens to the target; "private" counts, and hands back three times the
            blob from a private workspace; "spin" computes for a while, and touches no blob.
        places: (node, blob).
        target: Another blob.
        times: How often it goes around.
        seconds: How long "busy" and "spin" compute each time.
    """
    with TaskGroup("private" if kind == "private" else "global") as made:
        for node, blob in places:
            net = Net(kind)
            if kind == "double":
                net.Add([blob, blob], [target])
            elif kind == "fill":
                net.ConstantFill([], [target], shape=[1_000_000], value=7.0)
            elif kind == "spin":
                net.Python((inside.make_busy, [seconds], {}))([], [])
            else:
                net.Add([blob, net.Const(1.0, "one")], [blob])
            if kind == "fail":
                net.Python(inside.fail)([], [])
            if kind == "busy":
                net.Python((inside.make_busy, [seconds], {}))([], [])
            if kind == "private":
                net.Add([net.Add([blob, blob], ["private"]), blob], [target])
            outputs = [target] if kind == "private" else None
            Task(execution_step(kind, net, num_iter=times), outputs, node=node)
    return made


SEVENS = np.full(1_000_000, 7.0, np.float32)
"""What "fill" writes."""
