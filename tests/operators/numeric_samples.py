"""Samples of the operators that compute with numbers; see `samples`."""

import numpy as np
from tests.operators.make import (
    Sample,
    f32,
    fills,
    given,
    ints,
    logical,
    of,
    positive,
    unary,
)


def between(*shape: int) -> np.ndarray:
    """Floats in +-[0.15, 0.6]: where angles have a sine."""
    return f32(*shape) * np.float32(0.3)


def shares(*shape: int) -> np.ndarray:
    """Floats in [0.125, 0.5]."""
    return positive(*shape) * np.float32(0.25)


def pair(**arguments: object) -> list[Sample]:
    """Rows of two tensors."""
    return [
        of(f32(2, 3), f32(2, 3), **arguments),
        of(f32(2, 3, 2), f32(2, 3, 2), **arguments),
        of(f32(3), f32(3), **arguments),
        of(f32(), f32(), **arguments),
        of(f32(0, 3), f32(0, 3), **arguments),
    ]


def pair_gradient() -> list[Sample]:
    return [of(f32(2, 3), f32(2, 3), f32(2)), of(f32(3), f32(3), f32(3))]


def slopes(**arguments: object) -> list[Sample]:
    """A gradient of two tensors of one shape."""
    return [of(f32(2, 3), f32(2, 3), **arguments), of(f32(), f32(), **arguments)]


def reduced() -> list[Sample]:
    return [
        of(f32(2, 3)),
        of(f32(2, 3), axes=[0]),
        of(f32(2, 3, 4), axes=[-1, 0], keepdims=0),
        of(f32(2, 3), axes=(1, 0), keepdims=0),
        of(f32()),
        of(f32(1, 1)),
        of(f32(0, 3), axes=[0]),
    ]


def reduced_gradient() -> list[Sample]:
    x = f32(2, 3)
    return [
        of(f32(1, 3), x, x.max(axis=0, keepdims=True), axes=[0]),
        of(f32(2), x, x.max(axis=1), axes=[1]),
        of(f32(1, 1), x, x[:1, :1]),
        of(f32(), f32(), f32()),
    ]


def ends(front: bool) -> list[Sample]:
    lengths = np.array([1, 2, 1] if front else [3, 2], np.int32)
    return [
        of(f32(2, 3)),
        of(f32(2, 3, 4), num_reduce_dim=2),
        of(f32(2, 3), num_reduce_dim=0),
        of(f32(2, 3), lengths),
    ]


def ends_gradient(front: bool) -> list[Sample]:
    x = f32(2, 3)
    lengths = np.array([1, 2, 1] if front else [3, 2], np.int32)
    shape = (3,) if front else (2,)
    return [of(f32(*shape), x, f32(*shape)), of(f32(*shape), x, f32(*shape), lengths)]


def names(text: str) -> list[str]:
    return text.split()


BOOLS = np.array([True, False])
VARIED = np.array([[1.0, np.nan], [np.nan, 2.0]], np.float32)
HALF = np.float32([2.0])

LSTM = [f32(1, 3, 2), f32(1, 3, 2), f32(1, 3, 8), np.array([2, 1, 3]), np.array([1])]
"""Inputs of LSTMUnit; the second sequence is at its end."""

