"""Inputs for the operators of common worlds: each on its own, in a world of one.

What several members do together is in test_collective.py.
"""

import numpy as np
from tests.operators.make import Sample, f32, ints, of

from procession.blobs.exchange import block_size
from procession.operators.member import Clock, Venue
from procession.operators.world import World


def alone(lanes: int = 1) -> World:
    """A world of one member."""
    return World(Venue("alone", ("n0",), lanes, bytearray(block_size(1, lanes))), 0, 1.0, Clock())


COLLECTIVE: dict[str, list[Sample]] = {
    "Allgather": [of(alone(), f32(2, 3)), of(alone(), f32()), of(alone(), ints(1, 2), ints(3))],
    "AllgatherRows": [
        of(alone(), f32(2, 3)),
        of(alone(), ints(1, 2), f32(2, 3), n_outputs=2),
        of(alone(), ints(), f32(0, 3), n_outputs=2),
    ],
    "Allreduce": [
        of(alone(), f32(2, 3)),
        of(alone(), f32(2, 3), f32(4), n_outputs=2),
        of(alone(), ints(1, 2), op="max"),
    ],
    "Barrier": [of(alone())],
    "Broadcast": [of(alone(), f32(2, 3)), of(alone(), np.array(["a", "bc"]))],
    "CloneCommonWorld": [of(alone(lanes=9))],
    "CreateCommonWorld": [of(size=1, rank=0)],
    "DestroyCommonWorld": [of(alone())],
    "Reduce": [of(alone(), f32(2, 3)), of(alone(), ints(1, 2), op="prod")],
    "ReduceScatter": [of(alone(), f32(2, 3)), of(alone(), f32(2, 3), op="mean")],
}
"""A message has to be for another member: SendTensor and ReceiveTensor mean nothing alone."""
