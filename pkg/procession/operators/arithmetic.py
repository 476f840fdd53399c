"""Arithmetic of two tensors or more: sums, products, powers, extremes; and types of numbers.

Two operands broadcast as NumPy does. `broadcast=1` and `axis` are Caffe2's older way of saying
how: B lies along the dimensions of A from `axis` on, or from the dimension on that `axis_str`
names in `order`. Numbers of different types meet by the rule of `arrays.promote`, under which
float32 stays float32.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from procession.operators.arrays import Array, align, floats, promote, store, sum_to
from procession.operators.datatype import numpy_dtype
from procession.operators.registry import (
    REQUIRED,
    STOPS,
    Context,
    Rule,
    Rules,
    alias,
    described,
    emit,
    operator,
)


def _declare(name: str, function: np.ufunc, gradient: Rule, text: str) -> None:
    """Make an operator of a NumPy function of two operands, which broadcast."""

    @operator(name, ufunc=function, gradient=[gradient])
    @described(name, text)
    def kernel(
        a: Array,
        b: Array,
        *,
        broadcast: int = 0,
        axis: int = -1,
        axis_str: str = "",
        order: str = "NCHW",
        out: Array | None = None,
    ) -> Any:
        # The types of NumPy's numbers are singletons, as a rule; where not, align() compares.
        if broadcast or a.dtype is not b.dtype:
            a, b = align(a, b, broadcast, axis, axis_str, order)
        return function(a, b, out=out)


_declare(
    "Add",
    np.add,
    emit("AddGradient", "GO0 ~I0 ~I1", "GI0 GI1"),
    """A + B, elementwise. Caffe2: Add.

    Args:
        broadcast: 1 to let B lie along the dimensions of A from `axis` on.
        axis: Where B starts in A; -1 for the last dimensions. Means nothing without `broadcast`.
        axis_str: The same as a letter of `order`, e.g. "C".
        order: The letters of the dimensions of A.

    Raises:
        ValueError: The shapes cannot be broadcast together.
    """,
)
_declare(
    "Sub",
    np.subtract,
    emit("SubGradient", "GO0 ~I0 ~I1", "GI0 GI1"),
    "A - B, elementwise; arguments and errors as for Add. Caffe2: Sub.",
)
_declare(
    "Mul",
    np.multiply,
    emit("MulGradient", "GO0 I0 I1", "GI0 GI1"),
    "A * B, elementwise; arguments and errors as for Add. Caffe2: Mul.",
)


@operator("Div", ufunc=np.divide, gradient=[emit("DivGradient", "GO0 ~I0 I1 O0", "GI0 GI1")])
def div(
    a: Array,
    b: Array,
    *,
    broadcast: int = 0,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
    out: Array | None = None,
) -> Any:
    """A / B, elementwise; integers are divided towards zero: -7 / 2 is -3. Caffe2: Div.

    Arguments as for Add.

    Raises:
        ValueError: The shapes cannot be broadcast together.
        ZeroDivisionError: An integer is divided by zero.
    """
    if broadcast or a.dtype is not b.dtype:
        a, b = align(a, b, broadcast, axis, axis_str, order)
    if a.dtype.kind not in "iu":
        return np.divide(a, b, out=out)
    if not np.all(b):
        raise ZeroDivisionError(f"Div: a {b.dtype} in B is zero")
    # NumPy rounds towards minus infinity. Without the remainder (which has the sign of A)
    # there is nothing left to round.
    return np.floor_divide(np.subtract(a, np.fmod(a, b)), b, out=out)


@operator("AddGradient", outputs=2)
def add_gradient(
    dc: Array,
    a: Array,
    b: Array,
    *,
    broadcast: int = 0,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A + B. Caffe2: AddGradient."""
    wide_a, wide_b = align(a, b, broadcast, axis, axis_str, order)
    return (
        sum_to(dc, wide_a.shape, a, copy=True),
        sum_to(dc, wide_b.shape, b, copy=True),
    )


