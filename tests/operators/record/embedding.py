"""Records sums over rows of embedding tables, and their gradients, with a Python that has Caffe2.

python -m tests.operators.record.embedding
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, run

RNG = np.random.RandomState(37)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def i32(*values):
    return np.array(values, np.int32)


TABLE = floats(7, 3)
INDICES = np.array([0, 6, 2, 2, 5, 1], np.int64)
WEIGHTS = floats(6)
IDS = i32(0, 0, 1, 2, 2, 2)
ANY = i32(3, 0, 3, 1, 1, 3)
UNEVEN, EVEN, SINGLE = i32(3, 0, 2, 1), i32(2, 2, 2), i32(1, 1, 1, 1, 1, 1)


def lengths(id, each):
    """The operators whose segments are told by lengths."""
    dy = floats(len(each), 3)
    rows = TABLE[:6]
    for kind in ("Sum", "Mean", "Max"):
        yield Case(f"{kind} {id}", "Lengths" + kind, [rows, each])
    for kind in ("Sum", "Mean"):
        name = "SparseLengths" + kind
        yield Case(f"{name} {id}", name, [TABLE, INDICES, each])
        name = f"SparseLengthsIndicesInGradient{kind}Gradient"
        yield Case(f"{name} {id}", name, [dy, each, INDICES])
    yield Case("weighted " + id, "LengthsWeightedSum", [rows, WEIGHTS, each])
    name = "SparseLengthsWeightedSum"
    yield Case("weighted sparse " + id, name, [TABLE, WEIGHTS, INDICES, each])
    name = "SparseLengthsPositionalWeightedSum"
    yield Case("by position " + id, name, [TABLE, WEIGHTS[:3], INDICES, each])
    name = "SparseLengthsIndicesInGradientWeightedSumGradient"
    yield Case("weighted gradient " + id, name, [WEIGHTS, dy, each, INDICES])
    name = "SparseLengthsIndicesInGradientWeightedSumWithMainInputGradient"
    given = [WEIGHTS, dy, each, TABLE, INDICES]
    yield Case("both gradients " + id, name, given, {}, 2)


def cases():
    for id, each in (("uneven", UNEVEN), ("even", EVEN), ("single", SINGLE)):
        yield from lengths(id, each)
    yield Case("vector", "SparseLengthsSum", [TABLE[:, 0].copy(), INDICES, UNEVEN])
    yield Case("int32", "SparseLengthsSum", [TABLE, INDICES.astype(np.int32), UNEVEN])
    for sort, ids in (("Sorted", IDS), ("Unsorted", ANY)):
        name = sort + "SegmentWeightedSum"
        yield Case(name, name, [TABLE[:6], WEIGHTS, ids])
        yield Case("Sparse" + name, "Sparse" + name, [TABLE, WEIGHTS, INDICES, ids])
        yield Case(name + "Gradient", name + "Gradient", [WEIGHTS, floats(max(ids) + 1, 3), ids])
        for kind in ("Sum", "Mean"):
            name = sort + "Segment" + kind
            yield Case(name, name, [TABLE[:6], ids])
    for kind in ("Sum", "Mean", "Max", "LogSumExp", "LogMeanExp"):
        name = "SortedSegmentRange" + kind
        forward = Case(name, name, [TABLE[:6], IDS])
        yield forward
        given = [TABLE[:6], run(forward)[0], floats(3, 3), IDS]
        yield Case(name + "Gradient", name + "Gradient", given)
    ranges = {"lower_bound": -1.0, "upper_bound": 1.0, "num_buckets": 5}
    yield Case("histogram", "AccumulateHistogram", [TABLE], ranges, 2)
    yield Case("buckets", "Bucketize", [np.round(TABLE)], {"boundaries": [-1.0, 0.0, 1.5]})
    for id, weight in (("one", 1), ("half", 0.5)):
        given = [TABLE, np.array([weight], np.float32), i32(4, 0, 2), floats(3, 3), floats(1)]
        yield Case("scattered " + id, "ScatterWeightedSum", given, {}, 1, {0: 0})
    one, several = np.ones(1, np.float32), i32(4, 0, 4, 4, 2, 0)
    given = [TABLE, one, several, floats(6, 3), -one, floats(6, 3), floats(1)]
    yield Case("scattered again", "ScatterWeightedSum", given, {}, 1, {0: 0})
    yield Case("gathered", "Gather", [TABLE, several])
    table = floats(2, 5, 3)
    given = [table, i32(4, 0, 4), floats(2, 3, 3)]
    yield Case("gathered columns", "BatchGather", given[:2])
    yield Case("gathered columns gradient", "BatchGatherGradient", given)


if __name__ == "__main__":
    record(RECORDED / "embedding.npz", cases())
