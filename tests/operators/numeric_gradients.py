"""What the gradients of operators that compute with numbers are checked with.

One line each: the operator, its inputs, its arguments; see `test_gradients`.
"""

from typing import Any

import numpy as np
from tests.operators.make import f32, positive
from tests.operators.numeric_samples import LSTM, between, names, shares

FRONT = np.array([1, 3, 2, 3], np.int32)
BACK = np.array([4, 1, 2], np.int32)

NUMERIC_GRADIENTS: list[tuple[str, list[Any], dict[str, Any]]] = [
    *((name, [between(3, 4)], {}) for name in names("Acos Asin Atan Cos Erf Sin Tan")),
    *((name, [f32(3, 4)], {}) for name in names("Cbrt Cosh Cube NanCheck Reciprocal Sinh")),
    *(
        (name, [f32(3, 4)], {})
        for name in names("Elu Mish ReluN Selu Softplus Softsign Swish HardSigmoid")
    ),
    ("Rsqrt", [positive(3, 4)], {}),
    ("Elu", [f32(3, 4)], {"alpha": 0.3}),
    ("Selu", [f32(3, 4)], {"alpha": 0.3, "scale": 2.0}),
    ("ReluN", [f32(3, 4)], {"n": 1.1}),
    ("HardSigmoid", [f32(3, 4)], {"alpha": 0.6, "beta": 0.4}),
    ("ThresholdedRelu", [f32(3, 4)], {"alpha": 1.1}),
    ("Gelu", [f32(3, 4)], {}),
    ("Gelu", [f32(3, 4)], {"fast_gelu": 1}),
    ("Logit", [shares(3, 4)], {}),
    ("Logit", [f32(3, 4)], {"eps": 0.2}),
    ("PRelu", [f32(3, 4), f32(1)], {}),
    ("PRelu", [f32(3, 4), f32(4)], {}),
    ("PRelu", [f32(2, 3, 2, 2), f32(3)], {}),
    ("PRelu", [f32(2, 3, 2, 4), f32(4)], {"order": "NHWC"}),
    ("Max", [f32(3, 4), f32(3, 4)], {}),
    ("Max", [f32(3, 4), f32(3, 4), f32(3, 4)], {}),
    ("Min", [f32(3, 4)], {}),
    ("Min", [f32(3, 4), f32(3, 4), f32(3, 4)], {}),
    ("Mean", [f32(3, 4)], {}),
    ("Mean", [f32(3, 4), f32(3, 4), f32(3, 4)], {}),
    ("Add", [f32(2, 3, 4, 2), f32(4)], {"broadcast": 1, "axis_str": "H"}),
    ("Mul", [f32(2, 3, 4, 2), f32(4)], {"broadcast": 1, "axis_str": "W", "order": "NHWC"}),
    ("Mul", [f32(2, 3), f32(1, 1, 1)], {"broadcast": 1}),
    ("Pow", [positive(2, 3), f32(2)], {"broadcast": 1, "axis": 0}),
    ("WeightedSum", [f32(3), f32(1), f32(3), f32()], {"grad_on_w": True}),
    ("BatchMatMul", [f32(2, 3, 4), f32(2, 4, 2)], {}),
    ("BatchMatMul", [f32(2, 4, 3), f32(2, 4, 2)], {"trans_a": 1}),
    ("BatchMatMul", [f32(2, 3, 4), f32(2, 2, 4)], {"trans_b": 1}),
    ("BatchMatMul", [f32(4, 3), f32(2, 4)], {"trans_a": 1, "trans_b": 1}),
    ("ElementwiseLinear", [f32(3, 4), f32(4), f32(4)], {}),
    ("ElementwiseLinear", [f32(2, 3, 4), f32(4), f32(4)], {"axis": 2}),
    ("RowMul", [f32(3, 4), f32(3)], {}),
    *(
        (name, [f32(3, 4), f32(3, 4)], {})
        for name in names("CosineSimilarity DotProduct L1Distance SquaredL2Distance")
    ),
    ("CosineSimilarity", [f32(2, 3, 2), f32(2, 3, 2)], {}),
    ("DotProduct", [f32(3), f32(3)], {}),
    ("DotProductWithPadding", [f32(3, 4), f32(3, 4)], {}),
    ("DotProductWithPadding", [f32(3, 4), f32(3, 2)], {"pad_value": 1.5}),
    ("DotProductWithPadding", [f32(3, 2), f32(3, 4)], {"replicate": True}),
    ("Normalize", [f32(3, 4)], {}),
    ("Normalize", [f32(3, 4, 2)], {"axis": 1}),
    ("LpNorm", [f32(3, 4)], {}),
    ("LpNorm", [f32(3, 4)], {"p": 1, "average": True}),
    ("SquareRootDivide", [f32(3, 4), np.array([4, 0, 9])], {}),
    *(
        (name, [f32(2, 3, 4)], arguments)
        for name in names("ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum")
        for arguments in ({}, {"axes": [1]}, {"axes": [-1, 0], "keepdims": 0})
    ),
    *(
        (f"Reduce{end}{kind}", [f32(3, 4), lengths], {})
        for end, lengths in (("Front", FRONT), ("Back", BACK))
        for kind in names("Max Mean Sum")
    ),
    ("ReduceFrontMax", [f32(3, 4)], {}),
    ("ReduceFrontMax", [f32(2, 3, 4)], {"num_reduce_dim": 2}),
    ("ReduceBackMax", [f32(2, 3, 4)], {"num_reduce_dim": 2}),
    ("ReduceFrontWeightedSum", [f32(3, 4), f32(3)], {}),
    ("ReduceFrontWeightedSum", [f32(3, 4, 2), f32(3)], {"grad_on_weights": True}),
    ("RowwiseMax", [f32(2, 3, 4)], {}),
    ("ColwiseMax", [f32(2, 3, 4)], {}),
    (
        "Conv",
        [f32(2, 2, 4, 3), f32(2, 2, 3, 2), f32(2)],
        {"kernels": [3, 2], "pad": 1, "stride": 2},
    ),
    (
        "Conv",
        [f32(1, 3, 4, 2), f32(2, 2, 2, 2)],
        {"kernel": 2, "order": "NHWC", "pads": [1, 0, 0, 2]},
    ),
    ("Conv", [f32(1, 4, 5, 5), f32(2, 2, 2, 2), f32(2)], {"kernel": 2, "dilation": 2, "group": 2}),
    ("LSTMUnit", LSTM, {}),
    ("LSTMUnit", LSTM, {"forget_bias": 0.6, "drop_states": 1}),
    ("LSTMUnit", [*LSTM[:3], LSTM[4]], {"sequence_lengths": False}),
    ("LRN", [f32(2, 4, 2, 1)], {"size": 3, "alpha": 0.6, "beta": 0.7, "bias": 2.0}),
    ("LRN", [f32(1, 2, 1, 5)], {"size": 2, "alpha": 0.6, "beta": 0.7, "order": "NHWC"}),
    ("MakeTwoClass", [f32(2, 3)], {}),
    ("Moments", [f32(3, 4)], {}),
    ("Moments", [f32(2, 3, 4)], {"axes": [0, 2], "keepdims": 0}),
]
