"""Functions of one tensor, number by number: signs, roots, exponentials, angles.

Most are one NumPy function. Those whose result is no integer are for floating-point numbers, and
say so.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from procession.operators.arrays import Array, floats, store
from procession.operators.registry import STOPS, Rules, described, emit, operator


def _declare(name: str, function: np.ufunc, text: str, gradient: Rules | None = None) -> None:
    """Make an operator of a NumPy function whose results are no integers."""
    raises = "Raises:\n    TypeError: X does not hold floating-point numbers."

    @operator(name, ufunc=function, gradient=gradient)
    @described(name, f"{text} Caffe2: {name}.\n\n{raises}")
    def kernel(x: Array, *, out: Array | None = None) -> Any:
        floats(name, x)
        return function(x, out=out)


@operator("Sign", ufunc=np.sign, gradient=STOPS)
def sign(x: Array, *, out: Array | None = None) -> Array:
    """-1, 0 or 1: the sign of each number. Caffe2: Sign."""
    return np.sign(x, out=out)


@operator("Negative", ufunc=np.negative, gradient=[emit("Negative", "GO0", "GI0")])
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


_declare(
    "Sqrt",
    np.sqrt,
    "The square root of each number.",
    [emit("Scale", "GO0", "GI0", scale=0.5), emit("Div", "GI0 O0", "GI0")],
)


_declare("Exp", np.exp, "The exponential function of each number.", [emit("Mul", "O0 GO0", "GI0")])


_declare("Log", np.log, "The natural logarithm of each number.", [emit("Div", "GO0 I0", "GI0")])


@operator("Abs", ufunc=np.absolute, gradient=[emit("AbsGradient", "I0 GO0", "GI0")])
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


_declare("Floor", np.floor, "The largest whole number that is not above each number.")


_declare("Ceil", np.ceil, "The smallest whole number that is not below each number.")


@operator("Rsqrt", gradient=[emit("RsqrtGradient", "GO0 O0", "GI0")])
def rsqrt(x: Array, *, out: Array | None = None) -> Any:
    """1 over the square root of each number. Caffe2: Rsqrt.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Rsqrt", x)
    return np.divide(x.dtype.type(1), np.sqrt(x), out=out)


