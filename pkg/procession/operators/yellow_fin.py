"""YellowFin: momentum that tunes its own learning rate and momentum."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from procession.operators.arrays import Array, Outs, number
from procession.operators.blocks import alike, by_blocks, constants, results
from procession.operators.optimizer import momentum_step
from procession.operators.registry import STOPS, operator


def _averaged(
    beta: Array,
    rest: Array,
    average: Array,
    square_average: Array,
    gradient: Array,
    after: Array,
    square_after: Array,
    spare: Array | None,
) -> None:
    spare = np.multiply(gradient, rest, spare)
    np.multiply(average, beta, after)
    np.add(after, spare, after)
    np.multiply(spare, gradient, spare)
    np.multiply(square_average, beta, square_after)
    np.add(square_after, spare, square_after)


def _exp(value: float) -> float:
    """As `math.exp`, but without an error for what is too large: gradients may explode."""
    return math.exp(value) if value < 700 else math.inf


def _tuned(
    least: float, largest: float, distance: float, variance: float, epsilon: float
) -> tuple[float, float]:
    """The learning rate and the momentum for these curvatures, distance and variance.

    The momentum is the square of the root x of a cubic, (x - 1) ** 3 = -p * x, but at least
    what the range of curvatures asks for.
    """
    range_ = math.sqrt(largest / least)
    p = (distance * least) ** 2 / (2 * variance)
    w = -(((math.sqrt(p * p + 4 / 27 * p**3) + p) / 2) ** (1 / 3))
    root = min((w - p / (3 * w) if w else 0.0) + 1, 1 - epsilon)
    momentum = max(root, (range_ - 1) / (range_ + 1)) ** 2
    return (1 - math.sqrt(momentum)) ** 2 / least, momentum


@operator("YellowFin", outputs=8, gradient=STOPS, in_place=[(place, place) for place in range(8)])
def yellow_fin(
    parameter: Array,
    moment: Array,
    lr: Array,
    mu: Array,
    curv_win: Array,
    g_avg: Array,
    g2_avg: Array,
    scalars_memory: Array,
    gradient: Array,
    iteration: Array,
    *,
    beta: float = 0.999,
    curv_win_width: int = 20,
    epsilon: float = 1e-6,
    nesterov: int = 0,
    zero_debias: bool = True,
    outs: Outs = None,
) -> tuple[Array, ...]:
    """One step of momentum, and the learning rate and momentum for the next. Caffe2: YellowFin.

    The outputs are the first eight inputs after the step: the parameter, its moment, the averages
    of the learning rate and of the momentum, a window of curvatures (logarithms of the squared
    lengths of gradients), averages of the gradient and of its square, and five more averages that
    the tuner keeps. The first iteration is 1.

    Args:
        beta: How much of an average stays.
        curv_win_width: For how many iterations a curvature is kept.
        epsilon: Keeps divisors from 0.
        nesterov: 1 to look ahead.
        zero_debias: Make up for averages that began with zeros.

    Raises:
        ValueError: The shapes do not fit, the learning rate, the momentum or the iteration is not
            a single number, or the iteration is less than 1.
        TypeError: The dtypes differ, or are not floating-point ones.
    """
    tensors = parameter, moment, g_avg, g2_avg, gradient
    alike("YellowFin", "parameter, moment, average, average of squares, gradient", *tensors)
    step = int(number(iteration, "the iteration"))
    if step < 1 or curv_win.size < curv_win_width or scalars_memory.size != 5:
        raise ValueError(
            f"YellowFin: the iteration {step} must be 1 at least, the curvatures {curv_win.shape} "
            f"must have room for {curv_win_width}, and the averages {scalars_memory.shape} be five"
        )
    dtype = parameter.dtype
    numbers = constants(dtype, beta, 1 - beta)
    vector = gradient.reshape(-1)
    square = max(float(np.dot(vector, vector)), epsilon)
    old_lr, old_mu = number(lr, "the learning rate"), number(mu, "the momentum")
    like = (parameter, moment, lr, mu, curv_win, g_avg, g2_avg, scalars_memory)
    made = results(outs, 8, *like)
    moved, after, lr_after, mu_after, window, average, square_average, memory = made
    momentum_step(gradient, moment, parameter, old_lr, old_mu, nesterov, (after, moved))
    by_blocks(_averaged, numbers, (g_avg, g2_avg, gradient), (average, square_average), 1)

    scale = 1 / (1 - beta**step) if zero_debias else 1.0
    known: list[float] = scalars_memory.reshape(-1).tolist()
    np.copyto(window, curv_win)
    cells = window.reshape(-1)
    cells[(step - 1) % curv_win_width] = math.log(square)
    seen = cells[: min(curv_win_width, step)]
    mean: Callable[[float, float], float] = lambda old, new: beta * old + (1 - beta) * new  # noqa: E731
    length = mean(known[0], math.sqrt(square))
    squares = mean(known[1], square)
    least, largest = mean(known[2], float(seen.min())), mean(known[3], float(seen.max()))
    distance = mean(known[4], length / squares)
    memory.reshape(-1)[:] = length, squares, least, largest, distance
    lr_after[...], mu_after[...] = old_lr, old_mu
    if step > 1:
        mean_gradient = average.reshape(-1)
        spread = squares * scale - float(np.dot(mean_gradient, mean_gradient)) * scale * scale
        tuned = _tuned(
            max(_exp(least * scale), epsilon),
            max(_exp(largest * scale), epsilon),
            distance * scale,
            max(spread, epsilon),
            epsilon,
        )
        lr_after[...], mu_after[...] = mean(old_lr, tuned[0]), mean(old_mu, tuned[1])
    return tuple(made)
