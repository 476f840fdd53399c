"""How long a net takes, as a whole and operator by operator, in a workspace that has its inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from procession.compiler.compiled import CompiledRunnable
from procession.runtime.program import (
    NetProgram,
    NodeProgram,
    Operation,
    StepProgram,
    TaskProgram,
)
from procession.session.workspace import Workspace


def benchmark_net(
    workspace: Workspace, name: str, warmup_runs: int, main_runs: int, run_individual: bool = False
) -> list[float]:
    """Milliseconds for a run of a net that `Workspace.create_net` made, and for each operator.

    The net does run: what it writes is written.

    Args:
        workspace: Where.
        name: The net's.
        warmup_runs: How often to run it before.
        main_runs: How often to run it.
        run_individual: Time each operator by itself, too; otherwise these times are 0.

    Returns:
        The net's time, and then one for each of its operators, in order. The time of one that
        runs nets has theirs in it.

    Raises:
        WorkspaceError: There is no such net.
        OperatorError, BlobNotFoundError: See `Session.run`.

    Caffe2: workspace.BenchmarkNet.
    """
    compiled = workspace.net(name).compiled
    (task,) = compiled.merged.tasks
    run = workspace.nets[name].run
    for _ in range(warmup_runs):
        run()
    times = [_milliseconds(run, main_runs)]
    for operation in _operations(task.step):
        by_itself = partial(workspace.run, alone(compiled, operation))
        times.append(_milliseconds(by_itself, main_runs) if run_individual else 0.0)
    return times


def _operations(step: StepProgram) -> Iterator[Operation]:
    """The operators of the nets of a step, without those of nets that operators run."""
    for part in step.body:
        yield from part.operations if isinstance(part, NetProgram) else _operations(part)


def _milliseconds(run: Callable[[], None], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begin) * 1000 / max(count, 1)


def alone(compiled: CompiledRunnable, operation: Operation) -> CompiledRunnable:
    """One operator of something compiled, by itself."""
    whole = compiled.merged
    step = StepProgram(compiled.name, (NetProgram(compiled.name, (operation,)),))
    program = NodeProgram(
        node=whole.node,
        private=False,
        tasks=(TaskProgram(compiled.name, step),),
        outputs=(),
        definitions=whole.definitions,
    )
    return CompiledRunnable(compiled.name, (program,), ())
