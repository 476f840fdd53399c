"""Learning rate policies: functions of their arguments that return another, of the iteration.

Which arguments a policy has, and what they are if they are not given, its own signature says.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from procession.errors import did_you_mean

Schedule = Callable[[int], float]

_LONG = 10_000_000
"""Iterations of a warmup that nobody said the length of."""


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"LearningRate: {name}={value} is not positive")


def _fixed() -> Schedule:
    return lambda i: 1.0


def _alter(*, active_period: int, inactive_period: int, active_first: bool = True) -> Schedule:
    length = active_period + inactive_period
    _positive(**{"active_period + inactive_period": length})
    first = active_period if active_first else inactive_period
    return lambda i: float((i % length < first) == bool(active_first))


def _step(*, stepsize: int, gamma: float) -> Schedule:
    _positive(stepsize=stepsize)
    return lambda i: gamma ** (i // stepsize)


def _exp(*, gamma: float) -> Schedule:
    return lambda i: gamma**i


def _gate(*, multiplier_1: float = 1.0, multiplier_2: float = 1.0, num_iter: int = 0) -> Schedule:
    return lambda i: multiplier_1 if i < num_iter else multiplier_2


def _inv(*, gamma: float, power: float) -> Schedule:
    return lambda i: (1 + gamma * i) ** -power


def _poly(*, max_iter: int, power: float) -> Schedule:
    _positive(max_iter=max_iter)
    return lambda i: max(1 - i / max_iter, 0.0) ** power


def _linear_warmup(*, start_multiplier: float = 0.0, num_iter: int = 0) -> Schedule:
    return lambda i: (
        start_multiplier + (1 - start_multiplier) * i / num_iter if i < num_iter else 1.0
    )


def _constant_warmup(*, multiplier: float = 0.5, num_iter: int = 0) -> Schedule:
    return lambda i: multiplier if i < num_iter else 1.0


def _piece_warmup(
    *, m1: float = 0.5, n1: int = 0, m2: float = 0.5, n2: int = 0, m3: float = 0.5
) -> Schedule:
    return lambda i: m1 if i < n1 else m2 if i < n2 else m3


def _hill(
    *,
    num_iter: int,
    gamma: float,
    power: float,
    start_multiplier: float = 0.0,
    end_multiplier: float = 0.0,
) -> Schedule:
    up = _linear_warmup(start_multiplier=start_multiplier, num_iter=num_iter)
    down = _inv(gamma=gamma, power=power)
    return lambda i: up(i) if i < num_iter else max(end_multiplier, down(i - num_iter))


def _slope(
    *, num_iter_1: int, num_iter_2: int, multiplier_1: float = 0.0, multiplier_2: float = 0.0
) -> Schedule:
    _positive(**{"num_iter_2 - num_iter_1": num_iter_2 - num_iter_1})
    slope = (multiplier_2 - multiplier_1) / (num_iter_2 - num_iter_1)

    def factor(i: int) -> float:
        if i < num_iter_1:
            return multiplier_1
        return max(multiplier_2, multiplier_1 + (i - num_iter_1) * slope)

    return factor


def _cyclical(
    *, base_lr: float, stepsize: int, max_lr: float = 0.005, decay: float = 1.0
) -> Schedule:
    _positive(stepsize=stepsize)
    over = abs(max_lr / base_lr) - 1

    def factor(i: int) -> float:
        cycle, place = divmod(i, 2 * stepsize)
        height = 1 - abs(place / stepsize - 1)
        return 1 + over * height * decay**cycle

    return factor


def _cosine(
    *,
    max_lr: float = 0.5,
    min_lr: float = 0.1,
    period: int = 50,
    t_mult: float = 1.0,
    lr_shrink: float = 0.99,
) -> Schedule:
    _positive(period=period, t_mult=t_mult)

    def factor(i: int) -> float:
        if t_mult == 1:
            which, place = divmod(i, period)
            length = float(period)
        else:
            # The periods are a geometric series: which of its sums comes next?
            which = math.floor(math.log(1 + i / period * (t_mult - 1), t_mult))
            length = t_mult**which * period
            place = i - (length - period) / (t_mult - 1)  # type: ignore[assignment]
        middle = (1 + math.cos(math.pi * place / length)) / 2
        return float((min_lr + (max_lr - min_lr) * middle) * lr_shrink**which)

    return factor


def _constant_then_linear_warmup(
    *,
    start_warmup_multiplier: float = 0.1,
    constant_warmup_num_iter: int = _LONG,
    linear_warmup_num_iter: int = _LONG,
) -> Schedule:
    up = _linear_warmup(start_multiplier=start_warmup_multiplier, num_iter=linear_warmup_num_iter)
    return lambda i: up(max(0, i - constant_warmup_num_iter))


def _warmed_up(then: Schedule, **warmup: Any) -> Schedule:
    before = _constant_then_linear_warmup(**warmup)
    length = warmup["constant_warmup_num_iter"] + warmup["linear_warmup_num_iter"]
    return lambda i: before(i) if i < length else then(i - length)


def _composite_cyclical(
    *,
    base_lr: float,
    start_warmup_multiplier: float = 0.1,
    constant_warmup_num_iter: int = _LONG,
    linear_warmup_num_iter: int = _LONG,
    cyclical_max_lr: float = 0.05,
    cyclical_step_size: int = 1_000_000,
    cyclical_decay: float = 1.0,
) -> Schedule:
    return _warmed_up(
        _cyclical(
            base_lr=base_lr,
            max_lr=cyclical_max_lr,
            stepsize=cyclical_step_size,
            decay=cyclical_decay,
        ),
        start_warmup_multiplier=start_warmup_multiplier,
        constant_warmup_num_iter=constant_warmup_num_iter,
        linear_warmup_num_iter=linear_warmup_num_iter,
    )


def _composite_cosine(
    *,
    start_warmup_multiplier: float = 0.1,
    constant_warmup_num_iter: int = _LONG,
    linear_warmup_num_iter: int = _LONG,
    cosine_max_lr: float = 0.5,
    cosine_min_lr: float = 0.1,
    cosine_period: int = 50,
    cosine_t_mult: float = 1.0,
    cosine_lr_shrink: float = 0.99,
) -> Schedule:
    return _warmed_up(
        _cosine(
            max_lr=cosine_max_lr,
            min_lr=cosine_min_lr,
            period=cosine_period,
            t_mult=cosine_t_mult,
            lr_shrink=cosine_lr_shrink,
        ),
        start_warmup_multiplier=start_warmup_multiplier,
        constant_warmup_num_iter=constant_warmup_num_iter,
        linear_warmup_num_iter=linear_warmup_num_iter,
    )


_POLICIES: Mapping[str, Callable[..., Schedule]] = {
    "fixed": _fixed,
    "alter": _alter,
    "step": _step,
    "exp": _exp,
    "gate": _gate,
    "inv": _inv,
    "poly": _poly,
    "linearWarmup": _linear_warmup,
    "constantWarmup": _constant_warmup,
    "pieceWarmup": _piece_warmup,
    "hill": _hill,
    "slope": _slope,
    "cyclical": _cyclical,
    "cosine": _cosine,
    "constantThenLinearWarmup": _constant_then_linear_warmup,
    "compositeCyclical": _composite_cyclical,
    "compositeCosine": _composite_cosine,
}


def _policy(name: str, given: Mapping[str, Any], prefix: str = "") -> Schedule:
    """The policy of that name, with those of the given arguments that are its own."""
    if name not in _POLICIES:
        raise ValueError(
            f"LearningRate: {name!r} is not a policy.{did_you_mean(name, _POLICIES)}"
            f" There are {', '.join(_POLICIES)}, composite."
        )
    values = {}
    for each in inspect.signature(_POLICIES[name]).parameters.values():
        # A part of a composite has its own arguments, but for the one that is everybody's.
        argument = each.name if each.name == "base_lr" else prefix + each.name
        value = given.get(argument)
        if value is not None:
            values[each.name] = value
        elif each.default is each.empty:
            raise ValueError(f"LearningRate: the policy {name!r} needs the argument {argument!r}")
    return _POLICIES[name](**values)


def _composite(lengths: Sequence[int], given: Mapping[str, Any]) -> Schedule:
    """Policies that take turns; the last one stays."""
    if not lengths or min(lengths) < 1:
        raise ValueError(
            "LearningRate: the policy 'composite' needs the argument 'sub_policy_num_iters', a "
            f"positive number of iterations for each of its policies, not {list(lengths)}"
        )
    parts, end = [], 1
    for index, length in enumerate(lengths):
        prefix = f"sub_policy_{index}_"
        name = given.get(f"{prefix}policy")
        if name is None or name == "composite":
            raise ValueError(
                f"LearningRate: '{prefix}policy' must be a policy other than 'composite', not "
                f"{name!r}"
            )
        scale = given.get(f"{prefix}lr_scale")
        end += length
        parts.append((end, 1.0 if scale is None else scale, _policy(name, given, prefix)))

    def factor(i: int) -> float:
        current = next((part for part in parts if i < part[0]), parts[-1])
        return float(current[1] * current[2](i))

    return factor


_NAMES = tuple(
    """
    base_lr policy gamma power stepsize max_iter num_iter start_multiplier multiplier
    end_multiplier multiplier_1 multiplier_2 num_iter_1 num_iter_2 m1 n1 m2 n2 m3 active_first
    active_period inactive_period max_lr decay min_lr period t_mult lr_shrink
    start_warmup_multiplier constant_warmup_num_iter linear_warmup_num_iter cyclical_max_lr
    cyclical_step_size cyclical_decay cosine_max_lr cosine_min_lr cosine_period cosine_t_mult
    cosine_lr_shrink sub_policy_num_iters
    """.split()  # noqa: SIM905
)


@lru_cache(maxsize=256)
def schedule(*values: Any) -> Schedule:
    """What a policy makes of an iteration; the values are those of `_NAMES`, then whole items."""
    given = dict(zip(_NAMES, values, strict=False))
    given.update(values[len(_NAMES) :])
    if given["policy"] == "composite":
        return _composite(given["sub_policy_num_iters"] or (), given)
    return _policy(given["policy"], given)
