"""Estate: what a dead worker leaves to the next one of its node.

The coordinator works it out when the worker is dead (`inherit`), from four things: the journal,
which says what lies where (see `procession.blobs.journal`); the board, which says which operation
each task was in; the program that was running; and the leases that have not ended. The next worker
is started with it and makes a workspace of it (`restore`) before it says that it is ready.

A blob is *torn*, which is to say that its value is lost, if

- an operation writes it that a task was in, or had just been in, by the board. A function that a
  net has become writes over a value in place, and nothing tells how far it has come. It may have
  put its result into other memory, or have been done: then the value before, or after, would be
  whole. Nobody can tell, so it counts as torn in any case, the same each time;
- it has the flag WRITING: it was being fed, or written by what a Python operator does on the side;
- somebody had its memory to write to, and a run was under way;
- it was an object that is no plain data, which lived in that process.

All others are as they were, byte for byte.

A task has one word on the board. If it does several things at once, as a concurrent step does, the
word tells of one only. Then all operations of the step count that write in place without saying so;
others say so by WRITING.

Nothing that belongs to the estate is written by `restore`. So the same estate serves again if that
worker dies as well before it is ready.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from procession.blobs.journal import (
    EXPOSED,
    JOURNAL_SIZE,
    WRITING,
    Journal,
    Known,
    ObjectAt,
    ObjectIn,
    TensorAt,
    Torn,
    replay,
    unpack_dtype,
)
from procession.blobs.segment import Segment
from procession.blobs.shared import SegmentRequest, SharedPool
from procession.cluster.board import RUN, TASKS, task_word
from procession.cluster.memory import Lease, NodeMemory
from procession.operators import REGISTRY
from procession.runtime.program import NetProgram, NodeProgram, Operation, StepProgram
from procession.runtime.workspace import Workspace

__all__ = ["JOURNAL_SIZE", "Estate", "again", "first_lease", "inherit", "restore", "written"]


class Estate(NamedTuple):
    """What the next worker takes over."""

    generation: int
    """How many workers the node has had before."""
    segments: tuple[tuple[str, int], ...]
    """Names and sizes of those in which something is in use."""
    worlds: Mapping[str, str]
    """Segment -> the common world of which members may look at it, where they may."""
    tensors: Mapping[str, TensorAt]
    objects: Mapping[str, ObjectIn | ObjectAt]
    torn: Mapping[str, Torn]
    leases: tuple[Lease, ...]

    @property
    def names(self) -> frozenset[str]:
        """The blobs that are there."""
        return frozenset(self.tensors) | frozenset(self.objects)


def _buffers(estate: Estate) -> list[tuple[str, int, int]]:
    """(segment, offset, size) of what blobs live in."""
    tensors = [(at.segment, at.offset, at.size) for at in estate.tensors.values()]
    long = [at for at in estate.objects.values() if isinstance(at, ObjectAt)]
    return tensors + [(at.segment, at.offset, at.size) for at in long]


def first_lease(estate: Estate | None) -> int:
    """The number of the first lease of a worker: above all that its predecessors have given."""
    return 1 if estate is None else (estate.generation << 40) + 1


# The coordinator's half.


def inherit(
    *,
    node: str,
    pid: int,
    journal: Any,
    memory: NodeMemory,
    generation: int,
    words: Sequence[int],
    run: int | None,
    program: NodeProgram | None,
    how: str = "",
    names: Collection[str] = (),
) -> Estate:
    """Work out what a dead worker has left, and unlink the segments that are not part of it.

    Whatever it has named in its answers must have come to the memory by now (`NodeMemory.view` and
    so on).

    Args:
        node: The node.
        pid: The worker's process.
        journal: The memory of its journal.
        memory: That of the node.
        generation: Of the next worker: 1 for the second.
        words: Those of the board.
        run: The run that was under way, if there was one. A call of a function is one.
        program: What it ran; None for a function.
        how: What became of it, of which messages quote the first line.
        names: The blobs that are known of otherwise, in case that the journal cannot be read.
    """
    died = how.split("\n", 1)[0] or f"process {pid} of node {node!r} died"
    sizes = memory.sizes()

    def attach(name: str, size: int) -> Any:
        return memory.whole(name) if sizes.get(name) == size else None

    blobs, whole = replay(journal, attach)
    if not whole:
        lost = Torn(f"{died}, and something had overwritten the record of where it lay")
        blobs = dict.fromkeys((*names, *blobs), lost)
    began = run is not None and words[RUN] == run
    under_way = {}
    if began and program is not None:
        under_way = written(program, words, blobs)
    tensors: dict[str, TensorAt] = {}
    objects: dict[str, ObjectIn | ObjectAt] = {}
    torn = {
        name: Torn(f"operator {operator} was writing it when {died}", operator)
        for name, operator in under_way.items()
    }
    for name, known in blobs.items():
        if name in torn:
            continue
        what = _lost(known, sizes, began, died)
        if what is not None:
            torn[name] = what
        elif isinstance(known, TensorAt):
            tensors[name] = known
        elif isinstance(known, (ObjectIn, ObjectAt)):
            objects[name] = known
    estate = Estate(generation, (), {}, tensors, objects, torn, tuple(memory.leases()))
    used = {segment for segment, _, _ in _buffers(estate)}
    used |= {lease.segment for lease in estate.leases}
    estate = estate._replace(segments=tuple((name, sizes[name]) for name in sizes if name in used))
    memory.keep_only(used)
    return estate._replace(worlds=memory.worlds())


def again(estate: Estate, memory: NodeMemory) -> Estate:
    """The same estate for yet another worker, since the one it was for died before it was ready."""
    memory.keep_only([name for name, _ in estate.segments])
    return estate._replace(generation=estate.generation + 1)


def _lost(known: Known, sizes: Mapping[str, int], began: bool, died: str) -> Torn | None:
    """Why a value is lost, if it is."""
    if isinstance(known, Torn):
        return known
    if isinstance(known, ObjectIn):
        return None
    if known.offset + known.size > sizes.get(known.segment, -1):
        return Torn(f"{died}, and the record of where it lay makes no sense")
    if isinstance(known, TensorAt) and known.flags & WRITING:
        return Torn(f"it was being written when {died}")
    if isinstance(known, TensorAt) and known.flags & EXPOSED and began:
        return Torn(f"an operator had its memory to write to when {died}")
    return None


class _Place(NamedTuple):
    """Where an operation stands in a task."""

    operation: Operation
    around: tuple[Operation, ...]
    """The operations that run its net, the innermost first."""
    beside: bool
    """Whether other operations of the task may run at the same time."""
    inside: bool
    """Whether it is in a workspace of its own: a name that is new there is not the node's."""


