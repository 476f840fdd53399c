"""Real Caffe2, in an interpreter that has it."""

from __future__ import annotations

from caffe2.python import core, workspace

from bench.sides import models


class Side:
    """Its one workspace."""

    def step(
        self, budget: float, batch: int, model: str = "mlp", check: bool = False
    ) -> list[float]:
        """One step of SGD: a net that is run by name."""
        workspace.ResetWorkspace()
        net = core.Net("step")
        models.add_step(model, net)
        for name, value in models.blobs(model, batch).items():
            workspace.FeedBlob(name, value)
        workspace.CreateNet(net)
        return models.figures(
            lambda: workspace.RunNet(net), lambda: workspace.FetchBlob("loss"), budget, check
        )

    def close(self) -> None:
        """Nothing to be closed."""
