"""Matrix products and fully connected layers.

Where a matrix is wanted and a tensor of more dimensions comes, it is cut in two before one of
its dimensions: those in front of the cut make the rows, the others the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, Shape, matrix, promote, result
from procession.operators.blas import is_wide, outer, outer_of_wide
from procession.operators.registry import Look, Rules, emit, operator

_NOT_GIVEN = (None, None, None)
_SUM: Any = np.add.reduce
_FEW, _LARGE = (8, 64), 1 << 15
"""Numbers of rows, and elements of weights, of layers that are computed across."""


def _matmul_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    # C = A B has dA = dC B' and dB = A' dC. A factor that came in transposed gets its gradient
    # transposed, which swaps the two factors. The last input gives the shape.
    trans_a, trans_b = bool(arguments["trans_a"]), bool(arguments["trans_b"])
    axis_a, axis_b = arguments["axis_a"], arguments["axis_b"]
    if trans_a:
        da = emit("MatMul", "I1 GO0 ~I0", "GI0", axis_a=axis_b, trans_a=int(trans_b), trans_b=1)
    else:
        da = emit("MatMul", "GO0 I1 ~I0", "GI0", axis_b=axis_b, trans_b=int(not trans_b))
    if trans_b:
        db = emit("MatMul", "GO0 I0 ~I1", "GI1", axis_b=axis_a, trans_a=1, trans_b=int(trans_a))
    else:
        db = emit("MatMul", "I0 GO0 ~I1", "GI1", axis_a=axis_a, trans_a=int(not trans_a))
    return [da, db]


@operator("MatMul", gradient=_matmul_rules)
def matmul(
    a: Array,
    b: Array,
    like: Array | None = None,
    *,
    axis_a: int = 1,
    axis_b: int = 1,
    trans_a: int = 0,
    trans_b: int = 0,
    out: Array | None = None,
) -> Any:
    """The product of the matrices A (M, K) and B (K, N): (M, N). Caffe2: MatMul.

    A third input gives the result its shape; its values do not matter.

    Args:
        axis_a: Where A is cut into a matrix if it has more dimensions.
        axis_b: The same for B.
        trans_a: 1 if A comes transposed, as (K, M).
        trans_b: 1 if B comes transposed, as (N, K).

    Raises:
        ValueError: The shapes do not match.
    """
    left = a.reshape(matrix(a.shape, axis_a, "A"))
    right = b.reshape(matrix(b.shape, axis_b, "B"))
    left = left.T if trans_a else left
    right = right.T if trans_b else right
    if left.shape[1] != right.shape[0]:
        raise ValueError(
            f"A {a.shape} has K={left.shape[1]}, B {b.shape} has K={right.shape[0]}"
            f" (trans_a={int(trans_a)}, trans_b={int(trans_b)})"
        )
    left, right = promote(left, right)
    shape = (left.shape[0], right.shape[1])
    y = result(out, shape if like is None else like.shape, left.dtype)
    if y.size != shape[0] * shape[1]:
        raise ValueError(f"A x B is {shape}, which does not fit the third input's {y.shape}")
    _product(left, right, y.reshape(shape))
    return y


def _product(left: Array, right: Array, out: Array | None) -> Any:
    """The product of two matrices. Of a column and a row np.matmul makes ten times the work."""
    return (outer if left.shape[1] == 1 else np.matmul)(left, right, out)


def _plain(x: Array, w: Array, dtype: np.dtype[Any]) -> bool:
    """Whether these are two matrices of that floating-point type."""
    return x.ndim == w.ndim == 2 and x.dtype is w.dtype is dtype and dtype.kind == "f"


def _layer(transposed: bool, x: Shape, w: Shape, dtype: Any) -> Callable[..., Array]:
    """What computes a fully connected layer of two such matrices, into the last argument."""
    rows = x[0]
    add, product = np.add, np.dot if rows == 1 else np.matmul
    if rows == 1:
        # NumPy is quicker with tensors of one shape than with those that it has to broadcast.
        if transposed:
            return lambda x, w, b, y: add(product(x, w, y), b.reshape(y.shape), y)
        return lambda x, w, b, y: add(product(x, w.T, y), b.reshape(y.shape), y)
    if transposed:
        return lambda x, w, b, y: add(product(x, w, y), b, y)
    if dtype == np.float32 and _FEW[0] <= rows <= _FEW[1] and w[0] * w[1] >= _LARGE:
        # A BLAS that packs the factors packs the smaller one for this, and takes up to half the
        # time. What is added to is small, and is transposed on the way.
        across = np.empty((w[0], rows), dtype)
        return lambda x, w, b, y: add(product(w, x.T, across).T, b, y)
    return lambda x, w, b, y: add(product(x, w.T, y), b, y)


def _layer_gradient(
    transposed: bool, rows: int, with_x: bool, shape: Shape, dtype: np.dtype[Any]
) -> Callable[..., tuple[Array, ...]]:
    """What computes the gradients of w, b and x for `_layer`, into the last three arguments.

    The shape is that of w.
    """
    product = np.dot if rows == 1 else np.matmul
    products: Any = np.matmul
    if rows == 1:
        products = outer_of_wide if is_wide(*shape) else np.dot

    def of_parameters(x: Array, w: Array, dy: Array, dw: Array, db: Array) -> tuple[Array, ...]:
        products(x.T, dy, dw) if transposed else products(dy.T, x, dw)
        if rows == 1:
            db[...] = dy
        else:
            _SUM(dy, 0, dtype, db)
        return dw, db

    def of_all(x: Array, w: Array, dy: Array, dw: Array, db: Array, dx: Array) -> tuple[Array, ...]:
        of_parameters(x, w, dy, dw, db)
        return dw, db, product(dy, w.T if transposed else w, dx)

    return of_all if with_x else of_parameters


def _specialize(transposed: bool) -> Callable[..., Callable[..., object] | None]:
    def specialize(
        inputs: Sequence[Look], outputs: Sequence[Look], *, axis: int, axis_w: int
    ) -> Callable[..., object] | None:
        (x, dtype), (w, _), (b, _) = inputs
        if not (axis == axis_w == 1 and _fits(x, w, b, transposed) and _alike(inputs, dtype)):
            return None
        return _layer(transposed, x, w, dtype)

    return specialize


def _specialize_gradient(transposed: bool) -> Callable[..., Callable[..., object] | None]:
    def specialize(
        inputs: Sequence[Look], outputs: Sequence[Look], *, axis: int, axis_w: int
    ) -> Callable[..., object] | None:
        (x, dtype), (w, _), (dy, _) = inputs
        if not (
            axis == axis_w == 1
            and len(dy) == 2
            and dy[:1] == x[:1]
            and _fits(x, w, dy[1:], transposed)
            and _alike(inputs, dtype)
        ):
            return None
        return _layer_gradient(transposed, x[0], len(outputs) == 3, w, dtype)

    return specialize


def _fits(x: Shape, w: Shape, b: Shape, transposed: bool) -> bool:
    """Whether these are the shapes of two matrices and a bias."""
    return len(x) == 2 and (w if transposed else w[::-1]) == (*x[1:], *b) and len(b) == 1


def _alike(looks: Sequence[Look], dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" and all(each == dtype for _, each in looks)


def _affine(
    x: Array, w: Array, b: Array, axis: int, axis_w: int, transposed: bool, out: Array | None
) -> Array:
    if axis == axis_w == 1 and _plain(x, w, b.dtype) and b.ndim == 1:
        # What is most frequent, as it is. No matrix lies where b does, as it has another shape.
        rows, k = x.shape
        if (w.shape if transposed else w.shape[::-1]) == (k, len(b)):
            layer = _layer(transposed, x.shape, w.shape, x.dtype)
            return layer(x, w, b, result(out, (rows, len(b)), x.dtype))
    rows, k = matrix(x.shape, axis, "X")
    first, second = matrix(w.shape, axis_w, "W")
    n, k_of_w = (second, first) if transposed else (first, second)
    if k != k_of_w:
        raise ValueError(f"X {x.shape} coerces to K={k}, W {w.shape} has K={k_of_w}")
    if b.shape != (n,):
        raise ValueError(f"b is {b.shape}, W {w.shape} asks for ({n},)")
    x, w, b = promote(x, w, b)
    matrix_w = w.reshape(first, second)
    if out is not None and np.may_share_memory(out, b):
        out = None  # b is read after the product was written
    y = result(out, (*x.shape[: axis % x.ndim], n), x.dtype)
    product = y.reshape(rows, n)
    np.matmul(x.reshape(rows, k), matrix_w if transposed else matrix_w.T, out=product)
    np.add(product, b, out=product)
    return y


def _affine_gradient(
    x: Array, w: Array, dy: Array, axis: int, axis_w: int, transposed: bool, outs: Outs
) -> tuple[Array, ...]:
    dw, db, *more = outs or _NOT_GIVEN
    if axis == axis_w == 1 and _plain(x, w, dy.dtype) and dy.ndim == 2:
        # What is most frequent, as it is.
        rows, k = x.shape
        n = dy.shape[1]
        if (w.shape if transposed else w.shape[::-1]) == (k, n) and len(dy) == rows:
            dw, db = result(dw, w.shape, x.dtype), result(db, (n,), x.dtype)
            gradient = _layer_gradient(transposed, rows, bool(more), w.shape, x.dtype)
            return gradient(x, w, dy, dw, db, *(result(d, x.shape, x.dtype) for d in more))
    rows, k = matrix(x.shape, axis, "X")
    first, second = matrix(w.shape, axis_w, "W")
    n, k_of_w = (second, first) if transposed else (first, second)
    if k != k_of_w or dy.size != rows * n:
        raise ValueError(f"dY {dy.shape} is no gradient for X {x.shape} and W {w.shape}")
    x, w, dy = promote(x, w, dy)
    matrix_x, matrix_w, matrix_dy = (
        x.reshape(rows, k),
        w.reshape(first, second),
        dy.reshape(rows, n),
    )
    dw = result(dw, w.shape, dy.dtype)
    left, right = (matrix_x, matrix_dy) if transposed else (matrix_dy, matrix_x)
    _product(left.T, right, dw.reshape(first, second))
    db = _SUM(matrix_dy, 0, dy.dtype, db)
    if not more:
        return dw, db
    dx = result(more[0], x.shape, dy.dtype)
    np.matmul(matrix_dy, matrix_w.T if transposed else matrix_w, dx.reshape(rows, k))
    return dw, db, dx


@operator(
    "FC",
    gradient=[emit("FCGradient", "I0 I1 GO0", "GI1 GI2 GI0")],
    specialize=_specialize(transposed=False),
)
def fc(
    x: Array, w: Array, b: Array, *, axis: int = 1, axis_w: int = 1, out: Array | None = None
) -> Array:
    """A fully connected layer, X W' + b. Caffe2: FC.

    X is (M, K), W is (N, K), b is (N,) and the result (M, N). The dimensions of X in front of
    `axis` stay as they are.

    Args:
        axis: Where X is cut into a matrix if it has more dimensions.
        axis_w: The same for W.

    Raises:
        ValueError: The shapes do not match.
    """
    return _affine(x, w, b, axis, axis_w, False, out)


@operator(
    "FCGradient",
    outputs=(2, 3),
    spare_last=True,
    specialize=_specialize_gradient(transposed=False),
)
def fc_gradient(
    x: Array, w: Array, dy: Array, *, axis: int = 1, axis_w: int = 1, outs: Outs = None
) -> tuple[Array, ...]:
    """The gradients of W, b and X, in this order, from that of FC's result. Caffe2: FCGradient.

    With two outputs that of X is not computed.
    """
    return _affine_gradient(x, w, dy, axis, axis_w, False, outs)


@operator(
    "FCTransposed",
    gradient=[emit("FCTransposedGradient", "I0 I1 GO0", "GI1 GI2 GI0")],
    specialize=_specialize(transposed=True),
)
def fc_transposed(
    x: Array, w: Array, b: Array, *, axis: int = 1, axis_w: int = 1, out: Array | None = None
) -> Array:
    """A fully connected layer whose W is (K, N): X W + b; otherwise as FC. Caffe2: FCTransposed.

    Raises:
        ValueError: The shapes do not match.
    """
    return _affine(x, w, b, axis, axis_w, True, out)


@operator(
    "FCTransposedGradient",
    outputs=(2, 3),
    spare_last=True,
    specialize=_specialize_gradient(transposed=True),
)
def fc_transposed_gradient(
    x: Array, w: Array, dy: Array, *, axis: int = 1, axis_w: int = 1, outs: Outs = None
) -> tuple[Array, ...]:
    """The gradients of W, b and X from that of FCTransposed's. Caffe2: FCTransposedGradient.

    With two outputs that of X is not computed.
    """
    return _affine_gradient(x, w, dy, axis, axis_w, True, outs)


def _transposed(x: Array, wanted: int) -> Array:
    return x.swapaxes(-1, -2) if wanted and x.ndim > 1 else x


def _batch_matmul_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules | None:
    if arguments["broadcast"]:
        return None
    trans_a, trans_b = int(bool(arguments["trans_a"])), int(bool(arguments["trans_b"]))
    # As for MatMul: dA = dC B' and dB = A' dC, transposed where the factor came in transposed.
    if trans_a:
        da = emit("BatchMatMul", "I1 GO0", "GI0", trans_a=trans_b, trans_b=1)
    else:
        da = emit("BatchMatMul", "GO0 I1", "GI0", trans_b=1 - trans_b)
    if trans_b:
        db = emit("BatchMatMul", "GO0 I0", "GI1", trans_a=1, trans_b=trans_a)
    else:
        db = emit("BatchMatMul", "I0 GO0", "GI1", trans_a=1 - trans_a)
    return [da, db]


@operator("BatchMatMul", gradient=_batch_matmul_rules)
def batch_matmul(
    a: Array, b: Array, *, trans_a: int = 0, trans_b: int = 0, broadcast: int = 0
) -> Array:
    """The products of the matrices in A (..., M, K) and B (..., K, N). Caffe2: BatchMatMul.

    An operand of one dimension is a vector: a row of K if it is A, a column if it is B. The result
    has no dimension in its place. With `broadcast` there is no gradient.

    Args:
        trans_a: 1 if the matrices of A come transposed, as (..., K, M).
        trans_b: 1 if the matrices of B come transposed, as (..., N, K).
        broadcast: 1 to broadcast the dimensions in front as NumPy does; else they are the same.

    Raises:
        ValueError: The shapes do not match.
    """
    if not a.ndim or not b.ndim:
        raise ValueError(f"BatchMatMul: A {a.shape} and B {b.shape} have one dimension at least")
    if not broadcast and min(a.ndim, b.ndim) > 1 and a.shape[:-2] != b.shape[:-2]:
        raise ValueError(
            f"A {a.shape} and B {b.shape} differ before their matrices (broadcast=1 broadcasts)"
        )
    left, right = promote(_transposed(a, trans_a), _transposed(b, trans_b))
    product = np.asarray(np.matmul(left, right))
    # Of two vectors, Caffe2 makes a vector of one number.
    return product.reshape(1) if a.ndim == b.ndim == 1 else product


def _weighed(x: Array, w: Array, b: Array, axis: int) -> tuple[Array, Array, Array]:
    rows, columns = matrix(x.shape, axis, "X")
    if w.shape != (columns,) or b.shape != (columns,):
        raise ValueError(f"w is {w.shape} and b {b.shape}, X {x.shape} asks for ({columns},)")
    x, w, b = promote(x, w, b)
    return x.reshape(rows, columns), w, b


@operator(
    "ElementwiseLinear",
    gradient=[emit("ElementwiseLinearGradient", "GO0 I0 I1", "GI0 GI1 GI2")],
)
def elementwise_linear(x: Array, w: Array, b: Array, *, axis: int = 1) -> Array:
    """Each column of X times its number in w, plus that in b. Caffe2: ElementwiseLinear.

    Args:
        axis: Where X is cut into a matrix (N, D); w and b are (D,).

    Raises:
        ValueError: The shapes do not match.
    """
    rows, w, b = _weighed(x, w, b, axis)
    return np.asarray(rows * w + b).reshape(x.shape)


@operator("ElementwiseLinearGradient", outputs=3)
def elementwise_linear_gradient(
    dy: Array, x: Array, w: Array, *, axis: int = 1
) -> tuple[Array, Array, Array]:
    """The gradients of X, w and b. Caffe2: ElementwiseLinearGradient."""
    rows, w, _ = _weighed(x, w, w, axis)
    slopes = dy.reshape(rows.shape)
    dw = np.add.reduce(slopes * rows, axis=0, dtype=dy.dtype)
    db = np.add.reduce(slopes, axis=0, dtype=dy.dtype)
    return np.asarray(slopes * w).reshape(x.shape), dw, db


@operator(
    "RowMul",
    gradient=[
        emit("RowMul", "GO0 I1", "GI0"),
        emit("Mul", "GO0 I0", "GI1"),
        emit("ReduceTailSum", "GI1", "GI1"),
    ],
)
def row_mul(x: Array, w: Array, *, out: Array | None = None) -> Any:
    """Each row of X (its first dimension) times its number in w. Caffe2: RowMul.

    Raises:
        ValueError: There is not one number for each row.
    """
    if not x.ndim or w.size != x.shape[0]:
        raise ValueError(f"w is {w.shape}, X {x.shape} has {x.shape[:1]} rows")
    x, w = promote(x, w)
    return np.multiply(x, w.reshape((-1,) + (1,) * (x.ndim - 1)), out=out)
