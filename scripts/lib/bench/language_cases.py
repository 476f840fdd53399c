"""The cases of `scripts/bench language`, one per run: language_cases.py SIDE CASE.

SIDE is "caffe2" (this interpreter has it), "procession" or "numpy". Prints the seconds of each
repetition as a JSON list. Written against `caffe2.python` only, and for Python 3.8 as well: the
very same code measures both.
"""

import gc
import json
import sys
import time

ADDS = 1000
ITERATIONS = 10000
TURNS = 2000
OPERATORS = 10000


def timed(function, repetitions):
    """Seconds of each call, after two that do not count."""
    seconds = []
    gc.disable()
    for index in range(repetitions + 2):
        start = time.perf_counter()
        function()
        if index >= 2:
            seconds.append(time.perf_counter() - start)
    return seconds


def numpy_adds():
    """The same 1,000 additions by hand, into arrays that are there."""
    import numpy as np

    def run():
        # Where they happen to lie makes a difference of two, so each time anew.
        a, b, out = np.ones(1, np.float32), np.ones(1, np.float32), np.empty(1, np.float32)
        add = np.add
        for _ in range(ADDS):
            add(a, b, out)

    return timed(run, 200)


def adds():
    """A net of 1,000 Adds of one float, run by name."""
    import numpy as np
    from caffe2.python import core, workspace

    net = core.Net("adds")
    for _ in range(ADDS):
        net.Add(["a", "b"], "c")
    workspace.FeedBlob("a", np.ones(1, np.float32))
    workspace.FeedBlob("b", np.ones(1, np.float32))
    workspace.CreateNet(net)
    return timed(lambda: workspace.RunNet(net), 200)


def counted(build):
    """A task that counts in some way, and how to run it."""
    from caffe2.python.session import LocalSession
    from caffe2.python.task import Task, TaskGroup

    with TaskGroup() as group, Task() as task:
        total, expected = build()
        output = task.add_output(total)
    session = LocalSession()
    seconds = timed(lambda: session.run(group), 10)
    if int(output.fetch()) != expected:
        raise SystemExit(f"it counted to {output.fetch()}, not {expected}")
    return seconds


def loop():
    """`ops.loop`, 10,000 times a constant and an addition."""
    from caffe2.python.net_builder import ops

    def build():
        total = ops.Const(0)
        with ops.loop(ITERATIONS):
            ops.Add([total, ops.Const(1)], [total])
        return total, ITERATIONS

    return counted(build)


def steps():
    """Loops in a loop, with a condition in each: all steps."""
    from caffe2.python.net_builder import ops

    def build():
        total, turns = ops.Const(0), ops.Const(0)
        with ops.loop(TURNS // 20), ops.loop(20):
            ops.Add([turns, ops.Const(1)], [turns])
            with ops.If(ops.LE([turns, ops.Const(TURNS // 2)])):
                ops.Add([total, ops.Const(1)], [total])
        return total, TURNS // 2

    return counted(build)


def if_net():
    """The operator If, in a loop."""
    from caffe2.python.net_builder import ops

    def build():
        total, turns = ops.Const(0), ops.Const(0)
        with ops.loop(TURNS):
            ops.Add([turns, ops.Const(1)], [turns])
            with ops.IfNet(ops.LE([turns, ops.Const(TURNS // 2)])):
                ops.Add([total, ops.Const(1)], [total])
        return total, TURNS // 2

    return counted(build)


def while_net():
    """The operator While."""
    from caffe2.python.net_builder import ops

    def build():
        total, end, one = ops.Const(0), ops.Const(TURNS), ops.Const(1)
        with ops.WhileNet():
            with ops.Condition():
                ops.LT([total, end])
            ops.Add([total, one], [total])
        return total, TURNS

    return counted(build)


def small():
    """`LocalSession.run` of a net of three operators, again and again."""
    from caffe2.python import core
    from caffe2.python.session import LocalSession

    net = core.Net("small")
    net.Add([net.Const(1.0), net.Const(2.0)])
    session = LocalSession()
    return timed(lambda: session.run(net), 2000)


def chain(core, operators):
    """A net of so many operators, each reading what the one before wrote."""
    net = core.Net("chain")
    blob = net.AddExternalInput("x")
    for _ in range(operators):
        blob = net.Tanh(blob)
    return net, blob


def build(operators=OPERATORS):
    """Building that net."""
    from caffe2.python import core

    return timed(lambda: chain(core, operators), 5)


def gradient(operators=OPERATORS):
    """Adding its gradient operators."""
    from caffe2.python import core

    nets = [chain(core, operators) for _ in range(7)]

    def run():
        net, blob = nets.pop()
        net.AddGradientOperators([blob])

    return timed(run, 5)


CASES = {
    "numpy": {"adds": numpy_adds},
    "caffe2": {
        "adds": adds,
        "loop": loop,
        "steps": steps,
        "if_net": if_net,
        "while_net": while_net,
        "small": small,
        "build_tenth": lambda: build(OPERATORS // 10),
        "build": build,
        "gradient_tenth": lambda: gradient(OPERATORS // 10),
        "gradient": gradient,
    },
}
CASES["procession"] = CASES["caffe2"]


def main():
    """Run the case that the command line names."""
    side, case = sys.argv[1:]
    if side == "procession":
        import procession.caffe2  # noqa: F401 - makes caffe2.python importable
    print(json.dumps(CASES[side][case]()))


if __name__ == "__main__":
    main()
