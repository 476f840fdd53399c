"""Records rows gathered, scattered, sorted, masked, packed and padded, and the gradients of that.

With a Python that has Caffe2: python -m tests.operators.record.rows
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, slopes

RNG = np.random.RandomState(61)

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


def bools(*values):
    return np.array(values, np.bool_)


def texts(*values):
    return np.array(values, object)


def both(case, *wrt, count=1):
    yield case
    yield slopes(case, *wrt, count=count)


def name(dtype):
    return np.dtype(dtype).name


def gathered():
    for dtype in ALL:
        inputs = [of(dtype, 4, 3), i32(3, 0, 3)]
        yield Case("gather " + name(dtype), "Gather", inputs)
        yield Case("columns " + name(dtype), "BatchGather", [of(dtype, 2, 4), i32(3, 0, 3)])
    for id, shape, indices, arguments in [
        ("again", (4, 3), i64(1, 1, 0), {}),
        ("matrix", (4, 3), i64(1, 3, 0, 1).reshape(2, 2), {}),
        ("from a vector", (5,), i64(4, 0, 4, 2), {}),
        ("none", (4, 3), i64(), {}),
        ("negative", (4, 3), i64(-1, 0, -4), {}),
        ("dense", (4, 3), i32(1, 3, 1), {"dense_gradient": True}),
        ("columns", (2, 4, 3), i32(1, 3, 1), {"axis": 1}),
        ("inner", (2, 4, 3), i32(2, 0), {"axis": 2}),
        ("last", (2, 4, 3), i32(2, 0), {"axis": -1}),
        ("outer", (2, 4, 3), i32(1, 3, 0, 0).reshape(2, 2), {"axis": 1, "match_outer": True}),
    ]:
        case = Case("gather " + id, "Gather", [floats(*shape), indices], arguments)
        yield case
        if id not in ("none", "negative", "last"):
            yield slopes(case)
    for id, indices, arguments in [
        ("vector", i64(1, 3, 1), {}),
        ("matrix", i64(1, 3, 1, 0).reshape(2, 2), {}),
        ("outer", i64(1, 3, 1, 0).reshape(2, 2), {"match_outer": True}),
    ]:
        case = Case("batch " + id, "BatchGather", [floats(2, 4, 2), indices], arguments)
        yield from both(case)
    ranges = i32(0, 1, 2, 2, 4, 1, 0, 0).reshape(2, 2, 2)
    for dtype in NUMBERS:
        yield Case("ranges " + name(dtype), "GatherRanges", [of(dtype, 6), ranges], {}, 2)
        inputs = [of(dtype, 6, 2), i32(2, 0, 3, 1), i64(2, 0, 1, 2)]
        yield Case("segments " + name(dtype), "LengthsGather", inputs)
    for index in (np.int32, np.int64):
        inputs = [np.array([1, 4, 1, 0], index), floats(4, 2)]
        yield from both(Case("dense " + name(index), "SparseToDense", inputs), 1)
        yield Case("dense like " + name(index), "SparseToDense", [*inputs, floats(7, 1)])
    mask = {"mask": [5, 1, 9]}
    values, default, lengths = floats(4, 2), floats(2), i32(3, 0, 1)
    ids = i64(1, 9, 7, 5)
    case = Case("masked", "SparseToDenseMask", [ids, values, default, lengths], mask)
    yield from both(case, 1)
    case = Case("masked one", "SparseToDenseMask", [ids, values[:, 0].copy(), floats()], mask)
    yield from both(case, 1)
    inputs = [ids.astype(np.int32), of(np.int64, 4), of(np.int64), lengths]
    both_outputs = {**mask, "return_presence_mask": True}
    yield Case("masked and present", "SparseToDenseMask", inputs, both_outputs, 2)


def hot():
    yield Case("one hot", "OneHot", [i64(2, 0, 3), i64(4)])
    yield Case("segments hot", "SegmentOneHot", [i32(2, 0, 1), i64(1, 3, 1), i64(4)])
    for dtype in (np.int32, np.int64):
        x = np.array([[1, 5], [2, 6], [1, 7]], dtype)
        inputs = [x, i32(2, 3), np.array([1, 2, 5, 6, 8], dtype)]
        yield Case("batch hot " + name(dtype), "BatchOneHot", inputs)


def scattered():
    for dtype in NUMBERS:
        inputs = [of(dtype, 4, 2), i32(3, 0), of(dtype, 2, 2)]
        yield Case("assigned " + name(dtype), "ScatterAssign", inputs, {}, 1, {0: 0})
    inputs = [floats(4), i64(3, 0, 3), floats(3)]
    yield Case("assigned again", "ScatterAssign", inputs, {}, 1, {0: 0})
    for axis, indices in [
        (0, [[0, 2, 1], [3, 0, 0]]),
        (1, [[2, 1, 0], [0, 1, 2]]),
    ]:
        inputs = [floats(4, 3), i64(*indices).reshape(2, 3), floats(2, 3)]
        yield Case(f"scatter {axis}", "Scatter", inputs, {"axis": axis})


def sorted_():
    x = floats(3, 5)
    for id, value, arguments in [
        ("rows", x, {"k": 2}),
        ("all", x, {"k": 5}),
        ("more", x, {"k": 7}),
        ("columns", x, {"k": 2, "axis": 0}),
        ("inner", floats(2, 4, 3), {"k": 3, "axis": 1}),
        ("vector", x[0], {"k": 3}),
    ]:
        for count in (2, 3):
            yield Case(f"top {id} {count}", "TopK", [value], arguments, count)
        yield slopes(Case("top " + id, "TopK", [value], arguments, 2))
    case = Case("top of segments", "LengthsTopK", [x.reshape(15), i32(4, 0, 1, 10)], {"k": 3}, 2)
    yield from both(case)
    for dtype in (np.int32, np.int64):
        values = np.array([5, 1, 5, 2, 1], dtype)
        yield Case("unique " + name(dtype), "Unique", [values], {}, 2)
        inputs = [np.array([7, 5, 3, 5], dtype), np.array([5, 4, 3], dtype)]
        yield Case("found " + name(dtype), "Find", inputs, {"missing_value": -2})


def masked():
    keep = bools(1, 0, 1, 1)
    for dtype in ALL:
        inputs = [of(dtype, 4, 2), keep]
        yield Case("kept " + name(dtype), "BooleanMask", inputs, {}, 2)
    # Of a tensor of more dimensions, Caffe2's gradient is a vector.
    yield slopes(Case("kept", "BooleanMask", [floats(4), keep], {}, 2))
    yield Case("kept lengths", "BooleanMaskLengths", [i32(2, 0, 1, 1), keep])
    inputs = [bools(1, 0, 0), floats(1), bools(0, 1, 1), floats(2)]
    yield Case("unmasked", "BooleanUnmask", inputs)
    first, inner = {"mode": "sequence", "axis": 1}, {"mode": "sequence", "axis": 2}
    for id, inputs, arguments in [
        ("sequence", [floats(2, 4), i32(1, 3)], {"mode": "sequence"}),
        ("cube", [floats(2, 3, 4), i32(1, 3, 0, 2, 4, 1)], {"mode": "sequence", "axis": 2}),
        ("window", [floats(2, 4), i32(0, 2)], {"mode": "window", "radius": 1}),
        ("upper", [floats(3, 4)], {"mode": "upper"}),
        ("lower", [floats(3, 4)], {"mode": "lower"}),
        ("upperdiag", [floats(4, 4)], {"mode": "upperdiag"}),
        ("lowerdiag", [floats(4, 4)], {"mode": "lowerdiag"}),
        ("batch", [floats(2, 3, 3)], {"mode": "upper", "axis": 2, "batch": 0}),
        ("batches", [floats(2, 2, 3, 3)], {"mode": "lower", "axis": 3, "batch": 1}),
        ("batch of sequences", [floats(2, 2, 3), i32(1, 3)], {**inner, "batch": -3}),
        ("repeated", [floats(2, 3, 2), i32(1, 3)], {**first, "repeat_from_axis": 2}),
        ("repeated last", [floats(2, 3, 2), i32(1, 3)], {**first, "repeat_from_axis": -1}),
    ]:
        arguments = {**arguments, "fill_val": 0.5}
        yield from both(Case("mask " + id, "SequenceMask", inputs, arguments))


def packed():
    lengths = i32(2, 0, 3)
    for dtype in (np.float32, np.int32, np.int64):
        yield Case("pack " + name(dtype), "PackSegments", [lengths, of(dtype, 5, 2)])
        yield Case("unpack " + name(dtype), "UnpackSegments", [lengths, of(dtype, 3, 4, 2)])
    yield slopes(Case("pack", "PackSegments", [lengths, floats(5, 2)]), 1)
    yield slopes(Case("unpack", "UnpackSegments", [lengths, floats(3, 3, 2)]), 1)
    yield Case("pack to", "PackSegments", [lengths, floats(5, 2)], {"max_length": 4})
    yield Case("pack infinite", "PackSegments", [lengths, floats(5)], {"pad_minf": True})
    present = {"return_presence_mask": True}
    yield Case("pack present", "PackSegments", [lengths, floats(5, 2)], present, 2)
    arguments = {"padding_value": 1.5, "target_length": 4}
    yield Case("lengths padded", "LengthsPad", [floats(5, 2), lengths], arguments)
    for dtype in (*NUMBERS, np.bool_):
        inputs = [of(dtype, 5, 2), lengths]
        yield Case("padding " + name(dtype), "AddPadding", inputs, {"padding_width": 2}, 2)
    for id, inputs, arguments in [
        ("whole", [floats(3, 2)], {}),
        ("segments", [floats(5, 2), lengths], {"padding_width": 2, "end_padding_width": 1}),
        ("at the end", [floats(5, 2), lengths], {"padding_width": 0, "end_padding_width": 2}),
    ]:
        case = Case("add padding " + id, "AddPadding", inputs, arguments, 2)
        yield from both(case)
    widths = {"padding_width": 1, "end_padding_width": 2}
    inputs = [floats(5, 2), lengths, floats(2), floats(2)]
    yield from both(Case("given padding", "AddPadding", inputs, widths, 2), 0, 2, 3)
    yield from both(Case("given once", "AddPadding", inputs[:3], widths, 2), 0, 2)
    inputs = [floats(14, 2), i32(5, 3, 6)]
    yield from both(Case("no padding", "RemovePadding", inputs, widths, 2))
    yield Case("gathered padding", "GatherPadding", inputs, widths, 2)
    inputs = [lengths, floats(5, 2), of(np.int64, 5)]
    yield Case("empty samples", "PadEmptySamples", inputs, {}, 3)
    main = i64(3, 7, 4, 0, 5)
    for pack in (0, 1):
        arguments = {"pack_first_input": pack}
        yield Case(f"parts {pack}", "Partition", [main, floats(5, 2)], arguments, 4)
        inputs = [i32(2, 0, 3), main, floats(5)]
        yield Case(f"parts of segments {pack}", "LengthsPartition", inputs, arguments, 6)


def told():
    lengths, ids = i32(2, 0, 3), i32(0, 0, 2, 2, 2)
    yield Case("to ranges", "LengthsToRanges", [lengths])
    yield Case("to offsets", "LengthsToOffsets", [lengths])
    yield Case("to all offsets", "LengthsToOffsets", [lengths], {"include_last_offset": True})
    yield Case("to ids", "LengthsToSegmentIds", [lengths])
    yield Case("to shape", "LengthsToShape", [i32(3, 3)])
    yield Case("to weights", "LengthsToWeights", [lengths], {"power": 0.25})
    yield Case("to numbers", "LengthsRangeFill", [lengths])
    for index in (np.int32, np.int64):
        yield Case("ids to lengths " + name(index), "SegmentIdsToLengths", [ids.astype(index)])
        yield Case("ids to ranges " + name(index), "SegmentIdsToRanges", [ids.astype(index)])
    yield Case("ids to more lengths", "SegmentIdsToLengths", [ids, floats(4, 1)])
    for dtype in ALL:
        yield Case("repeated " + name(dtype), "LengthsTile", [of(dtype, 3, 2), lengths])
    yield slopes(Case("repeated", "LengthsTile", [floats(3, 2), lengths]))


def segments():
    lengths, sorted_ids, ids = i32(2, 0, 3), i32(0, 0, 1, 2, 2), i32(3, 0, 3, 1, 1)
    data, table, weights = floats(5, 2), floats(6, 2), floats(5)
    for index in (np.int32, np.int64):
        chosen = np.array([5, 0, 2, 2, 5], index)
        for kind in ("Sum", "Mean"):
            for told, by in (
                ("Lengths", lengths),
                ("SortedSegment", sorted_ids),
                ("UnsortedSegment", ids),
            ):
                operator = told + kind
                if index is np.int32:
                    yield slopes(Case(operator, operator, [data, by]))
                operator = "Sparse" + operator
                case = Case(f"{operator} {name(index)}", operator, [table, chosen, by])
                yield from both(case)
        for told, by in (
            ("Lengths", lengths),
            ("SortedSegment", sorted_ids),
            ("UnsortedSegment", ids),
        ):
            operator = told + "WeightedSum"
            if index is np.int32:
                yield from both(Case(operator, operator, [data, weights, by]))
            operator = "Sparse" + operator
            case = Case(f"{operator} {name(index)}", operator, [table, weights, chosen, by])
            yield from both(case)
    flag = {"grad_on_weights": True}
    case = Case("weights too", "LengthsWeightedSum", [data, weights, lengths], flag)
    yield slopes(case, 0, 1)
    inputs = [table, weights, chosen, lengths]
    yield slopes(Case("sparse weights too", "SparseLengthsWeightedSum", inputs, flag), 0, 1)
    yield from both(Case("largest", "LengthsMax", [data, lengths]))
    for kind in ("Sum", "Mean", "Max", "LogSumExp", "LogMeanExp"):
        operator = "SortedSegmentRange" + kind
        yield slopes(Case(operator, operator, [data, sorted_ids]))
    none = [floats(0, 2), i32()]
    for operator in ("LengthsSum", "LengthsMean", "SortedSegmentSum", "UnsortedSegmentSum"):
        yield Case(operator + " of nothing", operator, none)
    empty = [floats(0, 2), i32(0, 0)]
    for operator in ("LengthsSum", "LengthsMean"):
        yield Case(operator + " of empty segments", operator, empty)
    halves = [table.astype(np.float16), chosen, lengths]
    for operator in ("SparseLengthsSum", "SparseLengthsMean"):
        yield Case(operator + " of halves", operator, halves)
    inputs = [halves[0], weights, *halves[1:]]
    yield Case("weighted halves", "SparseLengthsWeightedSum", inputs)
    inputs = [halves[0], weights[:3], *halves[1:]]
    yield Case("halves by position", "SparseLengthsPositionalWeightedSum", inputs)


def fused():
    lengths, chosen = i32(2, 0, 3), i64(5, 0, 2, 2, 5)
    for prefix, moment in (("", np.abs(floats(6, 2))), ("RowWise", np.abs(floats(6)))):
        for kind in ("Sum", "Mean"):
            operator = f"{prefix}SparseAdagradFusedWithSparseLengths{kind}Gradient"
            inputs = [floats(6, 2), moment, chosen, floats(3, 2), np.float32([-0.1]), lengths]
            yield Case(operator, operator, inputs, {"epsilon": 1e-3}, 2, {0: 0, 1: 1})


def strings():
    words = texts(b"apple", b"a", b"", b"banana")
    for length in (2, 0):
        arguments = {"length": length}
        yield Case(f"prefix {length}", "StringPrefix", [words], arguments)
        yield Case(f"suffix {length}", "StringSuffix", [words], arguments)
    yield Case("starts", "StringStartsWith", [words], {"prefix": "a"})
    yield Case("ends", "StringEndsWith", [words], {"suffix": "a"})
    yield Case("equals", "StringEquals", [words], {"text": "a"})
    yield Case("joined", "StringJoin", [words], {"delimiter": "-"})
    yield Case("joined rows", "StringJoin", [words.reshape(2, 2)])
    yield Case("joined columns", "StringJoin", [words.reshape(2, 2)], {"axis": 1})
    yield Case("joined numbers", "StringJoin", [np.float32([[1.5, -2], [0.1, 1e6]])])
    yield Case("joined integers", "StringJoin", [i32(1, -2, 3)])


def cases():
    for family in (
        gathered,
        hot,
        scattered,
        sorted_,
        masked,
        packed,
        told,
        segments,
        fused,
        strings,
    ):
        yield from family()


if __name__ == "__main__":
    record(RECORDED / "rows.npz", cases())
