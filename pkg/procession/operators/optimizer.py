"""What changes parameters: learning rates, weighted sums, momentum."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from procession.errors import BlobNotFoundError, did_you_mean
from procession.operators.arrays import Array, number
from procession.operators.registry import REQUIRED, STOPS, Context, Rules, emit, operator


@operator("Iter", gradient=STOPS)
def iter_(count: Array | None = None, *, context: Context) -> Array:
    """The count plus 1; write it over its input to count. Caffe2: Iter.

    Without an input it counts in its output, from 0 if that is not there: int64, of shape (1,).
    """
    workspace = context.workspace
    if count is not None:
        return np.asarray(count + count.dtype.type(1))
    if workspace is not None:
        # A count that is lost is not one that has not begun.
        with contextlib.suppress(BlobNotFoundError):
            present = workspace.fetch_blob(context.outputs[0])
            return np.asarray(present + present.dtype.type(1))
    return np.ones(1, np.int64)


_POLICIES = ("fixed", "step", "exp", "inv", "poly", "linearWarmup", "constantWarmup")


def _required(policy: str, name: str, value: float | None) -> float:
    if value is None:
        raise ValueError(f"LearningRate: the policy {policy!r} needs the argument {name!r}")
    return value


@operator("LearningRate", gradient=STOPS)
def learning_rate(
    iteration: Array,
    *,
    base_lr: float = REQUIRED,
    policy: str = REQUIRED,
    gamma: float | None = None,
    power: float | None = None,
    stepsize: int | None = None,
    max_iter: int | None = None,
    num_iter: int | None = None,
    start_multiplier: float | None = None,
    multiplier: float | None = None,
) -> Array:
    """The learning rate of an iteration, float32 of shape (). Caffe2: LearningRate.

    Operators such as WeightedSum add it times the gradient: `base_lr` is negative, then.

    Args:
        base_lr: What everything below is multiplied with.
        policy: How it changes with the iteration i.
            "fixed": not at all.
            "step": gamma ** (i // stepsize).
            "exp": gamma ** i.
            "inv": (1 + gamma * i) ** -power.
            "poly": (1 - i / max_iter) ** power, and 0 after `max_iter`.
            "linearWarmup": from `start_multiplier` up to 1, reached after `num_iter`.
            "constantWarmup": `multiplier` for `num_iter` iterations, then 1.
        gamma: See `policy`; the others likewise.
        power: See `policy`.
        stepsize: See `policy`.
        max_iter: See `policy`.
        num_iter: See `policy`.
        start_multiplier: See `policy`.
        multiplier: See `policy`.

    Raises:
        ValueError: No such policy, an argument that it needs is missing, or the iteration is
            not a single number.
    """
    i = int(number(iteration, "the iteration"))
    if policy == "fixed":
        factor = 1.0
    elif policy == "step":
        size = int(_required(policy, "stepsize", stepsize))
        if size < 1:
            raise ValueError(f"LearningRate: stepsize={stepsize} is not positive")
        factor = _required(policy, "gamma", gamma) ** (i // size)
    elif policy == "exp":
        factor = _required(policy, "gamma", gamma) ** i
    elif policy == "inv":
        base = 1 + _required(policy, "gamma", gamma) * i
        factor = base ** -_required(policy, "power", power)
    elif policy == "poly":
        left = max(1 - i / _required(policy, "max_iter", max_iter), 0.0)
        factor = left ** _required(policy, "power", power)
    elif policy == "linearWarmup":
        start = _required(policy, "start_multiplier", start_multiplier)
        done = min(i / _required(policy, "num_iter", num_iter), 1.0)
        factor = start + (1 - start) * done
    elif policy == "constantWarmup":
        start = _required(policy, "multiplier", multiplier)
        factor = start if i < _required(policy, "num_iter", num_iter) else 1.0
    else:
        raise ValueError(
            f"LearningRate: {policy!r} is not a policy.{did_you_mean(policy, _POLICIES)}"
            f" There are {', '.join(_POLICIES)}."
        )
    return np.array(base_lr * factor, dtype=np.float32)


def _weighted_sum_rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    terms = range(0, inputs, 2)
    if arguments["grad_on_w"]:
        each = " ".join(f"I{index}" for index in range(inputs))
        made = [f"GI{index}" for index in terms] + [f"GI{index + 1}" for index in terms]
        return [emit("WeightedSumGradient", f"GO0 {each}", " ".join(made))]
    # dX is dY times the weight of X: a weighted sum, too, of one term.
    return [emit("WeightedSum", f"GO0 I{index + 1}", f"GI{index}") for index in terms]


@operator("WeightedSum", gradient=_weighted_sum_rules)
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
    if len(more_x_and_weight) % 2:
        raise ValueError(f"{2 + len(more_x_and_weight)} inputs: they come in pairs, X and weight")
    terms = [(x, weight), *zip(more_x_and_weight[::2], more_x_and_weight[1::2], strict=True)]
    numbers = []
    for index, (each, factor) in enumerate(terms):
        if each.shape != x.shape:
            raise ValueError(f"input {2 * index} is {each.shape}, input 0 is {x.shape}")
        numbers.append(x.dtype.type(number(factor, f"the weight of input {2 * index}")))
    # The first term would overwrite a later one that lies where the result goes.
    if out is None or any(np.may_share_memory(out, each) for each, _ in terms[1:]):
        total = np.empty(x.shape, x.dtype)
    else:
        total = out
    if total is not x or numbers[0] != 1:
        np.multiply(x, numbers[0], out=total)
    for (each, _), factor in zip(terms[1:], numbers[1:], strict=True):
        np.add(total, np.multiply(each, factor, dtype=x.dtype), out=total)
    if out is None or total is out:
        return total
    np.copyto(out, total)
    return out


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


def _momentum(
    gradient: Array, velocity: Array, lr: Array, momentum: float, nesterov: int
) -> tuple[Array, Array]:
    if gradient.shape != velocity.shape:
        raise ValueError(f"the gradient is {gradient.shape}, its momentum {velocity.shape}")
    number_of = gradient.dtype.type
    decay, rate = number_of(momentum), number_of(number(lr, "the learning rate"))
    after = np.asarray(velocity * decay + gradient * rate, dtype=gradient.dtype)
    if not nesterov:
        return after.copy(), after
    return np.asarray(after * (number_of(1) + decay) - velocity * decay), after


@operator("MomentumSGD", outputs=2, gradient=STOPS)
def momentum_sgd(
    gradient: Array, velocity: Array, lr: Array, *, momentum: float = 0.0, nesterov: int = 0
) -> tuple[Array, Array]:
    """One step of momentum: the change of the parameter, and its velocity. Caffe2: MomentumSGD.

    The velocity becomes `momentum` * velocity + lr * gradient, and the change (to be
    subtracted from the parameter) is the same, or with `nesterov` what the velocity will be
    one step ahead.

    Args:
        momentum: How much of the velocity stays.
        nesterov: 1 to look ahead.

    Raises:
        ValueError: The shapes differ, or the learning rate is not a single number.
    """
    return _momentum(gradient, velocity, lr, momentum, nesterov)


@operator("MomentumSGDUpdate", outputs=3, gradient=STOPS)
def momentum_sgd_update(
    gradient: Array,
    velocity: Array,
    lr: Array,
    parameter: Array,
    *,
    momentum: float = 0.0,
    nesterov: int = 0,
) -> tuple[Array, Array, Array]:
    """MomentumSGD, and the parameter minus the change as a third output.

    Caffe2: MomentumSGDUpdate.

    Raises:
        ValueError: As MomentumSGD.
    """
    if parameter.shape != gradient.shape:
        raise ValueError(f"the gradient is {gradient.shape}, its parameter {parameter.shape}")
    change, after = _momentum(gradient, velocity, lr, momentum, nesterov)
    return change, after, np.asarray(parameter - change)
