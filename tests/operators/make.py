"""What samples of operators are made with."""

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
