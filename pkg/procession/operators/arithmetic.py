"""Elementwise arithmetic: sums, products, powers, and the types of numbers.

The binary operators broadcast as NumPy does. `broadcast=1` and `axis` are Caffe2's older way
of saying how: B lies along the dimensions of A from `axis` on. Numbers of different types
meet by the rule of `arrays.promote`, under which float32 stays float32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.operators.arrays import Array, align, floats, promote, sum_to
from procession.operators.datatype import numpy_dtype
from procession.operators.registry import STOPS, Rules, alias, emit, operator


@operator("Sign", gradient=STOPS)
def sign(x: Array, *, out: Array | None = None) -> Array:
    """-1, 0 or 1: the sign of each number. Caffe2: Sign."""
    return np.sign(x, out=out)


@operator("Add", gradient=[emit("AddGradient", "GO0 I0 I1", "GI0 GI1")])
def add(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """A + B, elementwise. Caffe2: Add.

    Args:
        broadcast: 1 to let B lie along the dimensions of A from `axis` on.
        axis: Where B starts in A; -1 for the last dimensions. Means nothing without `broadcast`.

    Raises:
        ValueError: The shapes cannot be broadcast together.
    """
    # The types of NumPy's numbers are singletons, as a rule; where not, align() compares.
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.add(a, b, out=out)


@operator("Sub", gradient=[emit("SubGradient", "GO0 I0 I1", "GI0 GI1")])
def sub(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """A - B, elementwise; arguments and errors as for Add. Caffe2: Sub."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.subtract(a, b, out=out)


@operator("Mul", gradient=[emit("MulGradient", "GO0 I0 I1", "GI0 GI1")])
def mul(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """A * B, elementwise; arguments and errors as for Add. Caffe2: Mul."""
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    return np.multiply(a, b, out=out)


@operator("Div", gradient=[emit("DivGradient", "GO0 I0 I1 O0", "GI0 GI1")])
def div(a: Array, b: Array, *, broadcast: int = 0, axis: int = -1, out: Array | None = None) -> Any:
    """A / B, elementwise; integers are divided towards zero: -7 / 2 is -3. Caffe2: Div.

    Arguments as for Add.

    Raises:
        ValueError: The shapes cannot be broadcast together.
        ZeroDivisionError: An integer is divided by zero.
    """
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis)
    if a.dtype.kind not in "iu":
        return np.divide(a, b, out=out)
    if not np.all(b):
        raise ZeroDivisionError(f"Div: a {b.dtype} in B is zero")
    # NumPy rounds towards minus infinity. Without the remainder (which has the sign of A)
    # there is nothing left to round.
    return np.floor_divide(np.subtract(a, np.fmod(a, b)), b, out=out)


