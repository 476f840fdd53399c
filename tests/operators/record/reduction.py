"""Records sums, averages and extremes, and their gradients, with a Python that has Caffe2.

python -m tests.operators.record.reduction
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, slopes

RNG = np.random.RandomState(53)

NUMBERS = (np.float32, np.float64, np.int32, np.int64)
FLOAT = (np.float32,)


def of(dtype, *shape):
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    return RNG.randint(-9, 10, shape).astype(dtype)


def i32(*values):
    return np.array(values, np.int32)


def both(case, *wrt):
    yield case
    yield slopes(case, *wrt)


AXES = [
    ("all", {}),
    ("at 0", {"axes": [0]}),
    ("at 1", {"axes": [1]}),
    ("at the end", {"axes": [-1]}),
    ("at 0 and 2", {"axes": [0, 2]}),
    ("in any order", {"axes": [2, 1]}),
]


def over_axes():
    for operator, types in [
        ("ReduceSum", NUMBERS),
        ("ReduceMean", FLOAT),
        ("ReduceMax", NUMBERS),
        ("ReduceMin", NUMBERS),
        ("ReduceL1", FLOAT),
        ("ReduceL2", FLOAT),
    ]:
        for dtype in types:
            for id, arguments in AXES if dtype is np.float32 else AXES[:3]:
                for keepdims in (1, 0):
                    case = Case(
                        f"{operator} {id} {np.dtype(dtype).name} {keepdims}",
                        operator,
                        [of(dtype, 2, 3, 4)],
                        {**arguments, "keepdims": keepdims},
                    )
                    yield case
                    if dtype is np.float32 and id != "at the end":
                        yield slopes(case)
        case = Case(operator + " of nothing", operator, [of(np.float32, 0, 3)], {"axes": [0]})
        yield case
        yield Case(operator + " of a vector", operator, [of(np.float32, 5)])
    ties = np.float32([[1, 3, 3], [2, 2, 2]])
    for operator in ("ReduceMax", "ReduceMin"):
        yield from both(Case(operator + " of equals", operator, [ties], {"axes": [1]}))
    case = Case("moments", "Moments", [of(np.float32, 3, 4)], {}, 2)
    yield case
    yield slopes(case, count=2)
    for keepdims in (0, 1):
        arguments = {"axes": [0, 2], "keepdims": keepdims}
        case = Case(f"inner moments {keepdims}", "Moments", [of(np.float32, 2, 3, 4)], arguments, 2)
        yield case
        yield slopes(case, count=2)
    for operator in ("ArgMax", "ArgMin"):
        for dtype in NUMBERS:
            for axis, keepdims in ((0, 1), (1, 0), (2, 1)):
                id = f"{operator} {np.dtype(dtype).name} {axis}"
                arguments = {"axis": axis, "keepdims": keepdims}
                yield Case(id, operator, [of(dtype, 2, 3, 4)], arguments)
        yield Case(operator + " of equals", operator, [ties])


def ends():
    lengths = {"Front": i32(1, 2, 2, 1), "Back": i32(4, 1, 3)}
    for end in ("Front", "Back"):
        for kind, types in (("Sum", NUMBERS), ("Mean", NUMBERS), ("Max", FLOAT)):
            operator = f"Reduce{end}{kind}"
            for dtype in types:
                for count in (1, 2, 3):
                    case = Case(
                        f"{operator} {count} {np.dtype(dtype).name}",
                        operator,
                        [of(dtype, 2, 3, 4)],
                        {"num_reduce_dim": count},
                    )
                    yield case
                    if dtype is np.float32:
                        yield slopes(case)
            shape = (2, 4) if end == "Front" else (3, 4)
            inputs = [of(np.float32, *shape), lengths[end]]
            yield from both(Case(operator + " lengths", operator, inputs))
    for operator in ("RowwiseMax", "ColwiseMax"):
        yield from both(Case(operator, operator, [of(np.float32, 2, 3, 4)]))
    yield Case("tail", "ReduceTailSum", [of(np.float32, 3, 2, 2)])
    inputs = [of(np.float32, 3, 2, 2), of(np.float32, 3)]
    yield from both(Case("weighted", "ReduceFrontWeightedSum", inputs))


def elements():
    x = of(np.float32, 3, 4)
    for id, value in (("matrix", x), ("one", x[:1, :1]), ("vector", x[0])):
        for average in (False, True):
            arguments = {"average": average}
            yield from both(Case(f"sum {id} {average}", "SumElements", [value], arguments))
            yield Case(f"squares {id} {average}", "SumSqrElements", [value], arguments)
        yield from both(Case("average " + id, "AveragedLoss", [value]))
    yield Case("doubles", "SumSqrElements", [of(np.float64, 3, 4)])
    yield Case("whole", "SumElementsInt", [of(np.int32, 3, 4)])


def distances():
    x, y = of(np.float32, 4, 3), of(np.float32, 4, 3)
    for operator in ("DotProduct", "SquaredL2Distance", "L1Distance", "CosineSimilarity"):
        yield from both(Case(operator + " rows", operator, [x, y]), 0, 1)
        inputs = [of(np.float32, 3, 2, 2), of(np.float32, 3, 2, 2)]
        yield from both(Case(operator + " slabs", operator, inputs), 0, 1)
        inputs = [of(np.float32, 5), of(np.float32, 5)]
        yield from both(Case(operator + " vectors", operator, inputs), 0, 1)
        yield Case(operator + " none", operator, [x[:0], y[:0]])
    yield from both(Case("same", "L1Distance", [x, np.where(x > 0, x, y)]), 0, 1)
    for replicate in (False, True):
        arguments = {"pad_value": 0.5, "replicate": replicate}
        inputs = [of(np.float32, 2, 4), of(np.float32, 2, 2)]
        case = Case(f"padded {replicate}", "DotProductWithPadding", inputs, arguments)
        yield from both(case, 0, 1)
    for axis in (0, 1, -1):
        cube = of(np.float32, 3, 4)
        yield from both(Case(f"normalized {axis}", "Normalize", [cube], {"axis": axis}))
        yield Case(f"shared {axis}", "NormalizeL1", [cube], {"axis": axis})
    yield from both(Case("normalized cube", "Normalize", [of(np.float32, 2, 3, 4)], {"axis": 1}))
    zero = np.float32([[0, 0], [3, 4]])
    yield from both(Case("normalized zero", "Normalize", [zero]))
    for p in (1, 2):
        for average in (False, True):
            arguments = {"p": p, "average": average}
            yield from both(Case(f"norm {p} {average}", "LpNorm", [x], arguments))
    yield Case("roots", "SquareRootDivide", [x, np.float32([1, 4, 0, 2])])


def cases():
    yield from over_axes()
    yield from ends()
    yield from elements()
    yield from distances()


if __name__ == "__main__":
    record(RECORDED / "reduction.npz", cases())
