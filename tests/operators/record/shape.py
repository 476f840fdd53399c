"""Records tensors in other shapes, joined, cut and repeated, and the gradients of that.

With a Python that has Caffe2: python -m tests.operators.record.shape
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, slopes

RNG = np.random.RandomState(59)

NUMBERS = (np.float32, np.float64, np.int32, np.int64)
ALL = (*NUMBERS, np.float16, np.uint8, np.int8, np.int16, np.uint16, np.bool_)


def of(dtype, *shape):
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    return RNG.randint(0, 9, shape).astype(dtype)


def floats(*shape):
    return of(np.float32, *shape)


def i64(*values):
    return np.array(values, np.int64)


def i32(*values):
    return np.array(values, np.int32)


def texts(*values):
    return np.array(values, object)


def typed(id, operator, shape, arguments, types, n_outputs=1, gradient=True):
    """A case for each type, and the gradient of floats."""
    for dtype in types:
        inputs = [of(dtype, *shape)]
        case = Case(f"{id} {np.dtype(dtype).name}", operator, inputs, arguments, n_outputs)
        yield case
        if dtype is np.float32 and gradient:
            yield slopes(case, count=1 if operator == "Reshape" else n_outputs)


def shapes():
    for id, shape, arguments, types in [
        ("reversed", (2, 3), {}, NUMBERS),
        ("reversed cube", (2, 3, 4), {}, NUMBERS[:1]),
        ("turned", (2, 3, 4), {"axes": [2, 0, 1]}, NUMBERS),
        ("swapped", (2, 3, 4, 2), {"axes": [0, 2, 1, 3]}, NUMBERS[:1]),
        ("as it is", (2, 3), {"axes": [0, 1]}, NUMBERS[:1]),
    ]:
        yield from typed("transpose " + id, "Transpose", shape, arguments, types)
    yield from typed("channels last", "NCHW2NHWC", (2, 3, 2, 4), {}, NUMBERS[:1])
    yield from typed("channels last 3d", "NCHW2NHWC", (2, 3, 2, 4, 2), {}, NUMBERS[:1])
    yield from typed("channels second", "NHWC2NCHW", (2, 3, 2, 4), {}, NUMBERS[:1])
    for id, wanted in [("whole", [3, 4]), ("open", [-1, 2]), ("kept", [0, -1]), ("flat", [-1])]:
        yield from typed("reshape " + id, "Reshape", (2, 6), {"shape": wanted}, NUMBERS[:1], 2)
    yield from typed("reshape", "Reshape", (2, 6), {"shape": [4, 3]}, ALL, 2, False)
    for dtype in (np.int32, np.int64):
        inputs = [floats(2, 6), np.array([3, -1], dtype)]
        yield Case("reshape by " + np.dtype(dtype).name, "Reshape", inputs, {}, 2)
    yield Case("reshape none", "Reshape", [floats(0, 6)], {"shape": [0, 2, 3]}, 2)
    yield Case("reshape text", "Reshape", [texts(b"a", b"bc")], {"shape": [2, 1]}, 2)
    yield from typed("flatten", "Flatten", (2, 3, 4), {}, ALL)
    for axis in (0, 2, 3):
        arguments = {"axis": axis}
        yield from typed(f"flatten {axis}", "Flatten", (2, 3, 4), arguments, NUMBERS[:1])
    yield from typed("vector", "FlattenToVec", (2, 3), {}, NUMBERS)
    yield from typed("squeeze", "Squeeze", (1, 3, 1), {"dims": [0, 2]}, ALL)
    yield from typed("squeeze one", "Squeeze", (2, 1, 3), {"dims": [1]}, NUMBERS[:1])
    yield from typed("expand", "ExpandDims", (2, 3), {"dims": [0, 3]}, ALL)
    yield from typed("expand inside", "ExpandDims", (2, 3), {"dims": [1]}, NUMBERS[:1])
    yield from typed("merge", "MergeDim", (2, 3, 2), {}, NUMBERS[:1], 1, False)
    yield from typed("prepend", "PrependDim", (4, 3), {"dim_size": 2}, NUMBERS[:1])
    inputs = [floats(2, 6), floats(3, 2, 2)]
    yield Case("resize like", "ResizeLike", inputs)
    for id, arguments in (("all", {}), ("some", {"axes": [2, 0]})):
        yield Case("shape " + id, "Shape", [floats(2, 3, 4)], arguments)
    yield Case("size", "Size", [floats(2, 3)])


def joined():
    for dtype in ALL:
        inputs = [of(dtype, 2, 3), of(dtype, 2, 1), of(dtype, 2, 2)]
        yield Case("concat " + np.dtype(dtype).name, "Concat", inputs, {}, 2)
    for id, inputs, arguments in [
        ("at 0", [floats(2, 3), floats(1, 3)], {"axis": 0}),
        ("at 1", [floats(2, 3), floats(2, 1), floats(2, 2)], {"axis": 1}),
        ("at -1", [floats(2, 2, 3), floats(2, 2, 1)], {"axis": -1}),
        ("new axis", [floats(2, 3), floats(2, 3)], {"axis": 1, "add_axis": 1}),
        ("new last axis", [floats(2, 3), floats(2, 3)], {"axis": 2, "add_axis": 1}),
        ("NHWC", [floats(1, 2, 2, 3), floats(1, 2, 2, 1)], {"order": "NHWC"}),
        ("NCHW", [floats(1, 3, 2, 2), floats(1, 1, 2, 2)], {"order": "NCHW"}),
        ("none", [floats(2, 0), floats(2, 3)], {}),
        ("of one", [floats(2, 3)], {}),
    ]:
        case = Case("concat " + id, "Concat", inputs, arguments, 2)
        yield case
        yield slopes(case, *range(len(inputs)))
    yield Case("concat texts", "Concat", [texts(b"a"), texts(b"bc", b"")], {"axis": 0}, 2)
    inputs = [floats(2, 3), floats(1, 3)]
    yield Case("append", "Append", inputs, {}, 1, {0: 0})


def cut():
    yield from typed("halves", "Split", (2, 4), {}, ALL, 2)
    for id, shape, arguments, count in [
        ("at 0", (4, 2), {"axis": 0}, 2),
        ("at -1", (2, 2, 6), {"axis": -1}, 3),
        ("uneven", (2, 6), {"axis": 1, "split": [1, 3, 2]}, 3),
        ("with nothing", (2, 3), {"axis": 1, "split": [0, 3]}, 2),
        ("new axis", (2, 3), {"axis": 1, "add_axis": 1}, 3),
        ("NHWC", (1, 2, 2, 4), {"order": "NHWC"}, 2),
    ]:
        yield from typed("split " + id, "Split", shape, arguments, NUMBERS[:1], count)
    case = Case("split by input", "Split", [floats(2, 6), i32(1, 5)], {"axis": 1}, 2)
    yield case
    yield slopes(case, count=2)
    lengths = i32(1, 2, 2, 1)
    case = Case("split by lengths", "SplitByLengths", [floats(6, 2), lengths], {"axis": 0}, 2)
    yield case
    yield slopes(case, count=2)
    scaled = {"axis": 0, "use_scaling_lengths": True}
    yield Case("split by scaled lengths", "SplitByLengths", [floats(12), lengths], scaled, 2)
    for id, shape, arguments in [
        ("rows", (4, 3), {"starts": [1, 0], "ends": [3, -1]}),
        ("columns", (4, 3), {"starts": [0, 1], "ends": [-1, 3]}),
        ("but the last", (4, 3), {"starts": [0, 0], "ends": [-2, -1]}),
        ("last", (4, 3), {"starts": [-2, 0], "ends": [-1, -1]}),
        ("of a vector", (5,), {"starts": [1], "ends": [-2]}),
        ("of a cube", (2, 4, 3), {"starts": [0, 1, 0], "ends": [-1, 3, -1]}),
    ]:
        yield from typed("slice " + id, "Slice", shape, arguments, NUMBERS[:1])
    yield from typed("slice", "Slice", (4, 3), {"starts": [1, 0], "ends": [-1, -1]}, ALL)
    for make in (i32, i64):
        inputs = [floats(4, 3), make(1, 0), make(3, -1)]
        yield Case("slice by " + make(1).dtype.name, "Slice", inputs)


def repeated():
    for id, tiles, axis in (("rows", 2, 0), ("columns", 3, 1), ("from the end", 2, -1)):
        arguments = {"tiles": tiles, "axis": axis}
        types = (*NUMBERS, np.float16, np.uint8) if axis == 1 else NUMBERS[:1]
        yield from typed("tile " + id, "Tile", (2, 3), arguments, types)
    yield from typed("tile cube", "Tile", (2, 2, 3), {"tiles": 2, "axis": 1}, NUMBERS[:1])
    case = Case("tile by inputs", "Tile", [floats(2, 3), i32(2), i32(1)])
    yield case
    yield slopes(case)
    for dtype in NUMBERS:
        inputs = [of(dtype, 3, 1), i64(2, 1, 4)]
        case = Case("expand by " + np.dtype(dtype).name, "Expand", inputs)
        yield case
        if dtype is np.float32:
            yield slopes(case)
    yield Case("numpy", "NumpyTile", [floats(2, 3), i64(2, 1)])


def cases():
    yield from shapes()
    yield from joined()
    yield from cut()
    yield from repeated()


if __name__ == "__main__":
    record(RECORDED / "shape.npz", cases())