def _places(step: StepProgram, beside: bool = False, inside: bool = False) -> Iterator[_Place]:
    beside |= step.at_once or step.copies > 1 or bool(step.recurring) or step.report is not None
    inside |= step.create_workspace
    nets = [step.report[0]] if step.report is not None else []
    for part in (*nets, *step.body):
        if isinstance(part, NetProgram):
            for operation, around in _nested(part, ()):
                yield _Place(operation, around, beside, inside)
        else:
            yield from _places(part, beside, inside)


def _nested(
    net: NetProgram, around: tuple[Operation, ...]
) -> Iterator[tuple[Operation, tuple[Operation, ...]]]:
    for operation in net.operations:
        yield operation, around
        for inner in operation.nets:
            yield from _nested(inner, (operation, *around))


def written(program: NodeProgram, words: Sequence[int], known: Collection[str]) -> dict[str, str]:
    """What a run was writing when it ended: blob of the global workspace -> type of the operator.

    Args:
        program: What ran.
        words: Those of the board.
        known: The blobs that are there.
    """
    own = {definition.name: definition for definition in program.definitions}
    tasks = program.all_tasks
    shared = len(tasks) > TASKS
    bindings = [_bound(each) for each in program.operations() if each.type == "Do"]
    surely: dict[str, str] = {}
    maybe: dict[str, str] = {}
    for index, task in enumerate(tasks):
        number = words[task_word(index)]
        places = list(_places(task.step))
        several = shared or number == 0
        several |= any(each.beside for each in places if each.operation.number == number)
        for place in places:
            operation = place.operation
            if operation.number == number:
                found = surely
            elif several and (shared or place.beside) and _writes_unseen(operation, own):
                found = maybe
            else:
                continue
            for name in _outside(operation.outputs, place.around, bindings):
                if (
                    name in known
                    or name in program.outputs
                    or not (program.private or place.inside)
                ):
                    found.setdefault(name, operation.type)
    return maybe | surely


