"""Which blobs a program reads and writes, and which of them it may not see.

Only what is certain is refused before anything runs. A read counts when it is sure to happen and
nothing of the same node could have written the blob before; what a loop, a stop
blob or a concurrent step may change is left to the run, which looks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from procession.errors import BlobIsolationError
from procession.runtime.program import NetProgram, NodeProgram, StepProgram, TaskProgram


def writes_of(part: NetProgram | StepProgram) -> frozenset[str]:
    """All blobs that a net or step may write."""
    if isinstance(part, NetProgram):
        return frozenset(blob for operation in part.operations for blob in operation.outputs)
    report = (part.report[0],) if part.report is not None else ()
    return frozenset().union(*map(writes_of, (*part.body, *report)))


class _Reads:
    """Walks the tasks of one node in the order in which things happen."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.stops: dict[str, str] = {}
        """Blobs that steps stop by -> task. They may be written at any time while it runs."""

    def part(
        self, part: NetProgram | StepProgram, written: set[str], task: str, certain: bool
    ) -> None:
        if isinstance(part, StepProgram):
            self.step(part, written, task, certain)
            return
        for operation in part.operations:
            if certain:
                for blob in operation.inputs:
                    if blob not in written:
                        self.found.setdefault(blob, task)
            written.update(operation.outputs)

    def step(self, step: StepProgram, written: set[str], task: str, certain: bool) -> None:
        if step.only_once or step.iterations == 0 or step.every_millis is not None:
            certain = False
        if step.should_stop is not None and certain:
            self.stops.setdefault(step.should_stop, task)
        if step.report is not None:
            # It may run, and so write, at any time from the beginning on.
            written |= writes_of(step.report[0])
        for recurring in step.recurring:
            # So may these.
            written |= writes_of(recurring)
        if step.at_once:
            for part in step.body:
                siblings = (writes_of(other) for other in step.body if other is not part)
                self.part(part, written.union(*siblings), task, certain)
            written |= writes_of(step)
            return
        for part in step.body:
            self.part(part, written, task, certain)
            if step.should_stop is not None:
                certain = False


def analyze(
    tasks: Sequence[TaskProgram],
    outputs: Mapping[str, str],
    before: TaskProgram | None = None,
    beside: Sequence[TaskProgram] = (),
    after: TaskProgram | None = None,
) -> tuple[dict[str, str], frozenset[str]]:
    """What one node's tasks need from its workspace, and what they may write.

    Args:
        tasks: They run at once.
        outputs: Blob to hand back at the end -> the task that says so.
        before: Runs before them.
        beside: Run again and again while they do.
        after: Runs after them.

    Returns:
        Blob -> the task that reads it, for reads that are certain; and all blobs written.
    """
    reads = _Reads()
    written: set[str] = set()
    if before is not None:
        reads.part(before.step, written, before.name, certain=True)
    written = written.union(*(writes_of(task.step) for task in beside))
    by_task = [writes_of(task.step) for task in tasks]
    for index, task in enumerate(tasks):
        others = (writes for other, writes in enumerate(by_task) if other != index)
        reads.part(task.step, written.union(*others), task.name, certain=True)
    written = written.union(*by_task)
    if after is not None:
        reads.part(after.step, written, after.name, certain=True)
    writes = frozenset(written)
    for blob, task_name in (*reads.stops.items(), *outputs.items()):
        if blob not in writes:
            reads.found.setdefault(blob, task_name)
    return reads.found, writes


def isolation_error(blob: str, task: str, reader: str, owner: str) -> BlobIsolationError:
    """The refusal of a task that reads another node's blob."""
    return BlobIsolationError(
        f"task {task!r} on node {reader!r} reads blob {blob!r}, which only node {owner!r} has. "
        f"Nodes do not share blobs: let a task on {reader!r} make it, or fetch it and feed it "
        f'there (session.workspace("{reader}").feed_blob("{blob}", value)).',
        blob=blob,
        task=task,
        reader=reader,
        owner=owner,
    )


def check_isolation(
    programs: Iterable[NodeProgram], declared: Mapping[str, frozenset[str]]
) -> None:
    """Refuse what the programs by themselves show to cross from node to node.

    That is a blob which one node reads and never writes, and another makes (writes without
    needing it first). The reader may have its own of that name from before: a net that says so,
    with `AddExternalInput`, is left to the run.

    Args:
        programs: Those of one runnable.
        declared: Node -> blobs that its nets declare as coming from its own workspace.

    Raises:
        BlobIsolationError: See above.
    """
    programs = list(programs)
    for program in programs:
        for blob, task in program.reads.items():
            if blob in program.writes or blob in declared.get(program.node, ()):
                continue
            for other in programs:
                if other is not program and blob in other.writes and blob not in other.reads:
                    raise isolation_error(blob, task, program.node, other.node)
