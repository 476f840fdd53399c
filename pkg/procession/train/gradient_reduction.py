"""How the gradients of a model become their mean over the nodes.

The mean is a sum of gradients that are smaller from the start: the way back begins with one by the
number of nodes in place of one (`shares`). So no gradient is gone through again to divide it.

A gradient is final behind the last operator that writes it. In the order in which they become so,
gradients fill buckets; a bucket is closed before the one that would make it too large, and reduced
right where its last gradient is final, before the way back goes on. So all nodes reduce the same at
the same places. It is the thread that goes back that reduces: as long as there is no core without a
node that computes, another thread costs more than it saves.

Dense gradients are reduced where they lie, unless they are read later on the way back: the gradient
of a sum is that of its terms. Sparse ones are put one behind the other instead, rank by rank, as
those of the joined batch would be. They need not be of one length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from procession import BlobReference
from procession.core import CreateOperator, DataType, EmptyNameScope, GradientSlice
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
    """An operator, and before which of the present ones it goes."""

    at: int
    operator: Any


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


def shares(model: ModelHelper, world: World, losses: Sequence[Any]) -> Any:
    """What to call `AddGradientOperators` of the model with, so that gradients add up to the mean.

    Args:
        model: The model, without gradients.
        world: The node's seat.
        losses: What is differentiated.
    """
    if world.size == 1:
        return losses
    found = {}
    for loss in map(str, losses):
        with EmptyNameScope():
            found[loss] = model.net.ConstantFill(loss, f"{loss}_share", value=1 / world.size)
    return found


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
            _call("Allreduce", world, bucket, [reduced[name] for name in bucket]),
        )
        for bucket in buckets
    ]
    for slices in sparse:
        reduced[slices] = GradientSlice(f"{slices[1]}_indices_of_all", f"{slices[1]}_of_all")
        operator = _call("AllgatherRows", world, slices, list(reduced[slices]))
        insertions.append(_Insertion(walk.place(*slices), operator))
    # From the end on, so that the numbers hold.
    for insertion in sorted(insertions, key=lambda each: each.at)[::-1]:
        model.net.insert_op_at_idx(insertion.operator, insertion.at)
    _tell(model, reduced)


def _call(type: str, world: World, ins: Sequence[str], outs: Sequence[str]) -> Any:
    return CreateOperator(type, [world.blob, *ins], list(outs))


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
