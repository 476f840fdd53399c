"""Records functions of each number: of one tensor, of two that broadcast, and their gradients.

With a Python that has Caffe2: python -m tests.operators.record.elementwise
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, slopes

RNG = np.random.RandomState(47)

NUMBERS = (np.float32, np.float64, np.int32, np.int64)


def floats(*shape):
    """None of them near 0 or a half."""
    return (RNG.uniform(0.6, 1.4, shape) * RNG.choice([-1, 1], shape)).astype(np.float32)


def of(dtype, *shape):
    """Numbers of that type, none of them 0."""
    if dtype is np.bool_:
        return RNG.randint(0, 2, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        return floats(*shape).astype(dtype)
    return (RNG.randint(1, 9, shape) * RNG.choice([-1, 1], shape)).astype(dtype)


def both(case, *wrt):
    yield case
    yield slopes(case, *wrt)


def name(dtype):
    return np.dtype(dtype).name


ANY = "Abs Cbrt Ceil Cos Cosh Cube Erf Exp Floor Negative Reciprocal Sign Sin Sinh Sqr Tan Atan"
POSITIVE = "Log Rsqrt Sqrt"
SMALL = "Acos Asin"
NO_GRADIENT = ("Ceil", "Floor", "Sign", "ReplaceNaN")
TYPES = {
    "Sign": NUMBERS,
    "Negative": NUMBERS,
    "Cube": NUMBERS,
    "Scale": NUMBERS[:2],
    "Sqrt": NUMBERS[:2],
    "ReplaceNaN": NUMBERS[:2],
}


def one():
    for operator, arguments, scale in [
        *((each, {}, None) for each in ANY.split()),
        *((each, {}, "positive") for each in POSITIVE.split()),
        *((each, {}, 0.6) for each in SMALL.split()),
        ("Scale", {"scale": -2.5}, None),
        ("Clip", {"min": -1.0, "max": 0.75}, None),
        ("Clip", {"min": 0.8}, None),
        ("Logit", {}, "positive"),
        ("Logit", {"eps": 0.25}, "positive"),
        ("Pow", {"exponent": 2.5}, "positive"),
        ("Pow", {"exponent": 3.0}, None),
        ("ReplaceNaN", {"value": 2.0}, None),
    ]:
        id = " ".join([operator, *(f"{key}={value}" for key, value in arguments.items())])
        for dtype in TYPES.get(operator, (np.float32,)):
            x = of(dtype, 3, 4)
            if scale == "positive":
                x = np.abs(x) / (2 if operator == "Logit" else 1)
            elif scale:
                x = (x * scale).astype(dtype)
            case = Case(f"{id} {name(dtype)}", operator, [x], arguments)
            yield case
            if dtype is np.float32 and operator not in NO_GRADIENT:
                yield slopes(case)
    edges = np.float32([-2.5, -2, -1, -0.5, 0, 0.5, 1, 2, 2.5, np.inf, -np.inf, np.nan])
    for operator in ["Abs", "Ceil", "Floor", "Negative", "Sign", "Sqr", "IsNaN", "ReplaceNaN"]:
        # The sign of NaN is 0 there, and NaN here.
        x = edges[:-1] if operator == "Sign" else edges
        yield Case(f"{operator} of edges", operator, [x])
    edge = np.float32([-1, -0.75, 0, 0.75, 1])
    yield from both(Case("clipped edges", "Clip", [edge], {"min": -0.75, "max": 0.75}))
    yield from both(Case("abs of edges", "Abs", [edge]))
    yield Case("IsNaN float64", "IsNaN", [edges.astype(np.float64)])
    yield Case("not", "Not", [of(np.bool_, 3, 4)])


BROADCAST = [
    ("alike", (3, 4), (3, 4), {}),
    ("row", (3, 4), (4,), {}),
    ("column", (3, 4), (3, 1), {}),
    ("outer", (3, 1), (1, 4), {}),
    ("wider", (4,), (2, 3, 4), {}),
    ("number", (3, 4), (1,), {}),
    ("inner", (2, 3, 4), (3, 1), {}),
    ("legacy row", (2, 3, 4), (3, 4), {"broadcast": 1}),
    ("legacy at 1", (2, 3, 4), (3,), {"broadcast": 1, "axis": 1}),
    ("legacy letter", (2, 3, 4, 1), (3,), {"broadcast": 1, "axis_str": "C"}),
    ("legacy number", (2, 3), (1,), {"broadcast": 1}),
    ("none", (0, 4), (4,), {}),
]


def two():
    for operator in ("Add", "Sub", "Mul", "Div"):
        for dtype in NUMBERS:
            for id, a, b, arguments in BROADCAST if dtype is np.float32 else BROADCAST[:4]:
                case = Case(
                    f"{operator} {id} {name(dtype)}",
                    operator,
                    [of(dtype, *a), of(dtype, *b)],
                    arguments,
                )
                yield case
                if dtype is np.float32 and id != "none":
                    yield slopes(case, 0, 1)
    for operator in ("EQ", "NE", "LT", "LE", "GT", "GE"):
        for dtype in (*NUMBERS, np.bool_):
            for id, a, b, arguments in BROADCAST[:3] + BROADCAST[8:9]:
                first, second = of(dtype, *a), of(dtype, *b)
                if id == "alike":
                    second[1] = first[1]
                yield Case(f"{operator} {id} {name(dtype)}", operator, [first, second], arguments)
    for operator in ("And", "Or", "Xor"):
        for id, a, b, arguments in BROADCAST[:3]:
            inputs = [of(np.bool_, *a), of(np.bool_, *b)]
            yield Case(f"{operator} {id}", operator, inputs, arguments)
    for operator in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        for dtype in (np.int32, np.int64, np.bool_):
            inputs = [of(dtype, 3, 4), of(dtype, 4)]
            yield Case(f"{operator} {name(dtype)}", operator, inputs)
    for id, b, arguments in [("alike", (3, 4), {}), ("row", (4,), {"broadcast": 1})]:
        inputs = [np.abs(floats(3, 4)), floats(*b)]
        yield Case("Pow " + id, "Pow", inputs, arguments)
    yield slopes(Case("Pow", "Pow", [np.abs(floats(3, 4)), floats(3, 4)]), 0, 1)
    for id, a, b, arguments in [
        ("row", (2, 3, 4), (4,), {}),
        ("at 1", (2, 3, 4), (3,), {"axis": 1}),
        ("matrix", (2, 3, 4), (3, 4), {}),
        ("all", (2, 3), (1,), {}),
    ]:
        for dtype in NUMBERS[:2]:
            inputs = [of(dtype, *a), of(dtype, *b)]
            yield Case(f"summed {id} {name(dtype)}", "SumReduceLike", inputs, arguments)


def several():
    for operator, types in [
        ("Sum", NUMBERS),
        ("Mean", NUMBERS[:2]),
        ("Max", NUMBERS[:1]),
        ("Min", NUMBERS[:1]),
    ]:
        for dtype in types:
            for count in (1, 2, 4):
                inputs = [of(dtype, 2, 3) for _ in range(count)]
                case = Case(f"{operator} of {count} {name(dtype)}", operator, inputs)
                yield case
                if dtype is np.float32:
                    yield slopes(case, *range(count))
    same = floats(2, 3)
    for operator in ("Max", "Min"):
        yield from both(Case(operator + " of equals", operator, [same, same.copy()]), 0, 1)
    yield Case("SumInt", "SumInt", [of(np.int32, 4), of(np.int32, 4)])
    for dtype in (np.int32, np.int64):
        for flag in (False, True):
            arguments = {"divisor": 3, "sign_follow_divisor": flag}
            yield Case(f"Mod {flag} {name(dtype)}", "Mod", [of(dtype, 8)], arguments)
    weighted = [floats(2, 3), floats(1), floats(2, 3), floats(1)]
    case = Case("weighted", "WeightedSum", weighted)
    yield from both(case, 0, 2)
    flag = {"grad_on_w": True}
    yield slopes(Case("weights too", "WeightedSum", weighted, flag), 0, 1, 2, 3)


def choices():
    chosen = of(np.bool_, 3, 4)
    for dtype in (*NUMBERS, np.bool_):
        inputs = [chosen, of(dtype, 3, 4), of(dtype, 3, 4)]
        yield Case("where " + name(dtype), "Where", inputs)
        inputs = [chosen[0, :3], *inputs[1:]]
        yield Case("rows where " + name(dtype), "Where", inputs, {"broadcast_on_rows": 1})
        yield Case("rows " + name(dtype), "Conditional", inputs)
    for dtype in (np.int32, np.int64):
        values = {"value": [1, -3, 5]}
        yield Case("member " + name(dtype), "IsMemberOf", [of(dtype, 3, 4)], values)
    for to in (1, 2, 5, 6, 7, 9, 10, 13):
        for dtype in (*NUMBERS, np.bool_, np.uint8):
            if to in (6, 9) and np.dtype(dtype).kind == "f":
                continue  # of a negative number, such as -1.5, that is not defined
            x = of(dtype, 5) if dtype is not np.uint8 else np.arange(5).astype(np.uint8)
            yield Case(f"cast {name(dtype)} to {to}", "Cast", [x], {"to": to})


def cases():
    yield from one()
    yield from two()
    yield from several()
    yield from choices()


if __name__ == "__main__":
    record(RECORDED / "elementwise.npz", cases())