@operator("SubGradient", outputs=2)
def sub_gradient(
    dc: Array,
    a: Array,
    b: Array,
    *,
    broadcast: int = 0,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A - B. Caffe2: SubGradient."""
    wide_a, wide_b = align(a, b, broadcast, axis, axis_str, order)
    return (
        sum_to(dc, wide_a.shape, a, copy=True),
        sum_to(np.negative(dc), wide_b.shape, b),
    )


@operator("MulGradient", outputs=2)
def mul_gradient(
    dc: Array,
    a: Array,
    b: Array,
    *,
    broadcast: int = 0,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A * B. Caffe2: MulGradient."""
    wide_a, wide_b = align(a, b, broadcast, axis, axis_str, order)
    return (
        sum_to(np.multiply(dc, wide_b), wide_a.shape, a),
        sum_to(np.multiply(dc, wide_a), wide_b.shape, b),
    )


@operator("DivGradient", outputs=2)
def div_gradient(
    dc: Array,
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    broadcast: int = 0,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A / B, and C itself. Caffe2: DivGradient.

    Three inputs are B, C and the gradient of C, as older nets have it; A is as large as C then.
    """
    if c is None:
        b, c, dc = dc, a, b
        a = c
    wide_a, wide_b = align(a, b, broadcast, axis, axis_str, order)
    da = np.divide(dc, wide_b)
    return (
        sum_to(da, wide_a.shape, a, copy=True),
        sum_to(np.negative(np.multiply(da, c)), wide_b.shape, b),
    )


def _sum_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [alias("GO0", f"GI{index}") for index in range(inputs)]


def _alike(first: Array, others: Sequence[Array]) -> tuple[Array, ...]:
    """All of them in one dtype.

    Raises:
        ValueError: One of them has another shape than the first.
    """
    for index, other in enumerate(others, 1):
        if other.shape != first.shape:
            raise ValueError(f"input {index} is {other.shape}, input 0 is {first.shape}")
    return promote(first, *others)


def _accumulate(function: np.ufunc, terms: Sequence[Array], out: Array | None) -> Any:
    """function(...function(function(a, b), c)...), into `out` if it is given."""
    first, *rest = terms
    if not rest:
        return store(first, first.dtype, out)
    total = out
    # The first result would overwrite a later term that lies where the result goes.
    if out is not None and any(np.may_share_memory(out, term) for term in rest[1:]):
        total = None
    total = function(first, rest[0], out=total)
    for term in rest[1:]:
        total = function(total, term, out=total if isinstance(total, np.ndarray) else None)
    if out is None or total is out:
        return total
    np.copyto(out, total)
    return out


@operator("Sum", gradient=_sum_rules)
def sum_(first: Array, *others: Array, out: Array | None = None) -> Any:
    """The sum of all inputs, which have one shape: nothing is broadcast. Caffe2: Sum.

    Raises:
        ValueError: An input has another shape than the first.
    """
    return _accumulate(np.add, _alike(first, others), out)


@operator("SumInt")
def sum_int(first: Array, *others: Array, out: Array | None = None) -> Any:
    """Sum under a name that has no gradient, for counts. Caffe2: SumInt.

    Raises:
        ValueError: An input has another shape than the first.
    """
    return _accumulate(np.add, _alike(first, others), out)


def _extreme_rules(gradient: str, inputs: int, arguments: Mapping[str, Any]) -> Rules:
    each = " ".join(f"I{index}" for index in range(inputs))
    made = " ".join(f"GI{index}" for index in range(inputs))
    return [emit(gradient, f"O0 GO0 {each}", made)]


@operator("Max", gradient=partial(_extreme_rules, "MaxGradient"))
def max_(first: Array, *others: Array, out: Array | None = None) -> Any:
    """The largest of all inputs, elementwise; they have one shape. Caffe2: Max.

    A NaN in any of them makes a NaN.

    Raises:
        ValueError: An input has another shape than the first.
    """
    return _accumulate(np.maximum, _alike(first, others), out)


@operator("Min", gradient=partial(_extreme_rules, "MinGradient"))
def min_(first: Array, *others: Array, out: Array | None = None) -> Any:
    """The smallest of all inputs, elementwise; otherwise as Max. Caffe2: Min.

    Raises:
        ValueError: An input has another shape than the first.
    """
    return _accumulate(np.minimum, _alike(first, others), out)


@operator("MaxGradient", outputs=(1, None))
def max_gradient(y: Array, dy: Array, *xs: Array) -> tuple[Array, ...]:
    """The gradient of each X: dY where X is the extreme Y, 0 elsewhere. Caffe2: MaxGradient.

    Where several X are, each has all of dY.
    """
    return tuple(np.asarray(np.multiply(dy, np.equal(x, y), dtype=dy.dtype)) for x in xs)


@operator("MinGradient", outputs=(1, None))
def min_gradient(y: Array, dy: Array, *xs: Array) -> tuple[Array, ...]:
    """The gradient of each X: dY where X is the extreme Y, as MaxGradient. Caffe2: MinGradient."""
    return max_gradient(y, dy, *xs)


def _mean_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    return [emit("MeanGradient", "GO0", " ".join(f"GI{index}" for index in range(inputs)))]


@operator("Mean", gradient=_mean_rules)
def mean(first: Array, *others: Array, out: Array | None = None) -> Any:
    """The average of all inputs, elementwise; they have one shape. Caffe2: Mean.

    Raises:
        ValueError: An input has another shape than the first.
        TypeError: An input does not hold floating-point numbers.
    """
    floats("Mean", first, *others)
    total = _accumulate(np.add, _alike(first, others), out)
    return np.divide(total, total.dtype.type(1 + len(others)), out=out)


@operator("MeanGradient", outputs=(1, None))
def mean_gradient(dy: Array, *, context: Context) -> tuple[Array, ...]:
    """The gradients of all inputs of Mean: dY over their number, each. Caffe2: MeanGradient."""
    share = np.asarray(np.divide(dy, dy.dtype.type(len(context.outputs))))
    return (share, *(share.copy() for _ in context.outputs[1:]))


@operator("Mod")
def mod(
    x: Array,
    *,
    divisor: int = REQUIRED,
    sign_follow_divisor: bool = False,
    out: Array | None = None,
) -> Any:
    """What is left of each integer when it is divided by `divisor`. Caffe2: Mod.

    Args:
        divisor: The number to divide by.
        sign_follow_divisor: The rest has the sign of the divisor, not that of X.

    Raises:
        TypeError: X does not hold integers.
        ValueError: `divisor` is 0.
    """
    if x.dtype.kind not in "iu":
        raise TypeError(f"Mod is for integers, not for {x.dtype}")
    if not divisor:
        raise ValueError("Mod: divisor must not be 0")
    rest = np.remainder if sign_follow_divisor else np.fmod
    return rest(x, x.dtype.type(divisor), out=out)


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
    axis_str: str = "",
    order: str = "NCHW",
    out: Array | None = None,
) -> Any:
    """X to the power of a second input, or of `exponent`. Caffe2: Pow.

    The other arguments as for Add.

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
    x, power = align(x, power, broadcast, axis, axis_str, order)
    return np.power(x, power, out=out)


@operator("PowGradient", outputs=2)
def pow_gradient(
    dc: Array,
    a: Array,
    b: Array,
    c: Array,
    *,
    broadcast: int = 0,
    axis: int = -1,
    axis_str: str = "",
    order: str = "NCHW",
) -> tuple[Array, Array]:
    """Gradients of A and B from that of C = A to the power of B, and C itself."""
    wide_a, wide_b = align(a, b, broadcast, axis, axis_str, order)
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
    return [emit("CastGradient", "~I0 GO0", "GI0")]


@operator("Cast", gradient=_cast_rules)
def cast(x: Array, *, to: Any = "float", from_type: Any = None, out: Array | None = None) -> Array:
    """X in another data type. Caffe2: Cast.

    Fractions are cut off, not rounded, on the way to an integer, and what is too large for it
    wraps around. As strings, floats have six decimals, and bools are 0 or 1. Nothing flows back
    through a cast to integers, bools or strings.

    Args:
        to: A `DataType`, its number, its name in any case, or a NumPy dtype.
        from_type: Caffe2's gradient needs it; here the gradient looks at X.

    Raises:
        ValueError: There is no such type, or a string holds no number.
    """
    dtype = numpy_dtype(to)
    if dtype.kind == "O" and x.dtype.kind != "O":
        texts = np.empty(x.shape, object)
        form = "%f" if x.dtype.kind == "f" else "%d"
        texts.reshape(-1)[:] = [form % value for value in x.flat]
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
