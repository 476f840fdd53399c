"""Records matrix products and fully connected layers, and their gradients.

With a Python that has Caffe2: python -m tests.operators.record.linear
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, slopes

RNG = np.random.RandomState(41)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def both(case, *wrt):
    yield case
    yield slopes(case, *wrt)


def products():
    for trans_a in (0, 1):
        for trans_b in (0, 1):
            flags = {"trans_a": trans_a, "trans_b": trans_b}
            a = floats(*((4, 3) if trans_a else (3, 4)))
            b = floats(*((2, 4) if trans_b else (4, 2)))
            case = Case(f"matrices {trans_a}{trans_b}", "MatMul", [a, b], flags)
            yield from both(case, 0, 1)
            inputs = [np.stack([a, -2 * a, a / 2]), np.stack([b, b + 1, b - 1])]
            case = Case(f"batch {trans_a}{trans_b}", "BatchMatMul", inputs, flags)
            yield from both(case, 0, 1)
            inputs = [floats(2, 1, *a.shape), floats(3, *b.shape)]
            case = Case(
                f"broadcast {trans_a}{trans_b}", "BatchMatMul", inputs, {**flags, "broadcast": 1}
            )
            yield case
    case = Case("column times row", "MatMul", [floats(5, 1), floats(1, 3)])
    yield from both(case, 0, 1)
    # Of tensors that are cut, Caffe2 fails to make the gradient.
    yield Case("cut at 2", "MatMul", [floats(2, 3, 4), floats(4, 2, 3)], {"axis_a": 2})
    flags = {"axis_b": 2, "trans_b": 1}
    yield Case("cut and transposed", "MatMul", [floats(5, 2), floats(2, 3, 2)], flags)
    yield Case("given a shape", "MatMul", [floats(4, 3), floats(3, 6), floats(2, 2, 3, 2)])
    yield Case("no rows", "MatMul", [floats(0, 3), floats(3, 2)])
    inputs = [floats(2, 2, 3, 4), floats(2, 2, 4, 2)]
    yield from both(Case("two dimensions of batch", "BatchMatMul", inputs), 0, 1)
    yield Case("vectors", "BatchMatMul", [floats(4), floats(4)])
    for id, shapes in [
        ("vector times matrices", [(3,), (2, 3, 4)]),
        ("matrices times vector", [(2, 3, 4), (4,)]),
        ("matrix times matrices", [(3, 4), (2, 4, 5)]),
    ]:
        inputs = [floats(*shape) for shape in shapes]
        yield Case(id, "BatchMatMul", inputs, {"broadcast": 1})


def layers():
    for operator, weights in (("FC", (4, 6)), ("FCTransposed", (6, 4))):
        w, b = floats(*weights), floats(4)
        for id, x, arguments in [
            ("one row", floats(1, 6), {}),
            ("rows", floats(5, 6), {}),
            ("no rows", floats(0, 6), {}),
            ("cut at 1", floats(5, 2, 3), {}),
            ("cut at 2", floats(2, 3, 6), {"axis": 2}),
            ("cut from the end", floats(2, 3, 6), {"axis": -1}),
            ("one number", floats(2, 1), {}),
        ]:
            factor = floats(*((3, 1) if operator == "FC" else (1, 3))) if x.shape[-1] == 1 else w
            inputs = [x, factor, b[:3].copy() if x.shape[-1] == 1 else b]
            yield from both(Case(f"{operator} {id}", operator, inputs, arguments), 0, 1, 2)
    inputs = [floats(3, 6), floats(2, 2, 6), floats(4)]
    yield from both(Case("W cut at 2", "FC", inputs, {"axis_w": 2}), 0, 1, 2)
    inputs = [floats(5, 3), floats(3), floats(3)]
    yield from both(Case("columns", "ElementwiseLinear", inputs), 0, 1, 2)
    inputs = [floats(2, 5, 3), floats(3), floats(3)]
    yield from both(Case("inner columns", "ElementwiseLinear", inputs, {"axis": 2}), 0, 1, 2)
    yield from both(Case("rows by numbers", "RowMul", [floats(5, 3), floats(5)]), 0, 1)
    yield from both(Case("slabs by numbers", "RowMul", [floats(5, 3, 2), floats(5)]), 0, 1)


def cases():
    yield from products()
    yield from layers()


if __name__ == "__main__":
    record(RECORDED / "linear.npz", cases())
