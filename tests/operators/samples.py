"""Inputs for every registered operator, for the tests that hold them all to one contract.

Every operator needs at least one; where it can write in place, one whose inputs have the
shape and type of the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RNG = np.random.default_rng(20)


@dataclass
class Sample:
    inputs: tuple[Any, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    n_outputs: int | None = None


def of(*inputs: Any, n_outputs: int | None = None, **arguments: Any) -> Sample:
    return Sample(inputs, arguments, n_outputs)


def f32(*shape: int) -> np.ndarray:
    """Floats in +-[0.5, 2]: away from kinks and poles."""
    signs = RNG.choice([-1.0, 1.0], shape)
    return np.asarray(RNG.uniform(0.5, 2.0, shape) * signs, dtype=np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.asarray(RNG.uniform(0.5, 2.0, shape), dtype=np.float32)


def probabilities(rows: int, columns: int) -> np.ndarray:
    raw = RNG.uniform(0.1, 1.0, (rows, columns))
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def unary(make: Any = f32, **arguments: Any) -> list[Sample]:
    return [of(make(2, 3), **arguments), of(make(), **arguments), of(make(0, 3), **arguments)]


def binary(make: Any = f32) -> list[Sample]:
    return [
        of(make(2, 3), make(2, 3)),
        of(make(2, 3), make(3)),
        of(make(3), make(2, 3)),
        of(make(), make()),
        of(make(2, 3), make(2), broadcast=1, axis=0),
        of(make(2, 3), make()),
    ]


def comparison() -> list[Sample]:
    equal = f32(2, 3)
    return [*binary(), of(equal, equal.copy()), of(ints(1, 2, 3), ints(1, 3, 2))]


def logical() -> list[Sample]:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    return [of(a, b), of(a, np.array(True))]


def double(inputs: list[Any], outputs: list[Any]) -> None:
    outputs[0].feed(inputs[0].data * 2)


def halves(inputs: list[Any], outputs: list[Any]) -> None:
    for output in outputs:
        output.feed(inputs[0].data / 2)


def fills(**arguments: Any) -> list[Sample]:
    return [
        of(shape=(2, 3), **arguments),
        of(f32(2, 3), **arguments),
        of(ints(2, 3), input_as_shape=True, **arguments),
    ]


def given(values: list[Any]) -> list[Sample]:
    return [of(values=values, shape=(2, 1)), of(f32(2), values=values)]


LABELS = ints(0, 2)
WEIGHTS = np.array([1.0, 3.0], np.float32)
ROWS = probabilities(2, 3)
TARGETS = probabilities(2, 3)

SAMPLES: dict[str, list[Sample]] = {
    "Abs": unary(),
    "AbsGradient": [of(f32(2, 3), f32(2, 3))],
    "Accuracy": [of(ROWS, LABELS), of(ROWS, LABELS.astype(np.int32), top_k=2)],
    "Add": binary(),
    "AddGradient": [
        of(f32(2, 3), f32(2, 3), f32(2, 3)),
        of(f32(2, 3), f32(2, 3), f32(3)),
        of(f32(2, 3), f32(2, 1), f32()),
    ],
    "And": logical(),
    "AveragedLoss": unary(),
    "AveragedLossGradient": [of(f32(2, 3), f32()), of(f32(2, 3), f32(1)), of(f32(), f32())],
    "Cast": [of(f32(2, 3), to="int32"), of(f32(2, 3), to="float"), of(ints(1, 2), to="double")],
    "CastGradient": [of(f32(2, 3), f32(2, 3))],
    "Clip": unary(min=-1.0, max=1.0),
    "ClipGradient": [of(f32(2, 3), f32(2, 3), min=-1.0, max=1.0)],
    "ConstantFill": [*fills(value=3.0), *fills(value=3), of(value=True)],
    "Copy": [*unary(), of(ints(1, 2)), of({"any": "object"})],
    "CrossEntropy": [of(ROWS, TARGETS)],
    "CrossEntropyGradient": [of(ROWS, TARGETS, f32(2))],
    "Div": [*binary(), of(ints(7, -7), ints(2, 2))],
    "DivGradient": [of(f32(2, 3), f32(2, 3), f32(3), f32(2, 3))],
    "EQ": comparison(),
    "Exp": unary(),
    "FC": [
        of(f32(2, 3), f32(4, 3), f32(4)),
        of(f32(3, 3), f32(3, 3), f32(3)),
        of(f32(2, 3, 4), f32(5, 4), f32(5), axis=2),
        of(f32(3), f32(3, 3), f32(3), axis=0),
        of(f32(0, 3), f32(4, 3), f32(4)),
    ],
    "FCGradient": [
        of(f32(2, 3), f32(4, 3), f32(2, 4)),
        of(f32(2, 3, 4), f32(5, 4), f32(2, 3, 5), axis=2),
    ],
    "FCTransposed": [of(f32(2, 3), f32(3, 4), f32(4)), of(f32(3, 3), f32(3, 3), f32(3))],
    "FCTransposedGradient": [of(f32(2, 3), f32(3, 4), f32(2, 4))],
    "GE": comparison(),
    "GT": comparison(),
    "GaussianFill": fills(mean=1.0, std=2.0),
    "GivenTensorBoolFill": given([True, False]),
    "GivenTensorDoubleFill": given([1.5, 2.5]),
    "GivenTensorFill": given([1.5, 2.5]),
    "GivenTensorInt64Fill": given([1, 2]),
    "GivenTensorIntFill": given([1, 2]),
    "GivenTensorStringFill": given(["a", "b"]),
    "Iter": [of(ints(4)), of(np.array(4))],
    "LE": comparison(),
    "LT": comparison(),
    "LabelCrossEntropy": [of(ROWS, LABELS), of(ROWS, LABELS.astype(np.int32).reshape(2, 1))],
    "LabelCrossEntropyGradient": [of(ROWS, LABELS, f32(2))],
    "LeakyRelu": unary(alpha=0.3),
    "LeakyReluGradient": [of(f32(2, 3), f32(2, 3), alpha=0.3)],
    "LearningRate": [of(ints(3), base_lr=-0.1, policy="exp", gamma=0.5)],
    "Log": unary(positive),
    "MSRAFill": fills(),
    "MatMul": [
        of(f32(2, 3), f32(3, 4)),
        of(f32(3, 3), f32(3, 3), trans_a=1, trans_b=1),
        of(f32(3, 2), f32(4, 3), trans_a=1, trans_b=1),
        of(f32(2, 3, 4), f32(4, 5), axis_a=2),
        of(f32(2, 3), f32(3, 4), f32(2, 2, 2)),
    ],
    "MomentumSGD": [of(f32(3), f32(3), f32(1), momentum=0.9), of(f32(), f32(), f32(), nesterov=1)],
    "MomentumSGDUpdate": [of(f32(3), f32(3), f32(1), f32(3), momentum=0.9, nesterov=1)],
    "Mul": binary(),
    "MulGradient": [of(f32(2, 3), f32(2, 3), f32(3)), of(f32(), f32(), f32())],
    "NE": comparison(),
    "Negative": unary(),
    "Not": [of(np.array([True, False]))],
    "Or": logical(),
    "Pow": [
        *unary(positive, exponent=2.5),
        of(positive(2, 3), f32(2, 3)),
        of(positive(2, 3), f32()),
    ],
    "PowGradient": [of(f32(2, 3), positive(2, 3), f32(3), f32(2, 3))],
    "Print": [of(f32(2, 3)), of("text"), of({"any": "object"})],
    "Python": [of(f32(2, 3), func=double), of(f32(2, 3), func=halves, n_outputs=2)],
    "PythonGradient": [of(f32(2, 3), f32(2, 3), func=halves, n_outputs=2)],
    "RangeFill": fills(),
    "ReduceBackMean": [of(f32(2, 3)), of(f32(2, 3, 4), num_reduce_dim=2), of(ints(3, 4))],
    "ReduceBackMeanGradient": [of(f32(2), f32(2, 3)), of(f32(2), f32(2, 3, 4), num_reduce_dim=2)],
    "ReduceBackSum": [of(f32(2, 3)), of(f32(2, 3), num_reduce_dim=0), of(ints(3, 4))],
    "ReduceBackSumGradient": [of(f32(2), f32(2, 3)), of(f32(2, 3), f32(2, 3), num_reduce_dim=0)],
    "ReduceFrontMean": [of(f32(2, 3)), of(f32(2, 3, 4), num_reduce_dim=2), of(ints(3, 4))],
    "ReduceFrontMeanGradient": [of(f32(3), f32(2, 3)), of(f32(4), f32(2, 3, 4), num_reduce_dim=2)],
    "ReduceFrontSum": [of(f32(2, 3)), of(f32(2, 3), num_reduce_dim=0), of(ints(3, 4))],
    "ReduceFrontSumGradient": [of(f32(3), f32(2, 3)), of(f32(2, 3), f32(2, 3), num_reduce_dim=0)],
    "Relu": [*unary(), of(ints(-1, 2))],
    "ReluGradient": [of(f32(2, 3), f32(2, 3)), of(f32(), f32())],
    "Scale": unary(scale=2.5),
    "Sigmoid": unary(),
    "SigmoidGradient": [of(f32(2, 3), f32(2, 3)), of(f32(), f32())],
    "Sign": unary(),
    "Softmax": [of(f32(2, 3)), of(f32(2, 3, 4), axis=2), of(f32(3), axis=0), of(f32(0, 3))],
    "SoftmaxGradient": [of(ROWS, f32(2, 3)), of(ROWS, f32(2, 3), axis=0)],
    "SoftmaxWithLoss": [
        of(f32(2, 3), LABELS),
        of(f32(2, 3), LABELS.astype(np.int32).reshape(2, 1), WEIGHTS, scale=2.0),
        of(f32(2, 3), TARGETS, label_prob=1),
    ],
    "SoftmaxWithLossGradient": [
        of(f32(2, 3), LABELS, ROWS, f32()),
        of(f32(2, 3), LABELS, WEIGHTS, ROWS, f32(1), scale=2.0),
        of(f32(2, 3), TARGETS, ROWS, f32(), label_prob=1),
    ],
    "Sqr": unary(),
    "Sqrt": unary(positive),
    "StopGradient": [*unary(), of(ints(1, 2)), of("text")],
    "Sub": binary(),
    "SubGradient": [of(f32(2, 3), f32(2, 3), f32(3)), of(f32(), f32(), f32())],
    "Sum": [
        of(f32(2, 3)),
        of(f32(2, 3), f32(2, 3)),
        of(f32(2, 3), f32(2, 3), f32(2, 3), f32(2, 3)),
        of(f32(), f32(), f32()),
        of(ints(1, 2), ints(3, 4)),
    ],
    "SumElements": [*unary(), *unary(average=True)],
    "SumElementsGradient": [of(f32(2, 3), f32(), average=True), of(f32(), f32(1))],
    "SumSqrElements": [*unary(), *unary(average=True)],
    "SumSqrElementsGradient": [of(f32(2, 3), f32(), average=True), of(f32(), f32())],
    "Tanh": unary(),
    "TanhGradient": [of(f32(2, 3), f32(2, 3)), of(f32(), f32())],
    "UniformFill": [*fills(min=1.0, max=2.0), of(f32(2), f32() * 0, f32() * 0 + 1)],
    "UniformIntFill": fills(min=1, max=5),
    "WeightedSum": [
        of(f32(2, 3), f32(1)),
        of(f32(2, 3), f32(1), f32(2, 3), f32(), f32(2, 3), f32(1)),
        of(f32(1), f32(1), f32(1), f32(1)),
        of(f32(), f32(), f32(), f32()),
    ],
    "XavierFill": fills(),
    "Xor": logical(),
}
