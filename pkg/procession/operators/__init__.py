"""The operators: what nets are made of.

An operator is declared in one place, together with its gradient: see `registry`. Importing
this package fills `REGISTRY` with those of all families. In reading order:

    registry    how operators are declared
    datatype    Caffe2's numbers for data types
    arrays      what kernels share
    arithmetic, elementwise, reduction, reduction_ends, linear, distance, activation, loss,
    normalization, convolution, recurrent, fill, given_fill, random_fill, logic, optimizer,
    flow, control, python
    shape, joining, indexing, lengths, segments, packing, masking, sorting,
    text, counter, atomic, mapping, cursor, random_batch, queue
                the families; in each file an operator stands beside its gradient
    handles     what blobs hold besides tensors: counters, mutexes, timers
"""

from procession.operators import (  # noqa: F401
    activation,
    arithmetic,
    atomic,
    control,
    convolution,
    counter,
    cursor,
    distance,
    elementwise,
    fill,
    flow,
    given_fill,
    indexing,
    joining,
    lengths,
    linear,
    logic,
    loss,
    mapping,
    masking,
    normalization,
    optimizer,
    packing,
    python,
    queue,
    random_batch,
    random_fill,
    recurrent,
    reduction,
    reduction_ends,
    segments,
    shape,
    sorting,
    text,
)
from procession.operators.registry import (
    REGISTRY,
    STOPS,
    Definition,
    alias,
    emit,
    operator,
    sparse,
)

__all__ = ["REGISTRY", "STOPS", "Definition", "alias", "emit", "operator", "sparse"]