@operator("AddGradient", outputs=2)
def add_gradient(
    dc: Array, a: Array, b: Array, *, broadcast: int = 0, axis: int = -1
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A + B. Caffe2: AddGradient."""
    wide_a, wide_b = align(a, b, broadcast, axis)
    return (
        sum_to(dc, wide_a.shape, a, copy=True),
        sum_to(dc, wide_b.shape, b, copy=True),
    )


@operator("SubGradient", outputs=2)
def sub_gradient(
    dc: Array, a: Array, b: Array, *, broadcast: int = 0, axis: int = -1
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A - B. Caffe2: SubGradient."""
    wide_a, wide_b = align(a, b, broadcast, axis)
    return (
        sum_to(dc, wide_a.shape, a, copy=True),
        sum_to(np.negative(dc), wide_b.shape, b),
    )


@operator("MulGradient", outputs=2)
def mul_gradient(
    dc: Array, a: Array, b: Array, *, broadcast: int = 0, axis: int = -1
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A * B. Caffe2: MulGradient."""
    wide_a, wide_b = align(a, b, broadcast, axis)
    return (
        sum_to(np.multiply(dc, wide_b), wide_a.shape, a),
        sum_to(np.multiply(dc, wide_a), wide_b.shape, b),
    )


@operator("DivGradient", outputs=2)
def div_gradient(
    dc: Array, a: Array, b: Array, c: Array, *, broadcast: int = 0, axis: int = -1
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A / B, and C itself. Caffe2: DivGradient."""
    wide_a, wide_b = align(a, b, broadcast, axis)
    da = np.divide(dc, wide_b)
    return (
        sum_to(da, wide_a.shape, a, copy=True),
        sum_to(np.negative(np.multiply(da, c)), wide_b.shape, b),
    )


def _sum_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [alias("GO0", f"GI{index}") for index in range(inputs)]


@operator("Sum", gradient=_sum_rules)
def sum_(first: Array, *others: Array, out: Array | None = None) -> Any:
    """The sum of all inputs, which have one shape: nothing is broadcast. Caffe2: Sum.

    Raises:
        ValueError: An input has another shape than the first.
    """
    for index, other in enumerate(others, 1):
        if other.shape != first.shape:
            raise ValueError(f"input {index} is {other.shape}, input 0 is {first.shape}")
    first, *rest = promote(first, *others)
    if not rest:
        if out is None:
            return first.copy()
        np.copyto(out, first)
        return out
    total = out
    # The first addition would overwrite a later term that lies where the result goes.
    if out is not None and any(np.may_share_memory(out, term) for term in rest[1:]):
        total = None
    total = np.add(first, rest[0], out=total)
    for term in rest[1:]:
        total = np.add(total, term, out=total if isinstance(total, np.ndarray) else None)
    if out is None or total is out:
        return total
    np.copyto(out, total)
    return out


@operator("Negative", gradient=[emit("Negative", "GO0", "GI0")])
def negative(x: Array, *, out: Array | None = None) -> Any:
    """-X, elementwise. Caffe2: Negative."""
    return np.negative(x, out=out)


@operator("Scale", gradient=[emit("Scale", "GO0", "GI0")])
def scale(x: Array, *, scale: float = 1.0, out: Array | None = None) -> Any:
    """`scale` times X, elementwise. Caffe2: Scale.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Scale", x)
    # A Python float would make float64 of a 0-d float32 array, before NumPy 2.
    return np.multiply(x, x.dtype.type(scale), out=out)


@operator(
    "Sqr",
    gradient=[emit("Scale", "GO0", "GI0", scale=2.0), emit("Mul", "GI0 I0", "GI0")],
)
def sqr(x: Array, *, out: Array | None = None) -> Any:
    """X * X, elementwise. Caffe2: Sqr."""
    return np.multiply(x, x, out=out)


@operator(
    "Sqrt",
    gradient=[emit("Scale", "GO0", "GI0", scale=0.5), emit("Div", "GI0 O0", "GI0")],
)
def sqrt(x: Array, *, out: Array | None = None) -> Any:
    """The square root of each number. Caffe2: Sqrt.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Sqrt", x)
    return np.sqrt(x, out=out)


@operator("Exp", gradient=[emit("Mul", "O0 GO0", "GI0")])
def exp(x: Array, *, out: Array | None = None) -> Any:
    """The exponential function of each number. Caffe2: Exp.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Exp", x)
    return np.exp(x, out=out)


@operator("Log", gradient=[emit("Div", "GO0 I0", "GI0")])
def log(x: Array, *, out: Array | None = None) -> Any:
    """The natural logarithm of each number. Caffe2: Log.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Log", x)
    return np.log(x, out=out)


@operator("Abs", gradient=[emit("AbsGradient", "I0 GO0", "GI0")])
def abs_(x: Array, *, out: Array | None = None) -> Any:
    """The absolute value of each number. Caffe2: Abs."""
    return np.absolute(x, out=out)


@operator("AbsGradient")
def abs_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY times the sign of X. Caffe2: AbsGradient."""
    return np.multiply(np.sign(x), dy, out=out)


@operator("Clip", gradient=[emit("ClipGradient", "O0 GO0", "GI0")])
def clip(
    x: Array,
    *,
    min: float | None = None,
    max: float | None = None,
    out: Array | None = None,
) -> Any:
    """X, but nothing below `min` or above `max`; None is no bound. Caffe2: Clip.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: `min` is greater than `max`.
    """
    floats("Clip", x)
    low = x.dtype.type(-np.inf if min is None else min)
    high = x.dtype.type(np.inf if max is None else max)
    if low > high:
        raise ValueError(f"Clip: min={min} is greater than max={max}")
    return np.minimum(np.maximum(x, low, out=out), high, out=out)


@operator("ClipGradient")
def clip_gradient(
    y: Array,
    dy: Array,
    *,
    min: float | None = None,
    max: float | None = None,
    out: Array | None = None,
) -> Any:
    """The gradient of X: dY where Y is strictly between the bounds, else 0.

    Caffe2: ClipGradient.
    """
    low = y.dtype.type(-np.inf if min is None else min)
    high = y.dtype.type(np.inf if max is None else max)
    return np.multiply(dy, np.logical_and(y > low, y < high), out=out)


def _pow_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if inputs == 2:
        return [emit("PowGradient", "GO0 I0 I1 O0", "GI0 GI1")]
    exponent = float(arguments["exponent"])
    return [
        emit("Pow", "I0", "GI0", exponent=exponent - 1),
        emit("Mul", "GI0 GO0", "GI0"),
        emit("Scale", "GI0", "GI0", scale=exponent),
    ]


@operator("Pow", gradient=_pow_rules)
def pow_(
    x: Array,
    power: Array | None = None,
    *,
    exponent: float | None = None,
    broadcast: int = 0,
    axis: int = -1,
    out: Array | None = None,
) -> Any:
    """X to the power of a second input, or of `exponent`. Caffe2: Pow.

    `broadcast` and `axis` as for Add.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: Both or neither of a second input and `exponent`; or shapes that cannot be
            broadcast together.
    """
    floats("Pow", x)
    if (power is None) == (exponent is None):
        raise ValueError("Pow takes a second input or the argument `exponent`, one of them")
    if power is None:
        return np.power(x, x.dtype.type(exponent), out=out)
    x, power = align(x, power, broadcast, axis)
    return np.power(x, power, out=out)


@operator("PowGradient", outputs=2)
def pow_gradient(
    dc: Array, a: Array, b: Array, c: Array, *, broadcast: int = 0, axis: int = -1
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A to the power of B, and C itself."""
    wide_a, wide_b = align(a, b, broadcast, axis)
    da = dc * wide_b * np.power(wide_a, wide_b - wide_b.dtype.type(1))
    db = dc * c * np.log(wide_a)
    return sum_to(da, wide_a.shape, a), sum_to(db, wide_b.shape, b)


@operator("Copy", gradient=[alias("GO0", "GI0")])
def copy_(x: Any, *, out: Array | None = None) -> Any:
    """A copy of any blob. Caffe2: Copy."""
    if not isinstance(x, (np.ndarray, np.generic)):
        return copy.deepcopy(x)
    if out is None:
        return np.array(x)
    np.copyto(out, x)
    return out


def _cast_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    if numpy_dtype(arguments["to"]).kind != "f":
        return STOPS
    return [emit("CastGradient", "I0 GO0", "GI0")]


@operator("Cast", gradient=_cast_rules)
def cast(x: Array, *, to: Any = "float", from_type: Any = None, out: Array | None = None) -> Array:
    """X in another data type. Caffe2: Cast.

    Fractions are cut off, not rounded, on the way to an integer, and what is too large for it
    wraps around. Nothing flows back through a cast to integers, bools or strings.

    Args:
        to: A `DataType`, its number, its name in any case, or a NumPy dtype.
        from_type: Caffe2's gradient needs it; here the gradient looks at X.

    Raises:
        ValueError: There is no such type, or a string holds no number.
    """
    dtype = numpy_dtype(to)
    if dtype.kind == "O" and x.dtype.kind != "O":
        texts = np.empty(x.shape, object)
        texts.reshape(-1)[:] = [str(value) for value in x.flat]
        return texts
    if out is None:
        out = np.empty(x.shape, dtype)
    # What wraps around is not worth a RuntimeWarning, here it is defined.
    with np.errstate(invalid="ignore"):
        np.copyto(out, x, casting="unsafe")
    return out


@operator("CastGradient")
def cast_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Array:
    """The gradient of X: dY in the data type of X, if that can hold a gradient."""
    if out is None:
        out = np.empty(dy.shape, x.dtype if x.dtype.kind == "f" else dy.dtype)
    np.copyto(out, dy, casting="same_kind")
    return out
