"""How the gradients of a model become their mean over the nodes.

A gradient is final behind the last operator that writes it. In the order in which they become so,
gradients fill buckets; a bucket is closed before the one that would make it too large, and reduced
right where its last gradient is final, before the way back goes on. So all nodes reduce the same at
the same places. It is the thread that goes back that reduces: as long as there is no core without a
node that computes, another thread costs more than it saves.

Dense gradients are reduced where they lie, unless they are read later on the way back: the gradient
of a sum is that of its terms. Sparse ones are put one behind the other instead, rank by rank, as
those of the joined batch would be, and divided by the number of nodes. They need not be of one
length: they are padded on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from procession import BlobReference, Net
from procession.core import CreateOperator, DataType, GradientSlice
from procession.train.model import ModelHelper

FLOATS = {int(DataType.FLOAT): 4, int(DataType.FLOAT16): 2, int(DataType.DOUBLE): 8}
"""Data type -> the bytes of an element, of those that have a mean."""


@dataclass(frozen=True)
class World:
    """A node's seat in the common world."""

    blob: str
    size: int
    rank: int


@dataclass(frozen=True)
class _Insertion:
    """Operators, and before which of the present ones they go."""

    at: int
    operators: Sequence[Any]


class _Walk:
    """The operators of a net with all gradients, and what becomes of the blobs in them."""

    def __init__(self, model: ModelHelper) -> None:
        self.final: dict[str, int] = {}
        """Blob -> the number of the operator behind the last one that writes it."""
        self._read: dict[str, int] = {}
        self.count = len(model.net.message.op)
        for number, operator in enumerate(model.net.message.op):
            self.final.update(dict.fromkeys(operator.output, number + 1))
            self._read.update(dict.fromkeys(operator.input, number + 1))

    def place(self, *blobs: str) -> int:
        """Behind which operators all of these are final; what nobody writes has been always."""
        return max(self.final.get(blob, 0) for blob in blobs)

    def is_read_later(self, blob: str) -> bool:
        """Whether a blob is read after it is final."""
        return self._read.get(blob, 0) > self.final.get(blob, 0)


def reduce_gradients(
    model: ModelHelper,
    world: World,
    bucket_bytes: int,
    shapes: Mapping[str, Sequence[int]],
    types: Mapping[str, int],
) -> None:
    """Put what reduces the gradients of a model between the operators that make them.

    Args:
        model: The model, with gradients. It knows of the reduced ones afterwards.
        world: The node's seat. Alone in it, nothing is added.
        bucket_bytes: How large a bucket may become, if it has more than one gradient.
        shapes: Parameter -> its shape, as far as that is known.
        types: Parameter -> its `DataType`, as far as that is known.
    """
    if world.size == 1:
        return
    walk = _Walk(model)
    dense: dict[str, str] = {}
    sparse: dict[tuple[str, str], None] = {}
    for param, gradient in model.param_to_grad.items():
        if isinstance(gradient, GradientSlice):
            sparse[str(gradient.indices), str(gradient.values)] = None
        else:
            dense.setdefault(str(gradient), str(param))
    reduced: dict[Any, Any] = {
        name: f"{name}_reduced" if walk.is_read_later(name) else name for name in dense
    }
    buckets = _buckets(dense, walk, bucket_bytes, shapes, types)
    insertions = [
        _Insertion(
            walk.place(*bucket),
            [_call("Allreduce", world, bucket, [reduced[name] for name in bucket], op="mean")],
        )
        for bucket in buckets
    ]
    for slices in sparse:
        reduced[slices] = GradientSlice(f"{slices[1]}_indices_of_all", f"{slices[1]}_of_all")
        operators = _gathering(world, slices, reduced[slices])
        insertions.append(_Insertion(walk.place(*slices), operators))
    # From the end on, so that the numbers hold.
    for insertion in sorted(insertions, key=lambda each: each.at)[::-1]:
        for number, operator in enumerate(insertion.operators):
            model.net.insert_op_at_idx(operator, insertion.at + number)
    _tell(model, reduced)


def _call(type: str, world: World, ins: Sequence[str], outs: Sequence[str], **options: Any) -> Any:
    return CreateOperator(type, [world.blob, *ins], list(outs), **options)


def _buckets(
    dense: Mapping[str, str],
    walk: _Walk,
    bucket_bytes: int,
    shapes: Mapping[str, Sequence[int]],
    types: Mapping[str, int],
) -> list[list[str]]:
    """Gradients that are reduced at once: of one type, in the order in which they are made."""
    closed: list[list[str]] = []
    filling: dict[int, tuple[list[str], int]] = {}
    for name in sorted(dense, key=walk.place):
        param = dense[name]
        if param not in shapes or types.get(param) not in FLOATS:
            closed.append([name])
            continue
        kind = types[param]
        length = prod(shapes[param]) * FLOATS[kind]
        bucket, filled = filling.get(kind, ([], 0))
        if bucket and filled + length > bucket_bytes:
            closed.append(bucket)
            bucket, filled = [], 0
        bucket.append(name)
        filling[kind] = bucket, filled + length
    return [*closed, *(bucket for bucket, _ in filling.values())]


def _gathering(world: World, slices: tuple[str, str], whole: GradientSlice) -> list[Any]:
    """The operators that put the nodes' slices one behind the other."""
    indices, values = slices
    count, counts = f"{values}_count", f"{values}_counts"
    even = [f"{values}_even_indices", f"{values}_even"]
    packed = [f"{name}_of_all" for name in even]
    return [
        CreateOperator("Shape", [indices], [count], axes=[0]),
        _call("Allgather", world, [count], [counts]),
        _python(_pad, [counts, indices, values], even),
        _call("Allgather", world, [even[0]], [packed[0]]),
        _call("Allgather", world, [even[1]], [packed[1]]),
        _python(_joined, [counts, values, *packed], list(whole)),
    ]


def _python(function: Any, ins: Sequence[str], outs: Sequence[str]) -> Any:
    net = Net(function.__name__)
    net.Python(function)(list(ins), list(outs))
    return net.message.op[0]


def _pad(inputs: Any, outputs: Any) -> None:
    """Make a node's slices as many as those of the node that has the most."""
    counts, *parts = (tensor.data for tensor in inputs)
    longest = int(counts.max())
    for part, output in zip(parts, outputs, strict=True):
        padded = np.zeros((longest, *part.shape[1:]), part.dtype)
        padded[: len(part)] = part
        output.feed(padded)


def _joined(inputs: Any, outputs: Any) -> None:
    """What all nodes have, without padding; values are divided by the number of nodes."""
    counts, values, *packed = (tensor.data for tensor in inputs)
    longest = int(counts.max())
    filled = np.arange(longest) < counts[:, None]
    indices = packed[0].reshape(len(counts), longest)
    rows = packed[1].reshape(len(counts), longest, *values.shape[1:])
    outputs[0].feed(indices[filled])
    outputs[1].feed(rows[filled] / values.dtype.type(len(counts)))


def _tell(model: ModelHelper, reduced: Mapping[Any, Any]) -> None:
    """Have a model know its reduced gradients as its gradients."""
    for param, gradient in list(model.param_to_grad.items()):
        if isinstance(gradient, GradientSlice):
            slices = reduced[str(gradient.indices), str(gradient.values)]
            found: Any = GradientSlice(*(BlobReference(each, model.net) for each in slices))
        else:
            found = BlobReference(reduced[str(gradient)], model.net)
        model.param_to_grad[param] = model.grad_map[str(param)] = found
        info = model.get_param_info(param)
        if info is not None:
            info.grad = found
