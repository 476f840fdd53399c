"""What changes parameters: weighted sums, momentum, and what scales or clips them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from procession.operators.arrays import Array, Outs, number
from procession.operators.blas import LEAST, add_multiple, adder
from procession.operators.blocks import (
    alike,
    by_blocks,
    constants,
    results,
    scalar,
    sparse_rows,
    tables,
)
from procession.operators.registry import STOPS, Look, Rules, emit, operator
from procession.operators.rows import by_rows


def _weighted_sum_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    terms = range(0, inputs, 2)
    if arguments["grad_on_w"]:
        each = " ".join(f"I{index}" for index in range(inputs))
        made = [f"GI{index}" for index in terms] + [f"GI{index + 1}" for index in terms]
        return [emit("WeightedSumGradient", f"GO0 {each}", " ".join(made))]
    # dX is dY times the weight of X: a weighted sum, too, of one term.
    return [emit("WeightedSum", f"GO0 I{index + 1}", f"GI{index}") for index in terms]


def _summed(first: Array | None, factors: Sequence[Array], *vectors: Any) -> None:
    source, *terms, total, spare = vectors
    if first is not None:
        source = np.multiply(source, first, total)
    for term, factor in zip(terms, factors, strict=True):
        spare = np.multiply(term, factor, spare)
        np.add(source, spare, total)
        source = total


def _is_step(x: Array, weight: Array, term: Array, factor: Array) -> bool:
    """Whether a weighted sum adds a multiple to X as it is, all of one shape and dtype."""
    dtype = x.dtype
    return (
        weight.size == 1
        and weight.item() == 1
        and factor.size == 1
        and term.shape == x.shape != ()
        and term.dtype == dtype
        and factor.dtype == dtype
    )


def _specialize_weighted_sum(
    inputs: Sequence[Look], outputs: Sequence[Look], *, grad_on_w: bool
) -> Callable[..., object] | None:
    """For a step of gradient descent: see `_is_step`."""
    if len(inputs) != 4:
        return None
    (shape, dtype), (weight, _), (term, _), (factor, _) = inputs
    if (
        shape == ()
        or term != shape
        or math.prod(weight) != 1
        or math.prod(factor) != 1
        or any(each != dtype for _, each in inputs)
    ):
        return None
    size = math.prod(shape)
    if size < LEAST:
        multiply, add, spare = np.multiply, np.add, np.empty(shape, dtype)

        def short(x: Array, weight: Array, term: Array, factor: Array, total: Array) -> None:
            if weight.item() == 1:
                add(x, multiply(term, factor.reshape(()), spare), total)
            else:
                weighted_sum(x, weight, term, factor, out=total)

        return short
    move = adder(size, dtype)
    if move is None:
        return None

    def long(x: Array, weight: Array, term: Array, factor: Array, total: Array) -> None:
        if total is not x or weight.item() != 1 or not move(total, term, factor.item()):
            weighted_sum(x, weight, term, factor, out=total)

    return long


@operator("WeightedSum", gradient=_weighted_sum_rules, specialize=_specialize_weighted_sum)
def weighted_sum(
    x: Array,
    weight: Array,
    *more_x_and_weight: Array,
    grad_on_w: bool = False,
    out: Array | None = None,
) -> Array:
    """X0 * w0 + X1 * w1 + ... of inputs X0, w0, X1, w1, ... Caffe2: WeightedSum.

    All X have one shape, all weights are single numbers, of shape (1,) or (). The result has
    the type of X0. `net.WeightedSum([w, one, gradient, rate], w)` is a step of gradient
    descent.

    Args:
        grad_on_w: A gradient flows to the weights, too.

    Raises:
        ValueError: The inputs are no pairs, the X differ in shape, or a weight is not a single
            number.
    """
    if len(more_x_and_weight) == 2 and out is not None:
        # A step of gradient descent, most often.
        term, factor = more_x_and_weight
        if _is_step(x, weight, term, factor):
            if x.size < LEAST:
                return np.add(x, np.multiply(term, factor.reshape(())), out)
            if add_multiple(out, term, factor.item(), x):
                return out
    if len(more_x_and_weight) % 2:
        raise ValueError(f"{2 + len(more_x_and_weight)} inputs: they come in pairs, X and weight")
    shape, dtype = x.shape, x.dtype
    first = _weight(weight, 0, dtype)
    terms, factors = [x], []
    total: Array | None = out
    if out is not None and not out.flags.c_contiguous:
        total = None
    for index in range(0, len(more_x_and_weight), 2):
        each, factor = more_x_and_weight[index : index + 2]
        if each.shape != shape:
            raise ValueError(f"input {index + 2} is {each.shape}, input 0 is {shape}")
        factors.append(_weight(factor, index + 2, dtype))
        terms.append(each if each.dtype == dtype else each.astype(dtype))
        # What comes first would overwrite what is yet to be read.
        if total is not None and np.may_share_memory(total, each):
            total = None
    if total is None or (x.size == 1 and _among(total, (weight, *more_x_and_weight[1::2]))):
        total = np.empty(shape, dtype)
    # Most often it is a parameter with a weight of 1, and its gradient.
    one = None if factors and first == 1 else first
    by_blocks(_summed, (one, factors), terms, (total,), 1)
    if out is None or total is out:
        return total
    np.copyto(out, total)
    return out


def _weight(value: Array, index: int, dtype: np.dtype[Any]) -> Array:
    if value.size != 1:
        raise ValueError(
            f"the weight of input {index} must be a single number, not of shape {value.shape}"
        )
    return (value if value.dtype == dtype else value.astype(dtype)).reshape(())


def _among(array: Array, others: Sequence[Array]) -> bool:
    return any(np.may_share_memory(array, each) for each in others)


@operator("WeightedSumGradient", outputs=(1, None))
def weighted_sum_gradient(
    dy: Array, *x_and_weight: Array, grad_on_w: bool = False
) -> tuple[Array, ...]:
    """The gradients of all X, then with `grad_on_w` those of all weights.

    Caffe2: WeightedSumGradient.
    """
    xs, weights = x_and_weight[::2], x_and_weight[1::2]
    of = dy.dtype.type
    made = [np.asarray(dy * of(number(w, "a weight")), dy.dtype) for w in weights]
    if grad_on_w:
        slopes = [np.add.reduce(dy * x, axis=None, dtype=dy.dtype) for x in xs]
        made += [np.full(w.shape, slope, w.dtype) for w, slope in zip(weights, slopes, strict=True)]
    return tuple(made)


def _plain(
    decay: Array,
    rate: Array,
    gradient: Array,
    velocity: Array,
    change: Array,
    after: Array,
    spare: Array | None,
) -> None:
    spare = np.multiply(gradient, rate, spare)
    np.multiply(velocity, decay, after)
    np.add(after, spare, after)
    np.copyto(change, after)


def _ahead(
    decay: Array,
    more: Array,
    rate: Array,
    gradient: Array,
    velocity: Array,
    change: Array,
    after: Array,
    spare: Array | None,
) -> None:
    spare = np.multiply(velocity, decay, spare)
    np.multiply(gradient, rate, change)
    np.add(spare, change, after)
    np.multiply(after, more, change)
    np.subtract(change, spare, change)


def _plain_update(
    decay: Array,
    rate: Array,
    gradient: Array,
    velocity: Array,
    parameter: Array,
    change: Array,
    after: Array,
    moved: Array,
    spare: Array | None,
) -> None:
    _plain(decay, rate, gradient, velocity, change, after, spare)
    np.subtract(parameter, after, moved)


def _ahead_update(
    decay: Array,
    more: Array,
    rate: Array,
    gradient: Array,
    velocity: Array,
    parameter: Array,
    change: Array,
    after: Array,
    moved: Array,
    spare: Array | None,
) -> None:
    _ahead(decay, more, rate, gradient, velocity, change, after, spare)
    np.subtract(parameter, change, moved)


def _momentum(
    operator: str, dtype: np.dtype[Any], lr: Array, momentum: float, nesterov: int
) -> tuple[Array, ...]:
    """The constants of a step."""
    rate = scalar(operator, "learning rate", lr, dtype)
    if nesterov:
        return (*constants(dtype, momentum, 1 + momentum), rate)
    return (*constants(dtype, momentum), rate)


def momentum_step(
    gradient: Array,
    velocity: Array,
    parameter: Array,
    lr: float,
    momentum: float,
    nesterov: int,
    made: tuple[Array, Array],
) -> None:
    """MomentumSGDUpdate with numbers that no tensor holds; into the velocity and the parameter."""
    dtype = gradient.dtype
    rate = np.array(lr, dtype)
    numbers = _momentum("", dtype, rate, momentum, nesterov)
    change = np.empty_like(gradient)
    step = _ahead_update if nesterov else _plain_update
    by_blocks(step, numbers, (gradient, velocity, parameter), (change, *made), 1)


@operator("MomentumSGD", outputs=2, gradient=STOPS, in_place=[(0, 0), (1, 1)])
def momentum_sgd(
    gradient: Array,
    velocity: Array,
    lr: Array,
    *,
    momentum: float = 0.0,
    nesterov: int = 0,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of momentum: the change of the parameter, and its velocity. Caffe2: MomentumSGD.

    The velocity becomes `momentum` * velocity + lr * gradient, and the change (to be
    subtracted from the parameter) is the same, or with `nesterov` what the velocity will be
    one step ahead.

    Args:
        momentum: How much of the velocity stays.
        nesterov: 1 to look ahead.

    Raises:
        ValueError: The shapes differ, or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    alike("MomentumSGD", "gradient, momentum", gradient, velocity)
    numbers = _momentum("MomentumSGD", gradient.dtype, lr, momentum, nesterov)
    made = results(outs, 2, gradient, velocity)
    by_blocks(_ahead if nesterov else _plain, numbers, (gradient, velocity), made, 1)
    return tuple(made)


@operator("MomentumSGDUpdate", outputs=3, gradient=STOPS, in_place=[(0, 0), (1, 1), (3, 2)])
def momentum_sgd_update(
    gradient: Array,
    velocity: Array,
    lr: Array,
    parameter: Array,
    *,
    momentum: float = 0.0,
    nesterov: int = 0,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """MomentumSGD, and the parameter minus the change as a third output.

    Caffe2: MomentumSGDUpdate.

    Args:
        momentum: How much of the velocity stays.
        nesterov: 1 to look ahead.

    Raises:
        ValueError: As MomentumSGD.
        TypeError: As MomentumSGD.
    """
    tensors = gradient, velocity, parameter
    alike("MomentumSGDUpdate", "gradient, momentum, parameter", *tensors)
    numbers = _momentum("MomentumSGDUpdate", gradient.dtype, lr, momentum, nesterov)
    made = results(outs, 3, *tensors)
    by_blocks(_ahead_update if nesterov else _plain_update, numbers, tensors, made, 1)
    return tuple(made)


@operator("SparseMomentumSGDUpdate", outputs=3, gradient=STOPS, in_place=[(0, 0), (1, 1), (3, 2)])
def sparse_momentum_sgd_update(
    gradient: Array,
    velocity: Array,
    lr: Array,
    parameter: Array,
    indices: Array,
    *,
    momentum: float = 0.0,
    nesterov: int = 0,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """MomentumSGDUpdate of the rows that the indices name. Caffe2: SparseMomentumSGDUpdate.

    The gradient has a row for each index; where an index occurs again, the row is updated again.

    Args:
        momentum: How much of the velocity stays.
        nesterov: 1 to look ahead.

    Raises:
        IndexError: There is no such row.
        ValueError: The shapes do not fit, or the learning rate is not a single number.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    name = "SparseMomentumSGDUpdate"
    alike(name, "momentum, parameter", velocity, parameter)
    which, rows = sparse_rows(name, parameter, indices, gradient)
    numbers = _momentum(name, parameter.dtype, lr, momentum, nesterov)
    (change,) = results(None if outs is None else outs[:1], 1, gradient)
    after, moved = tables(None if outs is None else outs[1:], velocity, parameter)
    step = _ahead_update if nesterov else _plain_update

    def update(g: Array, v: Array, p: Array) -> Array:
        changed = np.empty_like(g)
        by_blocks(step, numbers, (g, v, p), (changed, v, p), 1)
        return changed

    by_rows(update, (after, moved), which, rows, change.reshape(rows.shape))
    return change, after, moved


