"""For these tests: a few classes of points, a network that tells them apart, and training it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from procession import Workspace
from procession.train import ModelHelper, brew


class Training:
    """A model with two layers, and a workspace that it learns in."""

    def __init__(self, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 3, 48).astype(np.int32)
        centers = np.eye(3, 4, dtype=np.float32) * 2
        self.points = centers[self.labels] + random.normal(0, 0.3, (48, 4)).astype(np.float32)
        self.workspace = Workspace()
        self.workspace.feed_blob("x", self.points)
        self.workspace.feed_blob("label", self.labels)

    def model(self, **arguments: Any) -> ModelHelper:
        """The model, with gradients."""
        made = ModelHelper("mlp", **arguments)
        made.param_init_net.set_rand_seed(7)
        hidden = brew.tanh(made, brew.fc(made, "x", "hidden", 4, 6), "bent")
        out = brew.fc(made, hidden, "out", 6, 3)
        _, self.loss = made.net.SoftmaxWithLoss([out, "label"], ["p", "loss"])
        made.AddGradientOperators([self.loss])
        return made

    def begin(self, model: ModelHelper) -> None:
        self.workspace.run(model.param_init_net)

    def steps(self, model: ModelHelper, count: int) -> list[float]:
        """The loss before each step."""
        losses = []
        for _ in range(count):
            self.workspace.run(model.net)
            losses.append(float(self.fetch("loss").ravel()[0]))
        return losses

    def fetch(self, blob: Any) -> Any:
        return np.array(self.workspace.fetch_blob(str(blob)))


@pytest.fixture
def training() -> Training:
    return Training()


@pytest.fixture
def run() -> Callable[..., Any]:
    """Both nets of a model on these blobs; the values of the blobs that are asked for."""

    def run(model: ModelHelper, wanted: Any, **fed: Any) -> Any:
        workspace = Workspace()
        for name, value in fed.items():
            workspace.feed_blob(name, value)
        workspace.run(model.param_init_net)
        workspace.run(model.net)
        if isinstance(wanted, (list, tuple)):
            return [np.array(workspace.fetch_blob(str(blob))) for blob in wanted]
        return np.array(workspace.fetch_blob(str(wanted)))

    return run
