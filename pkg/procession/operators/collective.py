"""Calls that the members of a common world make together.

Nodes share no blobs. A common world is the one way in which tensors get from node to node while a
program runs: it is declared, by an operator on each of the nodes, and only they map its memory.
Each member has a *rank*, 0, 1, 2, ...; all of them make the same calls in the same order, and each
call waits for the others. What is wrong with that is found, and said on all of them: see
`procession.operators.member`.

An array that is reduced may be the result's own memory, and it should: `net.Allreduce([world, "g"],
"g")`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from procession.blobs.exchange import block_size
from procession.errors import CollectiveError, OutOfSharedMemoryError
from procession.operators.arrays import Array, Shape
from procession.operators.direct import Place
from procession.operators.handles import expect
from procession.operators.member import TIMEOUT, Clock, Venue
from procession.operators.plans import UFUNCS
from procession.operators.registry import WRITTEN, Context, operator
from procession.operators.world import World

MAKERS = ("CreateCommonWorld", "CloneCommonWorld")
"""The operators that make a world: what a compiler looks for."""


def world_name(name: str, output: str) -> str:
    """What a world is called that CreateCommonWorld makes."""
    return name or output


def seat_of(size: Any, rank: Any) -> tuple[int, int]:
    """The size of a world, and a rank in it, as CreateCommonWorld is given them.

    Raises:
        ValueError: They are no such numbers.
    """
    for name, value in (("size", size), ("rank", rank)):
        if isinstance(value, str) or value % 1 != 0:
            raise ValueError(f"the {name} is a whole number, not {value!r}")
    if size < 1:
        raise ValueError(f"a world has at least one member: there is no size {size}")
    if not 0 <= rank < size:
        raise ValueError(f"in a world of {size}, ranks are 0 to {size - 1}, not {rank}")
    return int(size), int(rank)


def _checks(context: Context) -> Callable[[], None]:
    # A kernel that runs on its own is called off by nobody.
    return (lambda: None) if context.workspace is None else context.check


def _world(value: Any) -> World:
    found: World = expect(value, World, "CreateCommonWorld")
    return found


@operator("CreateCommonWorld")
def create_common_world(
    kv_handler: Any = None,
    *,
    size: int,
    rank: int,
    name: str = "",
    timeout_sec: float | None = None,
    timeout_ms: float | None = None,
    status_blob: str = "",
    transport: str = "",
    interface: str = "",
    mpi_rendezvous: bool = False,
    context: Context,
) -> World:
    """Take a seat in a common world: a handle for the calls of its members.

    Caffe2: CreateCommonWorld. All members' operators stand in what is run together, one for each
    rank; that is looked at when it is compiled. Nobody waits for the others in here, but
    in the first call. In another run it makes a new world.

    Args:
        kv_handler: Without effect: members find each other by the world's name.
        size: How many members there are.
        rank: Which of them this is: 0 to size - 1.
        name: What the world is called, on all members; left out, the output's name.
        timeout_sec: Seconds that a call waits for another member; left out, 30.
        timeout_ms: The same in milliseconds.
        status_blob: Without effect: what goes wrong is raised.
        transport: Without effect.
        interface: Without effect.
        mpi_rendezvous: Without effect.

    Raises:
        ValueError: A size or a rank that is no whole number, a size below 1, a rank that is not
            below the size, or a timeout that is not above 0.
        CollectiveError: That seat is taken, as when this is in a loop, or in a task with several
            instances: a world is created once in a run. Or nobody has made the world's memory,
            because this was not compiled with the other members' operators.
    """
    size, rank = seat_of(size, rank)
    seconds = timeout_sec if timeout_ms is None else timeout_ms / 1000
    seconds = TIMEOUT if seconds is None else float(seconds)
    if not seconds > 0:
        raise ValueError(f"a timeout is above 0 s, not {seconds:g} s")
    called = world_name(str(name), context.outputs[0])
    if context.workspace is None:
        if size > 1:
            raise CollectiveError(
                f"common world {called!r} has {size} members, which only a session can bring "
                f"together",
                world=called,
            )
        return World(Venue(called, ("local",), 1, bytearray(block_size(1, 1))), 0, seconds, Clock())
    made: World = context.workspace.worlds.join(called, size, rank, seconds)
    return made


@operator("CloneCommonWorld")
def clone_common_world(comm_world: Any, *, context: Context) -> World:
    """Another world of the same members, for calls beside those of the first.

    Caffe2: CloneCommonWorld. Operators that may run at once need a world each. All members make
    their clones in the same order, in the runnable that creates the world.

    Raises:
        TypeError: The input is not a common world.
        CollectiveError: That runnable has fewer operators that clone it.
    """
    made = _world(comm_world).clone()
    if context.workspace is not None:
        context.workspace.worlds.add(made)
    return made


@operator("DestroyCommonWorld")
def destroy_common_world(comm_world: Any, *, context: Context) -> Any:
    """Leave a common world; who waits for this member from then on gets an error.

    Caffe2: DestroyCommonWorld. The output is the input.

    Raises:
        TypeError: The input is not a common world.
        ValueError: The output is another blob.
    """
    world = _world(comm_world)
    if context.outputs != context.inputs:
        raise ValueError(
            f"the output is the world that is destroyed, {context.inputs[0]!r}, "
            f"not {context.outputs[0]!r}"
        )
    world.leave()
    return WRITTEN


# Calls of all members.


def _checked(xs: Sequence[Any], op: str | None = None) -> list[Array]:
    """Tensors that can go through a world together.

    Raises:
        TypeError: One of them is none, or of a type that cannot be reduced.
        ValueError: None, or of several types; or there is no such `op`.
    """
    if not xs:
        raise ValueError("there is no tensor beside the common world")
    for x in xs:
        if not isinstance(x, np.ndarray):
            raise TypeError(f"only tensors go from node to node, not a {type(x).__name__}")
    first = xs[0].dtype
    if len(xs) > 1 and any(x.dtype != first for x in xs):
        kinds = ", ".join(sorted({str(x.dtype) for x in xs}))
        raise ValueError(f"tensors of one call are of one type, not of {kinds}")
    if first.hasobject:
        raise TypeError("tensors of objects do not go from node to node")
    if not first.itemsize or first.itemsize > 1024:
        raise TypeError(f"elements of type {first} do not go from node to node")
    if op is not None:
        if op not in UFUNCS:
            raise ValueError(f"op is one of {', '.join(UFUNCS)}, not {op!r}")
        allowed = "fciub" if op in ("max", "min") else "fciu"
        if first.kind not in allowed:
            raise TypeError(f"there is no {op} of {first}")
    return [x if x.flags.c_contiguous else np.ascontiguousarray(x) for x in xs]


class _Results:
    """Where the results of a call go: the memory of the output blobs, if it can be.

    A result may be made in the memory of the tensor in its place among the inputs, since each part
    of that is read before it is written. In that of another input it may not.

    If other members want to read large tensors where they lie, the blobs move there first.

    Args:
        world: The world of the call.
        xs: The inputs.
        forms: What results look like.
        move: Whether blobs are to be moved for it.
    """

    def __init__(
        self,
        context: Context,
        world: World,
        xs: Sequence[Array],
        forms: Sequence[tuple[Shape, np.dtype[Any]]],
        move: bool = True,
    ) -> None:
        self._workspace = workspace = context.workspace
        self._blobs: list[tuple[str, Any]] = []
        self._world = world.key
        self.xs = xs
        """The inputs, where they lie when blobs have been moved."""
        self.arrays: list[Array] = []
        if workspace is None:
            self.arrays = [np.empty(*form) for form in forms]
            return
        self._tensors = tensors = [workspace.find(name) for name in context.inputs[1:]]
        move = move and not world.use.full and world.exchanges(xs)
        if move:
            for blob in tensors:
                _move(blob, world)
            self.xs = [
                blob.value if blob.value.flags.c_contiguous else x
                for blob, x in zip(tensors, xs, strict=True)
            ]
        names = context.outputs[: len(forms)]
        self._inputs: dict[int, int] = {}
        places = self._inputs
        for place, blob in enumerate(tensors):
            places[id(blob)] = -1 if id(blob) in places else place
        seen: set[str] = set()
        for index, (name, (shape, dtype)) in enumerate(zip(names, forms, strict=True)):
            in_place = name == context.inputs[index + 1]
            blob = tensors[index] if in_place else workspace.make(name)
            if move and id(blob) not in places:
                _move(blob, world)
            self._blobs.append((name, blob))
            taken = places.get(id(blob), index) != index or name in seen
            seen.add(name)
            self.arrays.append(np.empty(shape, dtype) if taken else blob.target(shape, dtype))

    def places(self, which: Sequence[int], results: bool) -> list[Place] | None:
        """See `procession.operators.direct.Places`."""
        if self._workspace is None:
            return None
        found = [self._tensors[index].place(self.xs[index], self._world) for index in which]
        if results:
            found += [self._blobs[i][1].place(self.arrays[i], self._world) for i in which]
        return None if None in found else found

    def kept(self) -> Any:
        """The results, as a kernel returns them."""
        if self._workspace is None:
            return tuple(self.arrays)
        for (name, blob), array in zip(self._blobs, self.arrays, strict=True):
            blob.store(array)
            if id(blob) not in self._inputs:
                self._workspace.keep(name, blob)
        return WRITTEN

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            for _, blob in self._blobs:
                blob.discard()


def _move(blob: Any, world: World) -> None:
    """Have a blob lie where the members of a world may look, if there is room."""
    if not world.use.full:
        try:
            blob.exchange(world.key, world.use)
        except OutOfSharedMemoryError:
            # It works where it is, too; and asking each time would take long.
            world.use.full = True


def _like(xs: Sequence[Array]) -> list[tuple[Shape, np.dtype[Any]]]:
    return [(x.shape, x.dtype) for x in xs]


def _root(world: World, root: int) -> int:
    root = int(root)
    if not 0 <= root < world.size:
        raise ValueError(f"the root is a rank, 0 to {world.size - 1}, not {root}")
    return root


def _one_for_one(xs: Sequence[Any], context: Context) -> None:
    if len(context.outputs) != len(xs):
        raise ValueError(
            f"as many outputs as tensors are wanted: {len(xs)}, not {len(context.outputs)}"
        )


@operator("Barrier", outputs=0)
def barrier(comm_world: Any, *, context: Context) -> None:
    """Wait until all members have come here. Caffe2: Barrier.

    Raises:
        TypeError: The input is not a common world.
        CollectiveError: See `procession.errors`.
    """
    _world(comm_world).barrier(_checks(context))


@operator("Allreduce", outputs=(1, None))
def allreduce(comm_world: Any, *xs: Any, op: str = "sum", context: Context) -> Any:
    """Tensors reduced elementwise over the members; all get the results. Caffe2: Allreduce.

    Several tensors are reduced as one bucket, each by itself. (In Caffe2 they are copies of one
    tensor, and are added up, too.) The members' values are taken in the order of their
    ranks, so all members get the same bytes. A mean of integers is rounded down. For a mean,
    integers and float16 are added up in a wider type, of 64 and 32 bits; else what has no place in
    the tensors' type is as NumPy makes it: integers wrap.

    Args:
        op: "sum", "mean", "max", "min" or "prod".

    Raises:
        TypeError: The first input is not a common world, or another not a tensor of numbers.
        ValueError: Tensors of several types, or another `op`.
        CollectiveError: See `procession.errors`.
    """
    _one_for_one(xs, context)
    world, ins = _world(comm_world), _checked(xs, op)
    workspace = context.workspace
    if len(ins) == 1 and workspace is not None and not world.exchanges(ins):
        # The same in fewer steps: small tensors take no longer than these.
        name = context.outputs[0]
        blob = workspace.make(name)
        array = blob.target(ins[0].shape, ins[0].dtype)
        try:
            world.allreduce(ins, (array,), op, context.check)
        except BaseException:
            blob.discard()
            raise
        blob.store(array)
        workspace.keep(name, blob)
        return WRITTEN
    with _Results(context, world, ins, _like(ins)) as results:
        world.allreduce(results.xs, results.arrays, op, _checks(context), results.places)
        return results.kept()


@operator("Reduce")
def reduce(comm_world: Any, x: Any, *, root: int = 0, op: str = "sum", context: Context) -> Any:
    """A tensor reduced elementwise over the members; the root gets the result. Caffe2: Reduce.

    On the other members the output stays as it is.

    Args:
        root: The rank that gets the result.
        op: "sum", "mean", "max", "min" or "prod".

    Raises:
        TypeError: The first input is not a common world, or the other not a tensor of numbers.
        ValueError: No such rank, or `op`.
        CollectiveError: See `procession.errors`.
    """
    world, ins = _world(comm_world), _checked((x,), op)
    root = _root(world, root)
    with _Results(context, world, ins, _like(ins) if world.rank == root else ()) as results:
        world.reduce(results.xs, results.arrays, op, root, _checks(context), results.places)
        return results.kept() if world.rank == root else WRITTEN


@operator("Broadcast", outputs=(1, None))
def broadcast(comm_world: Any, *xs: Any, root: int = 0, context: Context) -> Any:
    """One member's tensors for all. Caffe2: Broadcast.

    The others have tensors of the same shapes and types before. (Several are copies of one in
    Caffe2, which sends the first.)

    Args:
        root: The rank whose tensors they are.

    Raises:
        TypeError: The first input is not a common world, or another not a tensor.
        ValueError: No such rank, or tensors of several types.
        CollectiveError: See `procession.errors`.
    """
    _one_for_one(xs, context)
    world, ins = _world(comm_world), _checked(xs)
    root = _root(world, root)
    # That is done once, as a rule: it is not worth moving what is not exchanged otherwise.
    with _Results(context, world, ins, _like(ins), move=False) as results:
        world.broadcast(ins, results.arrays, root, _checks(context), results.places)
        return results.kept()


@operator("Allgather")
def allgather(comm_world: Any, *xs: Any, context: Context) -> Any:
    """The members' tensors, flat and one behind the other, by rank. Caffe2: Allgather.

    Of tensors with n elements together it makes one of shape (size * n,).

    Raises:
        TypeError: The first input is not a common world, or another not a tensor.
        ValueError: Tensors of several types.
        CollectiveError: See `procession.errors`.
    """
    world, ins = _world(comm_world), _checked(xs)
    shape = (world.size * sum([x.size for x in ins]),)
    with _Results(context, world, ins, [(shape, ins[0].dtype)]) as results:
        world.allgather(results.xs, results.arrays[0], _checks(context), results.places)
        return results.kept()


@operator("ReduceScatter", outputs=(1, None))
def reduce_scatter(comm_world: Any, *xs: Any, op: str = "sum", context: Context) -> Any:
    """Tensors reduced elementwise over the members, of which each gets a part.

    Caffe2: ReduceScatter. The first dimension is cut into as many equal parts as there are members;
    rank r gets part r. (Caffe2 is told the parts' sizes by another input, and leaves the part at
    the beginning of a tensor that is as large as before.)

    Args:
        op: "sum", "mean", "max", "min" or "prod".

    Raises:
        TypeError: The first input is not a common world, or another not a tensor of numbers.
        ValueError: A first dimension that the number of members does not divide, tensors of several
            types, or another `op`.
        CollectiveError: See `procession.errors`.
    """
    _one_for_one(xs, context)
    world, ins = _world(comm_world), _checked(xs, op)
    for x in ins:
        if not x.ndim or x.shape[0] % world.size:
            raise ValueError(
                f"a tensor of shape {x.shape} cannot be cut into {world.size} equal parts"
            )
    parts = [((x.shape[0] // world.size, *x.shape[1:]), x.dtype) for x in ins]
    with _Results(context, world, ins, parts) as results:
        world.reduce_scatter(results.xs, results.arrays, op, _checks(context), results.places)
        return results.kept()


# From one member to another.


def _number(tensor: Any, argument: int, what: str, least: int) -> int:
    """A rank or a tag: of the tensor, if there is one."""
    value = argument if tensor is None else np.asarray(tensor)
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise ValueError(f"{what} is one number, not a tensor of shape {value.shape}")
        value = value.item()
    if value != int(value) or value < least:
        raise ValueError(f"{what} is a whole number from {least} on, not {value}")
    return int(value)


def _other(world: World, rank: int, what: str) -> int:
    if rank >= world.size or rank == world.rank:
        raise ValueError(
            f"{what} is the rank of another member, 0 to {world.size - 1} but not {world.rank}: "
            f"not {rank}"
        )
    return rank


@operator("SendTensor", outputs=0)
def send_tensor(
    comm_world: Any,
    x: Any,
    dst_tensor: Any = None,
    tag_tensor: Any = None,
    *,
    dst: int = -1,
    tag: int = 0,
    raw_buffer: bool = False,
    context: Context,
) -> None:
    """Send a tensor to another member, and wait until that has received it. Caffe2: SendTensor.

    Args:
        dst: Its rank; an input says so in its place.
        tag: What tells it from others, 0 or more; an input says so in its place.
        raw_buffer: Without effect: shape and type always go along.

    Raises:
        TypeError: The first input is not a common world, or the second not a tensor, or one of
            objects or of elements with very many fields.
        ValueError: No such rank, or tag.
        CollectiveError: See `procession.errors`.
    """
    world, (array,) = _world(comm_world), _checked((x,))
    to = _other(world, _number(dst_tensor, dst, "dst", 0), "dst")
    world.send(array, to, _number(tag_tensor, tag, "tag", 0), _checks(context))


@operator("ReceiveTensor", outputs=3)
def receive_tensor(
    comm_world: Any,
    y: Any = None,
    src_tensor: Any = None,
    tag_tensor: Any = None,
    *,
    src: int = -1,
    tag: int = -1,
    raw_buffer: bool = False,
    context: Context,
) -> tuple[Array, Array, Array]:
    """Receive a tensor that another member sends. Caffe2: ReceiveTensor.

    The outputs are the tensor, the rank that it comes from and its tag.

    Args:
        src: The rank to receive from, -1 for any; an input says so in its place.
        tag: The tag, -1 for any; an input says so in its place.
        raw_buffer: The tensor has to be like `y`.

    Raises:
        TypeError: The first input is not a common world.
        ValueError: No such rank, or tag; or what came is not like `y`.
        CollectiveError: See `procession.errors`.
    """
    world = _world(comm_world)
    source = _number(src_tensor, src, "src", -1)
    if source >= 0:
        _other(world, source, "src")
    wanted = _number(tag_tensor, tag, "tag", -1)
    array, sender, its_tag = world.receive(source, wanted, _checks(context))
    if raw_buffer:
        if not isinstance(y, np.ndarray):
            raise ValueError("with raw_buffer there is a tensor already, to receive into")
        if (array.shape, array.dtype) != (y.shape, y.dtype):
            raise ValueError(f"{array.dtype}{array.shape} came, and {y.dtype}{y.shape} was wanted")
    return array, np.array([sender], np.int32), np.array([its_tag], np.int32)