NUMERIC: dict[str, list[Sample]] = {
    **{name: unary(between) for name in names("Acos Asin Atan Erf Sin Cos Tan")},
    **{
        f"{name}Gradient": [of(between(2, 3), f32(2, 3)), of(between(), f32())]
        for name in names("Acos Asin Atan Erf Sin Cos Tan")
    },
    **{
        name: unary()
        for name in names(
            "Cbrt Ceil Cosh Cube Elu Floor Gelu HardSigmoid LpNorm Mish NanCheck Reciprocal "
            "ReluN ReplaceNaN Selu Sinh Softplus Softsign StumpFunc Swish ThresholdedRelu"
        )
    },
    **{
        f"{name}Gradient": slopes()
        for name in names(
            "Cbrt Cosh Cube Elu HardSigmoid Reciprocal ReluN Rsqrt Selu Sinh Softplus "
            "Softsign ThresholdedRelu"
        )
    },
    **{name: pair() for name in names("CosineSimilarity DotProduct L1Distance")},
    **{
        f"{name}Gradient": pair_gradient()
        for name in names(
            "CosineSimilarity DotProduct DotProductWithPadding L1Distance SquaredL2Distance"
        )
    },
    **{
        name: reduced()
        for name in names("ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum")
    },
    **{
        f"{name}Gradient": reduced_gradient()
        for name in names("ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum")
    },
    "ArgMax": [of(f32(2, 3)), of(f32(2, 3), axis=0, keepdims=0), of(ints(3, 1, 2))],
    "ArgMin": [of(f32(2, 3)), of(f32(2, 3), axis=0, keepdims=0), of(ints(3, 1, 2))],
    "BatchMatMul": [
        of(f32(2, 3, 4), f32(2, 4, 5)),
        of(f32(2, 4, 3), f32(2, 5, 4), trans_a=1, trans_b=1),
        of(f32(2, 1, 3, 4), f32(5, 4, 2), broadcast=1),
        of(f32(3), f32(3)),
        of(f32(2, 3, 4), f32(4)),
    ],
    "BitwiseAnd": [*logical(), of(ints(1, 2, 3), ints(3, 1, 2)), of(ints(1, 2), np.array(3))],
    "BitwiseOr": [*logical(), of(ints(1, 2, 3), ints(3, 1, 2))],
    "BitwiseXor": [*logical(), of(ints(1, 2, 3), ints(3, 1, 2))],
    "ColwiseMax": [of(f32(2, 3, 4)), of(f32(0, 3, 4))],
    "ColwiseMaxGradient": [of(f32(2, 3, 4), f32(2, 4), f32(2, 4))],
    "Conditional": [of(BOOLS, f32(2, 3), f32(2, 3)), of(BOOLS, ints(1, 2), ints(3, 4))],
    "DiagonalFill": [of(shape=(3, 3), value=2), of(f32(3, 2), value=1.5), of(shape=(2, 2, 2))],
    "DotProductWithPadding": [
        *pair(),
        of(f32(2, 4), f32(2, 2), pad_value=2.0),
        of(f32(2, 2), f32(2, 4), replicate=True),
    ],
    "ElementwiseLinear": [
        of(f32(2, 3), f32(3), f32(3)),
        of(f32(2, 3, 4), f32(12), f32(12)),
        of(f32(2, 3, 4), f32(4), f32(4), axis=2),
    ],
    "ElementwiseLinearGradient": [of(f32(2, 3), f32(2, 3), f32(3))],
    "EnforceFinite": [of(f32(2, 3)), of(f32())],
    "Float16ConstantFill": [of(shape=(2, 3), value=1.5), of()],
    "Float16UniformFill": [of(shape=(2, 3), min=1.0, max=2.0), of()],
    "GeluGradient": [*slopes(), *slopes(fast_gelu=1)],
    "GivenTensorByteStringToUInt8Fill": [
        of(values=["ab"], shape=(2, 1)),
        of(f32(2), values=[b"ab"]),
    ],
    "GivenTensorInt16Fill": given([1, 2]),
    "Glu": [of(f32(2, 4)), of(f32(4, 3), dim=0)],
    "IsMemberOf": [
        of(ints(1, 2, 3), value=[1, 3]),
        of(np.array(["a", b"b"], object), value=["b"]),
        of(BOOLS, value=[True]),
    ],
    "IsNaN": [of(VARIED), of(f32())],
    "Logit": [*unary(shares), of(f32(2, 3), eps=0.2)],
    "LogitGradient": [of(shares(2, 3), f32(2, 3)), of(f32(2, 3), f32(2, 3), eps=0.2)],
    "LpNorm": [*unary(), *unary(p=1, average=True)],
    "LpNormGradient": [of(f32(2, 3), f32(1)), of(f32(2, 3), f32(1), p=1, average=True)],
    "LSTMUnit": [of(*LSTM, n_outputs=2), of(*LSTM[:3], LSTM[4], n_outputs=2, sequence_lengths=0)],
    "LSTMUnitGradient": [of(*LSTM, *[f32(1, 3, 2) for _ in range(4)], n_outputs=3)],
    "LRN": [
        of(f32(2, 3, 2, 2), size=3, alpha=0.3, beta=0.5, bias=2.0, n_outputs=2),
        of(f32(2, 2, 2, 3), size=2, alpha=0.3, beta=0.5, order="NHWC", n_outputs=1),
    ],
    "LRNGradient": [
        of(*(f32(2, 3, 2, 2) for _ in range(3)), size=3, alpha=0.3, beta=0.5, bias=2.0),
    ],
    "MakeTwoClass": [of(f32(3)), of(f32(2, 3)), of(f32())],
    "MakeTwoClassGradient": [of(f32(3, 2)), of(f32(2))],
    "Max": [of(f32(2, 3)), *(of(*(f32(2, 3) for _ in range(n))) for n in (2, 4)), of(f32(), f32())],
    "MaxGradient": [of(f32(2, 3), f32(2, 3), f32(2, 3)), of(*(f32(3) for _ in range(5)))],
    "Mean": [
        of(f32(2, 3)),
        *(of(*(f32(2, 3) for _ in range(n))) for n in (2, 4)),
        of(f32(), f32()),
    ],
    "MeanGradient": [of(f32(2, 3)), of(f32(2, 3), n_outputs=3)],
    "Min": [of(f32(2, 3)), *(of(*(f32(2, 3) for _ in range(n))) for n in (2, 4)), of(f32(), f32())],
    "MinGradient": [of(f32(2, 3), f32(2, 3), f32(2, 3)), of(*(f32(3) for _ in range(5)))],
    "MishGradient": [of(f32(2, 3), f32(2, 3), f32(2, 3))],
    "Mod": [of(ints(7, -7), divisor=3), of(ints(7, -7), divisor=-3, sign_follow_divisor=True)],
    "Moments": [of(f32(2, 3)), of(f32(2, 3), axes=[1], keepdims=0), of(f32())],
    "MomentsGradient": [
        of(f32(1, 1), f32(1, 1), f32(2, 3), f32(1, 1)),
        of(f32(2), f32(2), f32(2, 3), f32(2), axes=[1]),
    ],
    "Normalize": [of(f32(2, 3)), of(f32(2, 3), axis=0), of(f32(3))],
    "NormalizeGradient": [of(f32(2, 3), f32(2, 3)), of(f32(2, 3), f32(2, 3), axis=0)],
    "NormalizeL1": [of(f32(2, 3)), of(f32(2, 3), axis=0), of(f32(2, 3) * 0)],
    "PRelu": [
        of(f32(2, 3), f32(1)),
        of(f32(2, 3), f32(3)),
        of(f32(2, 3, 4), f32(3)),
        of(f32(2, 3, 4), f32(4), order="NHWC"),
    ],
    "PReluGradient": [
        of(f32(2, 3), f32(2, 3), f32(2, 3), f32(1)),
        of(f32(2, 3, 4), f32(2, 3, 4), f32(2, 3, 4), f32(4), order="NHWC"),
    ],
    "Range": [
        of(np.array(3)),
        of(HALF, np.float32([5.0])),
        of(np.int32([9]), np.int32([2]), np.int32([-3])),
    ],
    "ReduceBackMax": ends(False),
    "ReduceBackMaxGradient": ends_gradient(False),
    "ReduceFrontMax": ends(True),
    "ReduceFrontMaxGradient": ends_gradient(True),
    "ReduceFrontWeightedSum": [of(f32(2, 3), f32(2)), of(f32(2, 3, 4), f32(2))],
    "ReduceFrontWeightedSumGradient": [
        of(f32(3), f32(2, 3), f32(2)),
        of(f32(3), f32(2, 3), f32(2), grad_on_weights=True, n_outputs=2),
    ],
    "ReduceTailSum": [of(f32(2, 3, 4)), of(f32(2))],
    "RowMul": [of(f32(2, 3), f32(2)), of(f32(3), f32(3)), of(f32(2, 3, 2), f32(2, 1))],
    "RowwiseMax": [of(f32(2, 3, 4)), of(f32(0, 3, 4))],
    "RowwiseMaxGradient": [of(f32(2, 3, 4), f32(2, 3), f32(2, 3))],
    "Rsqrt": unary(positive),
    "SquareRootDivide": [of(f32(2, 3), positive(2)), of(f32(2, 3), np.int32([4, 0]))],
    "SquaredL2Distance": pair(),
    "StumpFuncIndex": [of(f32(2, 3)), of(f32())],
    "SumElementsInt": [of(ints(1, 2)), of(np.array(3))],
    "SumInt": [of(ints(1, 2), ints(3, 4)), of(f32(2, 3))],
    "SumReduceLike": [
        of(f32(2, 3), f32(3)),
        of(f32(2, 3, 4), f32(3), axis=1),
        of(f32(2, 3, 4, 5), f32(3), axis_str="C"),
        of(f32(2, 3), f32()),
        of(f32(2, 3), f32(2, 3)),
    ],
    "SwishGradient": [of(f32(2, 3), f32(2, 3), f32(2, 3)), of(f32(), f32(), f32())],
    "UniqueUniformFill": fills(min=1, max=9),
    "WeightedSumGradient": [
        of(f32(2, 3), f32(2, 3), f32(1), f32(2, 3), f32(), n_outputs=2),
        of(f32(2, 3), f32(2, 3), f32(1), f32(2, 3), f32(), grad_on_w=True, n_outputs=4),
    ],
    "Where": [
        of(BOOLS, f32(2), f32(2)),
        of(BOOLS, f32(2, 3), f32(2, 3), broadcast_on_rows=1),
        of(np.array(True), f32(), f32()),
    ],
}
