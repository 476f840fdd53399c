"""How fast to learn: the count of iterations, the learning rate of each, and what adapts it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from procession.errors import BlobNotFoundError
from procession.operators.arrays import Array, number
from procession.operators.blocks import alike
from procession.operators.registry import REQUIRED, STOPS, Context, operator
from procession.operators.schedules import schedule


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
    end_multiplier: float | None = None,
    multiplier_1: float | None = None,
    multiplier_2: float | None = None,
    num_iter_1: int | None = None,
    num_iter_2: int | None = None,
    m1: float | None = None,
    n1: int | None = None,
    m2: float | None = None,
    n2: int | None = None,
    m3: float | None = None,
    active_first: bool | None = None,
    active_period: int | None = None,
    inactive_period: int | None = None,
    max_lr: float | None = None,
    decay: float | None = None,
    min_lr: float | None = None,
    period: int | None = None,
    t_mult: float | None = None,
    lr_shrink: float | None = None,
    start_warmup_multiplier: float | None = None,
    constant_warmup_num_iter: int | None = None,
    linear_warmup_num_iter: int | None = None,
    cyclical_max_lr: float | None = None,
    cyclical_step_size: int | None = None,
    cyclical_decay: float | None = None,
    cosine_max_lr: float | None = None,
    cosine_min_lr: float | None = None,
    cosine_period: int | None = None,
    cosine_t_mult: float | None = None,
    cosine_lr_shrink: float | None = None,
    sub_policy_num_iters: Sequence[int] | None = None,
    out: Array | None = None,
    **sub_policy_: Any,
) -> Array:
    """The learning rate of an iteration, float32 of shape (). Caffe2: LearningRate.

    Operators such as WeightedSum add it times the gradient: `base_lr` is negative, then.

    Args:
        base_lr: What everything below is multiplied with.
        policy: How it changes with the iteration i. What stands in brackets is what an argument is
            if it is not given; those without brackets must be.
            "fixed": not at all.
            "alter": 1 for `active_period` iterations, then 0 for `inactive_period`, and so on; 0
            first unless `active_first` (True).
            "step": gamma ** (i // stepsize).
            "exp": gamma ** i.
            "gate": `multiplier_1` (1) for `num_iter` (0) iterations, then `multiplier_2` (1).
            "inv": (1 + gamma * i) ** -power.
            "poly": (1 - i / max_iter) ** power, and 0 after `max_iter`.
            "linearWarmup": from `start_multiplier` (0) up to 1, reached after `num_iter` (0).
            "constantWarmup": `multiplier` (0.5) for `num_iter` (0) iterations, then 1.
            "pieceWarmup": `m1` (0.5) before iteration `n1` (0), then `m2` (0.5) before `n2` (0),
            then `m3` (0.5).
            "hill": up as "linearWarmup" for `num_iter`, from `start_multiplier` (0), then down as
            "inv" with `gamma` and `power`, not below `end_multiplier` (0).
            "slope": `multiplier_1` (0) for `num_iter_1` iterations, then along a line that
            reaches `multiplier_2` (0) at `num_iter_2`, and no further down.
            "cyclical": up to `max_lr` (0.005) and back again, each in `stepsize` iterations; what
            it rises by is multiplied with `decay` (1) after each cycle. The sign is `base_lr`'s.
            "cosine": half a cosine wave from `max_lr` (0.5) down to `min_lr` (0.1) in `period` (50)
            iterations, then again from the top: with a period `t_mult` (1) times as long, and
            both rates `lr_shrink` (0.99) times as large.
            "constantThenLinearWarmup": `start_warmup_multiplier` (0.1) for
            `constant_warmup_num_iter` (10000000) iterations, then up to 1 in
            `linear_warmup_num_iter` (10000000).
            "compositeCyclical", "compositeCosine": such a warmup, then "cyclical" or "cosine"
            with the arguments that begin with `cyclical` or `cosine`.
            "composite": policies that take turns; see `sub_policy_num_iters`.
        gamma: See `policy`; the others likewise.
        power: See `policy`.
        stepsize: See `policy`.
        max_iter: See `policy`.
        num_iter: See `policy`.
        start_multiplier: See `policy`.
        multiplier: See `policy`.
        end_multiplier: See `policy`.
        multiplier_1: See `policy`.
        multiplier_2: See `policy`.
        num_iter_1: See `policy`.
        num_iter_2: See `policy`.
        m1: See `policy`.
        n1: See `policy`.
        m2: See `policy`.
        n2: See `policy`.
        m3: See `policy`.
        active_first: See `policy`.
        active_period: See `policy`.
        inactive_period: See `policy`.
        max_lr: See `policy`.
        decay: See `policy`.
        min_lr: See `policy`.
        period: See `policy`.
        t_mult: See `policy`.
        lr_shrink: See `policy`.
        start_warmup_multiplier: See `policy`.
        constant_warmup_num_iter: See `policy`.
        linear_warmup_num_iter: See `policy`.
        cyclical_max_lr: "cyclical" after a warmup: as `max_lr`, but 0.05 if not given.
        cyclical_step_size: Likewise as `stepsize`, but 1000000.
        cyclical_decay: Likewise as `decay`.
        cosine_max_lr: "cosine" after a warmup: as `max_lr`.
        cosine_min_lr: As `min_lr`.
        cosine_period: As `period`.
        cosine_t_mult: As `t_mult`.
        cosine_lr_shrink: As `lr_shrink`.
        sub_policy_num_iters: For how many iterations each policy of a "composite" is in force,
            beginning with iteration 1; the last one stays.
        sub_policy_: `sub_policy_0_policy` is the first policy of a "composite",
            `sub_policy_0_gamma` and the like are its arguments, `sub_policy_0_lr_scale` (1) is a
            factor besides; then come `sub_policy_1_policy` and so on. They all get the whole
            count of iterations.

    Raises:
        ValueError: No such policy, an argument that it needs is missing, or the iteration is
            not a single number.
    """
    if out is not None and policy == "fixed":
        # It was looked at when `out` was made, and training does this in each step.
        out[...] = base_lr
        return out
    turns = None if sub_policy_num_iters is None else tuple(map(int, sub_policy_num_iters))
    factor = schedule(
        *(base_lr, policy, gamma, power, stepsize, max_iter, num_iter, start_multiplier),
        *(multiplier, end_multiplier, multiplier_1, multiplier_2, num_iter_1, num_iter_2),
        *(m1, n1, m2, n2, m3, active_first, active_period, inactive_period, max_lr, decay),
        *(min_lr, period, t_mult, lr_shrink, start_warmup_multiplier, constant_warmup_num_iter),
        *(linear_warmup_num_iter, cyclical_max_lr, cyclical_step_size, cyclical_decay),
        *(cosine_max_lr, cosine_min_lr, cosine_period, cosine_t_mult, cosine_lr_shrink),
        *(turns, *sub_policy_.items()),
    )
    rate = base_lr * factor(int(number(iteration, "the iteration")))
    if out is None:
        return np.array(rate, np.float32)
    out[...] = rate
    return out


@operator("LearningRateAdaption", gradient=STOPS)
def learning_rate_adaption(
    lr: Array,
    gradient: Array,
    effective: Array,
    *,
    lr_alpha: float = 0.01,
    normalized_lr_adaption: bool = True,
) -> Array:
    """The learning rate after a step of gradient descent of its own. Caffe2: LearningRateAdaption.

    Where the gradient and the effective gradient (the direction in which an optimizer went) agree,
    the learning rate becomes smaller by `lr_alpha` times their product: the learning rate is a
    negative number.

    Args:
        lr_alpha: The learning rate of the learning rate.
        normalized_lr_adaption: Take the cosine of the angle between the two instead of their
            product, and change the learning rate by a part of itself.

    Raises:
        ValueError: The gradients differ in shape, or the learning rate is not a single number.
        TypeError: They differ in dtype.
    """
    alike("LearningRateAdaption", "gradient, effective gradient", gradient, effective)
    rate = number(lr, "the learning rate")
    one, other = gradient.reshape(-1), effective.reshape(-1)
    product = float(np.dot(one, other))
    if normalized_lr_adaption:
        lengths = [max(math.sqrt(float(np.dot(each, each))), 1e-12) for each in (one, other)]
        rate *= 1 - lr_alpha * product / (lengths[0] * lengths[1])
    else:
        rate -= lr_alpha * product
    return np.full(lr.shape, rate, lr.dtype)


@operator("Lars", gradient=STOPS)
def lars(
    x: Array,
    dx: Array,
    weight_decay: Array,
    trust: Array,
    lr_max: Array,
    *,
    offset: float = 0.5,
    lr_min: float = 0.02,
) -> Array:
    """A learning rate for one parameter, by its length and its gradient's. Caffe2: Lars.

    It is trust / (|dX| / |X| + weight decay + offset), or 1 for a parameter of zeros, and always
    between `lr_min` and the last input; of shape (1,).

    Args:
        offset: See above; not negative.
        lr_min: The least that it may be; not negative.

    Raises:
        ValueError: The shapes differ, an argument is negative, or one of the last three inputs is
            not a single number.
        TypeError: The dtypes differ.
    """
    alike("Lars", "parameter, gradient", x, dx)
    if offset < 0 or lr_min < 0:
        raise ValueError(f"Lars: offset={offset} and lr_min={lr_min} must not be negative")
    decay, trusted = number(weight_decay, "the weight decay"), number(trust, "the trust")
    one, other = x.reshape(-1), dx.reshape(-1)
    length = math.sqrt(float(np.dot(one, one)))
    rate = 1.0
    if length > 0:
        rate = trusted / (math.sqrt(float(np.dot(other, other))) / length + decay + offset)
    return np.array([max(min(rate, number(lr_max, "the largest rate")), lr_min)], x.dtype)
