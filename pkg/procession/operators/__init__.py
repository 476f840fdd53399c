"""The operators: what nets are made of.

An operator is declared in one place, together with its gradient: see `registry`. Importing
this package fills `REGISTRY` with those of all families. In reading order:

    registry    how operators are declared
    datatype    Caffe2's numbers for data types
    arrays      what kernels share
    windows     how a window moves over images; columns: convolutions as products of matrices
    blocks      updates in pieces that stay in the cache; schedules: policies of learning rates
    arithmetic, elementwise, reduction, reduction_ends, linear, distance, activation, loss,
    sigmoid_loss, spatial_loss, ranking, channels, normalization, batch_norm, layer_norm, rms_norm,
    dropout, convolution, unfolding, padding, resize, rearranging, recurrent, fill, given_fill,
    random_fill, logic, learning_rate, optimizer, adagrad, fused_adagrad, adam, storm, ftrl,
    yellow_fin, regularization, flow, control, python
    shape, joining, indexing, rows, scatter, lengths, segments, sparse_segments, weighted_segments,
    range_segments, packing, masking, sorting, histogram,
    text, counter, atomic, mapping, cursor, random_batch, queue, collective,
    rows_of_all
                the families; in each file an operator stands beside its gradient
    handles     what blobs hold besides tensors: counters, mutexes, timers
    plans, member, world
                another such thing: a member's seat in a common world
"""

from procession.operators import (  # noqa: F401
    activation,
    adagrad,
    adam,
    arithmetic,
    atomic,
    batch_norm,
    collective,
    control,
    convolution,
    convolution_transpose,
    counter,
    cursor,
    distance,
    dropout,
    elementwise,
    fill,
    flow,
    ftrl,
    fused_adagrad,
    given_fill,
    histogram,
    indexing,
    joining,
    layer_norm,
    learning_rate,
    lengths,
    linear,
    logic,
    loss,
    mapping,
    masking,
    normalization,
    optimizer,
    packing,
    padding,
    pooling,
    python,
    queue,
    random_batch,
    random_fill,
    range_segments,
    ranking,
    rearranging,
    recurrent,
    reduction,
    reduction_ends,
    regularization,
    resize,
    rms_norm,
    rows_of_all,
    scatter,
    segments,
    shape,
    sigmoid_loss,
    sorting,
    sparse_segments,
    spatial_loss,
    storm,
    text,
    unfolding,
    weighted_segments,
    yellow_fin,
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
