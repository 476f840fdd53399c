"""Train a convolutional network to read handwritten digits, data-parallel.

python scripts/train_cnn.py [--nodes N] [--epochs N] [--seed N] [--local] [--plot FILE]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lib.training import CHANCE, Arrays, Recipe, digits, main

from procession.train import ModelHelper, add_weight_decay, brew, build_sgd


def build(model: ModelHelper, prefix: str) -> tuple[Any, Any]:
    """Two convolutions of 3 x 3, the largest of each 2 x 2, a third one, and a layer of all."""
    x = brew.conv(model, f"{prefix}image", "conv1", 1, 16, kernel=3, pad=1)
    x = brew.relu(model, x, x)
    x = brew.conv(model, x, "conv2", 16, 32, kernel=3, pad=1)
    x = brew.relu(model, x, x)
    x = brew.max_pool(model, x, "pool", kernel=2, stride=2)
    x = brew.conv(model, x, "conv3", 32, 32, kernel=3, pad=1)
    x = brew.relu(model, x, x)
    scores = brew.fc(model, x, "scores", 32 * 4 * 4, 10)
    return model.net.SoftmaxWithLoss([scores, f"{prefix}label"], ["probabilities", "loss"])


def optimize(model: ModelHelper) -> None:
    """Momentum, in smaller and smaller steps; a little of each weight is taken away.

    Adam divides small gradients by their size, and so makes much of how they were rounded.
    """
    add_weight_decay(model, 0.001)
    build_sgd(model, base_learning_rate=0.1, momentum=0.9, policy="exp", gamma=0.99)


def collate(examples: Arrays) -> tuple[Any, ...]:
    """Images of one channel; to train on, moved by up to one pixel each way."""
    images = examples["image"]
    if CHANCE in examples:
        down, right = (3 * examples[CHANCE]).astype(np.int64).T[:, :, None] + np.arange(8)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
        images = padded[np.arange(len(images))[:, None, None], down[:, :, None], right[:, None]]
    return images[:, None], examples["label"]


RECIPE = Recipe(digits, build, optimize, ("image", "label"), collate)

if __name__ == "__main__":
    main(RECIPE, "Train a convolutional network to read digits.", epochs=20)
