"""Records activations and their gradients, with a Python that has Caffe2.

python -m tests.operators.record.activation
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, slopes

RNG = np.random.RandomState(43)


def floats(*shape):
    return (2 * RNG.normal(size=shape)).astype(np.float32)


def both(case, *wrt):
    yield case
    yield slopes(case, *wrt)


VARIANTS = [
    ("Relu", {}),
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("ReluN", {}),
    ("ReluN", {"n": 1.5}),
    ("ThresholdedRelu", {}),
    ("ThresholdedRelu", {"alpha": 0.25}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("Elu", {}),
    ("Elu", {"alpha": 0.5}),
    ("Selu", {}),
    ("Selu", {"alpha": 1.5, "scale": 1.25}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Swish", {}),
    ("Mish", {}),
    ("Gelu", {}),
    ("Gelu", {"fast_gelu": True}),
]


def cases():
    edges = np.float32([-30, -3, -1, -0.5, 0.0, 0.5, 1, 1.5, 3, 30])
    for operator, arguments in VARIANTS:
        id = " ".join(f"{name}={value}" for name, value in arguments.items())
        for kind, x in (("matrix", floats(3, 4)), ("four", floats(2, 3, 1, 2)), ("edges", edges)):
            yield from both(Case(f"{operator} {id} {kind}", operator, [x], arguments))
        yield Case(f"{operator} {id} none", operator, [floats(0, 3)], arguments)
    for id, x, arguments in [
        ("rows", floats(3, 4), {}),
        ("far apart", np.float32([[-80, 0, 80], [1e4, 1e4, -1e4]]), {}),
        ("at 0", floats(3, 4), {"axis": 0}),
        ("at 2", floats(2, 3, 4), {"axis": 2}),
        ("at -1", floats(2, 3, 4), {"axis": -1}),
        ("cut at 1", floats(2, 3, 4), {}),
        ("one", floats(4, 1), {}),
        ("none", floats(0, 4), {}),
    ]:
        yield from both(Case("softmax " + id, "Softmax", [x], arguments))
    slope = np.float32([0.25, -0.5, 2])
    for id, x, w, arguments in [
        ("matrix", floats(4, 3), slope, {}),
        ("images", floats(2, 3, 2, 2), slope, {}),
        ("NHWC", floats(2, 2, 2, 3), slope, {"order": "NHWC"}),
        ("one slope", floats(2, 3, 4), slope[:1], {}),
    ]:
        yield from both(Case("prelu " + id, "PRelu", [x, w], arguments), 0, 1)
    yield Case("halves", "Glu", [floats(3, 4)], {"dim": 1})
    yield Case("inner halves", "Glu", [floats(2, 4, 3)], {"dim": 1})
    step = {"threshold": 0.5, "low_value": -1.0, "high_value": 2.0}
    yield Case("step", "StumpFunc", [floats(3, 4)], step)
    yield Case("sides", "StumpFuncIndex", [floats(9)], {"threshold": 0.5}, 2)


if __name__ == "__main__":
    record(RECORDED / "activation.npz", cases())