def _writes_unseen(operation: Operation, own: Mapping[str, Any]) -> bool:
    """Whether it may write into a blob's memory without the blob knowing."""
    definition = own.get(operation.type) or REGISTRY.get(operation.type)
    if definition is None:
        return True
    return not definition.requests.isdisjoint(("out", "outs")) or definition.constant


def _bound(do: Operation) -> dict[str, str]:
    """Name in the scope of a Do -> name outside."""
    names = (*do.inputs[:-1], *do.outputs[:-1])
    inner, outer = do.arguments.get("inner_blobs", ()), do.arguments.get("outer_blobs_idx", ())
    return {
        str(name): names[place]
        for name, place in zip(inner, outer, strict=False)
        if 0 <= place < len(names)
    }


def _outside(
    names: Collection[str], around: Sequence[Operation], bindings: Sequence[Mapping[str, str]]
) -> set[str]:
    """What blobs of a net may be called in the workspace that its task runs in.

    Args:
        names: In the net.
        around: The operations around it, the innermost first.
        bindings: Those of all Do operators. A scope that is used again may know names that another
            one has given it.
    """
    found = set(names)
    for operation in around:
        if operation.type == "Do":
            bound = _bound(operation)
            found = {
                outer
                for name in found
                for outer in (
                    [bound[name]]
                    if name in bound
                    else [each[name] for each in bindings if name in each]
                )
            }
    return found


# The worker's half.


def restore(
    journal: tuple[str, int],
    estate: Estate | None,
    workspace: Workspace,
    pool: SharedPool,
    request: SegmentRequest,
) -> None:
    """Have the journal of this worker begin, with all that the one before has left.

    Args:
        journal: Name and size of its segment.
        estate: What was left; None for the first worker.
        workspace: The global one, empty.
        pool: Its pool, which has not been used; its leases begin with `first_lease`.
        request: How the pool asks for a segment.

    Raises:
        OutOfSharedMemoryError: There is no room for the journal.
        OSError: The segments cannot be mapped.
    """

    def more(nbytes: int) -> Segment:
        return request(nbytes, nbytes, ())

    workspace.keep_journal(Journal(Segment.attach(*journal), more, pool))
    if estate is None:
        return
    long = {name: at for name, at in estate.objects.items() if isinstance(at, ObjectAt)}
    buffers = pool.resume(
        [Segment.attach(name, size) for name, size in estate.segments],
        _buffers(estate),
        estate.leases,
        estate.worlds,
    )
    unused = [buffers[at.segment, at.offset] for at in long.values()]
    for name, known in estate.tensors.items():
        buffer = buffers[known.segment, known.offset]
        try:
            dtype = unpack_dtype(known.dtype)
            buffer.array(known.shape, dtype)
        except Exception as error:
            workspace.tear(name, Torn(f"its record cannot be read again: {error!r}"))
            unused.append(buffer)
            continue
        blob = workspace.make(name)
        blob.take(buffer, known.shape, dtype)
        workspace.keep(name, blob)
    for name, it in estate.objects.items():
        if isinstance(it, ObjectAt):
            memory = memoryview(buffers[it.segment, it.offset].segment.memory)
            data = bytes(memory[it.offset : it.offset + it.nbytes])
        else:
            data = it.data
        try:
            value = pickle.loads(data)
        except Exception as error:
            workspace.tear(name, Torn(f"its pickle cannot be read again: {error!r}"))
            continue
        blob = workspace.make(name)
        blob.store(value)
        workspace.keep(name, blob)
    for name, torn in estate.torn.items():
        workspace.tear(name, torn)
    # Not before: what belongs to the estate stays as it is until somebody uses what has become of
    # it.
    for buffer in unused:
        pool.free(buffer)
