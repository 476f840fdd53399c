"""Train a network of two layers to read handwritten digits, data-parallel.

python scripts/train_mlp.py [--nodes N] [--epochs N] [--seed N] [--local] [--plot FILE]
"""

from __future__ import annotations

from typing import Any

from lib.training import Arrays, Recipe, digits, main

from procession.train import ModelHelper, brew, build_adam


def build(model: ModelHelper, prefix: str) -> tuple[Any, Any]:
    """64 - 256 - 10."""
    hidden = brew.fc(model, f"{prefix}image", "hidden", 64, 256)
    hidden = brew.relu(model, hidden, hidden)
    scores = brew.fc(model, hidden, "scores", 256, 10)
    return model.net.SoftmaxWithLoss([scores, f"{prefix}label"], ["probabilities", "loss"])


def optimize(model: ModelHelper) -> None:
    """Adam, in smaller and smaller steps."""
    build_adam(model, base_learning_rate=0.02, policy="exp", gamma=0.99)


def collate(examples: Arrays) -> tuple[Any, ...]:
    """Pixels as rows."""
    return examples["image"].reshape(-1, 64), examples["label"]


RECIPE = Recipe(digits, build, optimize, ("image", "label"), collate)

if __name__ == "__main__":
    main(RECIPE, "Train a network of two layers to read digits.", epochs=20)
