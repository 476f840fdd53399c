"""Nodes of a ProcessSession that make calls together, and train together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bench.sides import models
from bench.sides.timing import per_turn, timed
from procession import Net, Node, ProcessSession, Task, TaskGroup, WorkspaceType, train
from procession import execution_step as step_of

STEPS = 50
"""Steps in a run of what is trained."""
Call = Callable[[Net, Any], Any]


class Together:
    """A session for each set of nodes, kept open."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[Any, ...], ProcessSession] = {}

    def _session(self, nodes: Iterable[str], threads: int | None = None) -> ProcessSession:
        names = tuple(nodes)
        if (names, threads) not in self._sessions:
            self._sessions[names, threads] = ProcessSession(names, threads_per_node=threads)
        return self._sessions[names, threads]

    def barrier(self, budget: float, nodes: int = 2) -> list[float]:
        """`Barrier`, in a loop of the nodes."""
        _, _, turns = self._loops(lambda net, world: net.Barrier(world, []), 4, nodes)
        return per_turn(turns, budget)

    def allreduce(self, budget: float, size: int, nodes: int = 2) -> list[float]:
        """`Allreduce` in place, in a loop of the nodes; what comes out is looked at, too."""

        def call(net: Net, world: Any) -> Any:
            return net.Allreduce([world, "g"], "g")

        session, names, turns = self._loops(call, size, nodes)
        seconds = per_turn(turns, budget)
        # Numbers of which no sum is rounded.
        numbers = np.arange(size // 4, dtype=np.float32) % 1000
        for rank, name in enumerate(names):
            session.workspace(name).feed_blob("g", numbers + rank)
        turns(1)
        total = nodes * numbers + sum(range(nodes))
        for name in names:
            found = session.workspace(name).fetch_blob("g")
            if not np.array_equal(found, total):
                raise RuntimeError(f"node {name!r} has not got the sum of what {nodes} nodes had")
        return seconds

    def _loops(
        self, call: Call, size: int, nodes: int
    ) -> tuple[ProcessSession, list[str], Callable[[int], float]]:
        """The session, its nodes, and what has them make so many calls: seconds of all."""
        names = [f"n{number}" for number in range(nodes)]
        session = self._session(names)
        nets = {}
        with TaskGroup(WorkspaceType.GLOBAL) as init:
            for rank, name in enumerate(names):
                with Node(name):
                    net, nets[name] = Net("init"), Net("call")
                    world = net.CreateCommonWorld([], ["world"], size=nodes, rank=rank)
                    net.ConstantFill([], ["g"], shape=[size // 4], value=0.0)
                    call(nets[name], world)
                    Task(step=net)
        session.run(init)
        compiled: dict[int, Any] = {}

        def turns(number: int) -> float:
            if number not in compiled:
                with TaskGroup(WorkspaceType.GLOBAL) as group:
                    for name, net in nets.items():
                        with Node(name):
                            Task(step=step_of("loop", net, num_iter=number))
                compiled[number] = session.compile(group)
                session.run(compiled[number])
            begin = time.perf_counter()
            session.run(compiled[number])
            return time.perf_counter() - begin

        return session, names, turns

    def parallel(self, budget: float, batch: int, nodes: int, apart: bool = False) -> list[float]:
        """Examples per second of data-parallel training of the MLP, a thread per node.

        Args:
            budget: Seconds to spend.
            batch: Examples of a step, on each node.
            nodes: How many.
            apart: Whether each node trains a model of its own instead, and nothing is reduced.
        """
        names = [f"t{number}" for number in range(nodes)]
        session = self._session(names, threads=1)
        for name in names:
            for blob, value in zip(("x", "label"), models.data("mlp", batch), strict=True):
                session.workspace(name).feed_blob(blob, value)
        groups = []
        for members in [[name] for name in names] if apart else [names]:
            training = train.data_parallel(_build, members, _optimize, steps=STEPS)
            session.run(training.init)
            groups.append(session.compile(training.step))

        def run() -> None:
            futures = [session.run_async(group) for group in groups[1:]]
            session.run(groups[0])
            for future in futures:
                future.result()

        return [nodes * batch * STEPS / each for each in timed(run, budget)]

    def close(self) -> None:
        """Close the sessions."""
        for session in self._sessions.values():
            session.close()


def _build(model: train.ModelHelper) -> Any:
    h, y = models.MODELS["mlp"].shapes.values()
    blob = train.brew.fc(model, "x", "h", *h[::-1])
    blob = train.brew.relu(model, blob, blob)
    blob = train.brew.fc(model, blob, "y", *y[::-1])
    return model.net.SoftmaxWithLoss([blob, "label"], ["p", "loss"])[1]


def _optimize(model: train.ModelHelper) -> None:
    train.build_sgd(model, models.RATE)
