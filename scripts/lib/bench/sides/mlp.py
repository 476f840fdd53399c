"""The model that all sides train: 784-256-10, plain SGD. Also for Caffe2's Python, 3.8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.sides.timing import timed

SIZES = (784, 256, 10)
RATE = 0.01
CHECKED = 5
"""Of so many steps the losses are compared."""


def data(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Some images and their labels."""
    rng = np.random.RandomState(1)
    x = rng.rand(batch, SIZES[0]).astype(np.float32)
    return x, rng.randint(0, SIZES[-1], batch).astype(np.int32)


def parameters() -> dict[str, np.ndarray]:
    """w1, b1, w2 and b2 at the start."""
    rng = np.random.RandomState(2)
    found: dict[str, np.ndarray] = {}
    for number in (1, 2):
        inside, outside = SIZES[number - 1 : number + 1]
        scale = (2 / inside) ** 0.5
        found[f"w{number}"] = (rng.randn(outside, inside) * scale).astype(np.float32)
        found[f"b{number}"] = np.zeros(outside, np.float32)
    return found


def blobs(batch: int) -> dict[str, np.ndarray]:
    """What the net reads."""
    x, label = data(batch)
    rate, one = np.full(1, -RATE, np.float32), np.ones(1, np.float32)
    return {"x": x, "label": label, "rate": rate, "one": one, **parameters()}


def add_step(net: Any, **options: Any) -> None:
    """Add one step: forward, back, and the update.

    Args:
        net: One of Procession's, or of Caffe2's.
        options: For `AddGradientOperators`.
    """
    net.FC(["x", "w1", "b1"], "h")
    net.Relu("h", "h")
    net.FC(["h", "w2", "b2"], "y")
    net.SoftmaxWithLoss(["y", "label"], ["p", "loss"])
    gradients = net.AddGradientOperators(["loss"], **options)
    for name in parameters():
        net.WeightedSum([name, "one", gradients[name], "rate"], name)


def figures(
    step: Callable[[], Any], loss: Callable[[], Any], budget: float, check: bool
) -> list[float]:
    """Seconds of each step; or, to `check` that all sides do the same, the first losses."""
    if not check:
        return timed(step, budget)
    found = []
    for _ in range(CHECKED):
        step()
        found.append(float(loss()))
    return found