_NEVER = 2**63 - 1


@operator("WeightScale", gradient=STOPS)
def weight_scale(
    weights: Array,
    iteration: Array,
    *,
    stepsize: int = _NEVER,
    upper_bound_iter: int = _NEVER,
    scale: float = 1.0,
    out: Array | None = None,
) -> Array:
    """The weights times `scale` in every so many iterations, else as they are.

    Caffe2: WeightScale. What counts is the iteration plus 1.

    Args:
        stepsize: After how many iterations.
        upper_bound_iter: From that one on, no more.
        scale: The factor.

    Raises:
        ValueError: `stepsize` is not positive, or the iteration is not a single number.
    """
    if stepsize < 1:
        raise ValueError(f"WeightScale: stepsize={stepsize} is not positive")
    count = int(number(iteration, "the iteration")) + 1
    factor = scale if count % stepsize == 0 and count < upper_bound_iter else 1.0
    return np.asarray(np.multiply(weights, weights.dtype.type(factor), out=out))


@operator("ClipTensorByScaling", gradient=STOPS)
def clip_tensor_by_scaling(
    x: Array,
    value: Array,
    additional_threshold: Array | None = None,
    *,
    threshold: float = 0.0,
    out: Array | None = None,
) -> Array:
    """X times threshold / value where the value is above the threshold, else X.

    Caffe2: ClipTensorByScaling. With the length of X as the value, X gets no longer than the
    threshold.

    Args:
        threshold: The threshold, above 0; times the third input, if there is one.

    Raises:
        ValueError: The threshold is not positive, or the value is not a single number.
    """
    if not threshold > 0:
        raise ValueError(f"ClipTensorByScaling: threshold={threshold} is not positive")
    most = threshold
    if additional_threshold is not None:
        most *= number(additional_threshold, "the additional threshold")
    length = number(value, "the value")
    ratio = most / length if length > most else 1.0
    return np.asarray(np.multiply(x, x.dtype.type(ratio), out=out))