@operator("RsqrtGradient")
def rsqrt_gradient(dy: Array, y: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: -dY / 2 times the third power of Y. Caffe2: RsqrtGradient."""
    return np.multiply(dy, y * y * y * y.dtype.type(-0.5), out=out)


_declare(
    "Cbrt",
    np.cbrt,
    "The cube root of each number, negative for a negative one.",
    [emit("CbrtGradient", "GO0 O0", "GI0")],
)


@operator("CbrtGradient")
def cbrt_gradient(dy: Array, y: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY / (3 Y * Y). Caffe2: CbrtGradient."""
    return np.divide(dy, y * y * y.dtype.type(3), out=out)


@operator("Cube", gradient=[emit("CubeGradient", "GO0 I0", "GI0")])
def cube(x: Array, *, out: Array | None = None) -> Any:
    """X * X * X, elementwise. Caffe2: Cube."""
    return np.multiply(np.multiply(x, x), x, out=out)


@operator("CubeGradient")
def cube_gradient(dy: Array, x: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: 3 dY * X * X. Caffe2: CubeGradient."""
    return np.multiply(dy, x * x * x.dtype.type(3), out=out)


@operator("Reciprocal", gradient=[emit("ReciprocalGradient", "O0 GO0", "GI0")])
def reciprocal(x: Array, *, out: Array | None = None) -> Any:
    """1 over each number. Caffe2: Reciprocal.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Reciprocal", x)
    return np.divide(x.dtype.type(1), x, out=out)


@operator("ReciprocalGradient")
def reciprocal_gradient(y: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: -dY * Y * Y. Caffe2: ReciprocalGradient."""
    return np.multiply(dy, np.negative(y * y), out=out)


_declare(
    "Sin",
    np.sin,
    "The sine of each number, an angle in radians.",
    [emit("SinGradient", "I0 GO0", "GI0")],
)


@operator("SinGradient")
def sin_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY times the cosine of X. Caffe2: SinGradient."""
    return np.multiply(dy, np.cos(x), out=out)


_declare(
    "Cos",
    np.cos,
    "The cosine of each number, an angle in radians.",
    [emit("CosGradient", "I0 GO0", "GI0")],
)


@operator("CosGradient")
def cos_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: -dY times the sine of X. Caffe2: CosGradient."""
    return np.multiply(dy, np.negative(np.sin(x)), out=out)


_declare(
    "Tan",
    np.tan,
    "The tangent of each number, an angle in radians.",
    [emit("TanGradient", "I0 GO0", "GI0")],
)


@operator("TanGradient")
def tan_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY over the square of the cosine of X. Caffe2: TanGradient."""
    return np.divide(dy, np.square(np.cos(x)), out=out)


_declare(
    "Asin",
    np.arcsin,
    "The angle, in radians, whose sine is the number.",
    [emit("AsinGradient", "I0 GO0", "GI0")],
)


@operator("AsinGradient")
def asin_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY / sqrt(1 - X * X). Caffe2: AsinGradient."""
    return np.divide(dy, np.sqrt(x.dtype.type(1) - x * x), out=out)


_declare(
    "Acos",
    np.arccos,
    "The angle, in radians, whose cosine is the number.",
    [emit("AcosGradient", "I0 GO0", "GI0")],
)


@operator("AcosGradient")
def acos_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: -dY / sqrt(1 - X * X). Caffe2: AcosGradient."""
    return np.divide(np.negative(dy), np.sqrt(x.dtype.type(1) - x * x), out=out)


_declare(
    "Atan",
    np.arctan,
    "The angle, in radians, whose tangent is the number.",
    [emit("AtanGradient", "I0 GO0", "GI0")],
)


@operator("AtanGradient")
def atan_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY / (1 + X * X). Caffe2: AtanGradient."""
    return np.divide(dy, x.dtype.type(1) + x * x, out=out)


_declare(
    "Sinh", np.sinh, "The hyperbolic sine of each number.", [emit("SinhGradient", "GO0 I0", "GI0")]
)


@operator("SinhGradient")
def sinh_gradient(dy: Array, x: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY times the hyperbolic cosine of X. Caffe2: SinhGradient."""
    return np.multiply(dy, np.cosh(x), out=out)


_declare(
    "Cosh",
    np.cosh,
    "The hyperbolic cosine of each number.",
    [emit("CoshGradient", "GO0 I0", "GI0")],
)


@operator("CoshGradient")
def cosh_gradient(dy: Array, x: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY times the hyperbolic sine of X. Caffe2: CoshGradient."""
    return np.multiply(dy, np.sinh(x), out=out)


_STEP = 1 / 32
_END = 6.0
"""From here on the error function is 1 in every float."""


def _taylor(terms: int = 9) -> Array:
    """Row n: the n-th Taylor coefficients of the error function around the multiples of `_STEP`."""
    points = np.arange(round(_END / _STEP) + 1) * _STEP
    table = np.empty((terms, len(points)))
    table[0] = [math.erf(point) for point in points]
    # The slope g is a bell curve, so each derivative follows from the two before:
    # the next of g after the n-th is -2 x times the n-th minus 2 n times the one before.
    before = np.zeros(len(points))
    derivative = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    for n in range(1, terms):
        table[n] = derivative / math.factorial(n)
        before, derivative = derivative, -2 * points * derivative - 2 * (n - 1) * before
    return table


_TAYLOR = _taylor()


def error_function(x: Array) -> Array:
    """The error function of each number, as float64."""
    wide = np.asarray(x, np.float64)
    # fmin takes the number where the other is NaN, which has no place in the table.
    away = np.fmin(np.abs(wide), _END)
    index = np.rint(away / _STEP).astype(np.intp)
    offset = away - index * _STEP
    total = _TAYLOR[-1][index]
    for row in _TAYLOR[-2::-1]:
        total = total * offset + row[index]
    return np.asarray(np.where(np.isnan(wide), wide, np.copysign(total, wide)))


@operator("Erf", gradient=[emit("ErfGradient", "I0 GO0", "GI0")])
def erf(x: Array, *, out: Array | None = None) -> Array:
    """The error function of each number. Caffe2: Erf.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("Erf", x)
    return store(error_function(x), x.dtype, out)


@operator("ErfGradient")
def erf_gradient(x: Array, dy: Array, *, out: Array | None = None) -> Any:
    """The gradient of X: dY times 2 / sqrt(pi) exp(-X * X). Caffe2: ErfGradient."""
    slope = np.exp(np.negative(x * x)) * x.dtype.type(2 / math.sqrt(math.pi))
    return np.multiply(dy, slope, out=out)


@operator("Logit", gradient=[emit("LogitGradient", "I0 GO0", "GI0")])
def logit(x: Array, *, eps: float = 1e-6, out: Array | None = None) -> Any:
    """log(X / (1 - X)), where X is first brought to at least `eps` from 0 and 1. Caffe2: Logit.

    Args:
        eps: How near to 0 and 1 an X may be.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: `eps` is not between 0 and 0.5.
    """
    floats("Logit", x)
    if not 0 < eps < 0.5:
        raise ValueError(f"Logit: eps={eps} is not between 0 and 0.5")
    low, one = x.dtype.type(eps), x.dtype.type(1)
    inside = np.minimum(np.maximum(x, low), one - low)
    return np.log(inside / (one - inside), out=out)


@operator("LogitGradient")
def logit_gradient(x: Array, dy: Array, *, eps: float = 1e-6, out: Array | None = None) -> Any:
    """The gradient of X: dY / (X (1 - X)), or 0 nearer than `eps` to 0 or 1.

    Caffe2: LogitGradient.
    """
    low, one = x.dtype.type(eps), x.dtype.type(1)
    inside = np.logical_and(x >= low, x <= one - low)
    slope = np.where(inside, x * (one - x), one)
    return np.divide(dy * inside, slope, out=out)


@operator("ReplaceNaN")
def replace_nan(x: Array, *, value: float = 0.0, out: Array | None = None) -> Array:
    """X with `value` in the place of each NaN. Caffe2: ReplaceNaN.

    Raises:
        TypeError: X does not hold floating-point numbers.
    """
    floats("ReplaceNaN", x)
    return store(np.where(np.isnan(x), x.dtype.type(value), x), x.dtype, out)


def _all_finite(x: Array, more: tuple[Array, ...] = ()) -> None:
    finite = np.isfinite(x)
    if finite.all():
        return
    place = tuple(int(each) for each in np.unravel_index(int(finite.argmin()), x.shape))
    count = x.size - int(finite.sum())
    shown = "".join(f"; input {n} is {each!r}" for n, each in enumerate(more, 1))
    raise ValueError(f"{count} of {x.size} numbers not finite: {x[place]} at {place}{shown}")


@operator("NanCheck", gradient=[emit("NanCheck", "GO0", "GI0")])
def nan_check(x: Array, *more: Array, out: Array | None = None) -> Array:
    """X as it is, if all its numbers are finite; its gradient is checked, too. Caffe2: NanCheck.

    The other inputs are there to be shown when X is not finite.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: There is a NaN or an infinity in X.
    """
    floats("NanCheck", x)
    _all_finite(x, more)
    return store(x, x.dtype, out)


@operator("EnforceFinite", outputs=0)
def enforce_finite(x: Array) -> None:
    """Fail if X has a NaN or an infinity. Caffe2: EnforceFinite.

    Raises:
        TypeError: X does not hold floating-point numbers.
        ValueError: There is a NaN or an infinity in X.
    """
    floats("EnforceFinite", x)
    _all_finite(x)
