"""The models that all sides train with plain SGD. Also for Caffe2's Python, 3.8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench.sides.timing import timed

CLASSES = 10
RATE = 0.01
CHECKED = 5
"""Of so many steps the losses are compared."""


class Model(NamedTuple):
    """What is trained.

    Attributes:
        image: The shape of an example.
        shapes: Number of a layer -> the shape of its weight.
        add: Adds to a net the way from `x` to `y`.
    """

    image: tuple[int, ...]
    shapes: dict[int, tuple[int, ...]]
    add: Callable[[Any], None]


def _add_mlp(net: Any) -> None:
    net.FC(["x", "w1", "b1"], "h")
    net.Relu("h", "h")
    net.FC(["h", "w2", "b2"], "y")


def _add_cnn(net: Any) -> None:
    net.Conv(["x", "w1", "b1"], "c1", kernel=5)
    net.MaxPool("c1", "p1", kernel=2, stride=2)
    net.Conv(["p1", "w2", "b2"], "c2", kernel=5)
    net.MaxPool("c2", "p2", kernel=2, stride=2)
    net.FC(["p2", "w3", "b3"], "h")
    net.Relu("h", "h")
    net.FC(["h", "w4", "b4"], "y")


MODELS = {
    "mlp": Model((784,), {1: (256, 784), 2: (CLASSES, 256)}, _add_mlp),
    "cnn": Model(
        (1, 28, 28),
        {1: (20, 1, 5, 5), 2: (50, 20, 5, 5), 3: (500, 800), 4: (CLASSES, 500)},
        _add_cnn,
    ),
}
"""784-256-10, and a network like LeNet: two convolutions, each with a pool, and two FCs."""


def data(model: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Some images and their labels."""
    rng = np.random.RandomState(1)
    x = rng.rand(batch, *MODELS[model].image).astype(np.float32)
    return x, rng.randint(0, CLASSES, batch).astype(np.int32)


def parameters(model: str) -> dict[str, np.ndarray]:
    """w1, b1, w2, b2 and so on at the start."""
    rng = np.random.RandomState(2)
    found: dict[str, np.ndarray] = {}
    for number, shape in MODELS[model].shapes.items():
        scale = (2 / np.prod(shape[1:])) ** 0.5
        found[f"w{number}"] = (rng.randn(*shape) * scale).astype(np.float32)
        found[f"b{number}"] = np.zeros(shape[0], np.float32)
    return found


def blobs(model: str, batch: int) -> dict[str, np.ndarray]:
    """What the net reads."""
    x, label = data(model, batch)
    rate, one = np.full(1, -RATE, np.float32), np.ones(1, np.float32)
    return {"x": x, "label": label, "rate": rate, "one": one, **parameters(model)}


def add_step(model: str, net: Any, **options: Any) -> None:
    """Add one step: forward, back, and the update.

    Args:
        model: Which one.
        net: One of Procession's, or of Caffe2's.
        options: For `AddGradientOperators`.
    """
    MODELS[model].add(net)
    net.SoftmaxWithLoss(["y", "label"], ["p", "loss"])
    gradients = net.AddGradientOperators(["loss"], **options)
    for name in parameters(model):
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
