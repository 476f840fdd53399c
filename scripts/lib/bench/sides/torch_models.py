"""The models of `models`, as torch has them; with the same parameters at the start."""

from __future__ import annotations

import torch
from torch import nn

from bench.sides import models


def module(model: str) -> nn.Module:
    """The way from images to the scores of each class."""
    shapes = models.MODELS[model].shapes.values()
    weighted = [
        nn.Conv2d(shape[1], shape[0], shape[2]) if len(shape) == 4 else nn.Linear(*shape[::-1])
        for shape in shapes
    ]
    layers: list[nn.Module] = []
    for layer in weighted:
        if isinstance(layer, nn.Conv2d):
            layers += [layer, nn.MaxPool2d(2)]
        else:
            layers += [layer, nn.ReLU()]
    first = next(at for at, layer in enumerate(layers) if isinstance(layer, nn.Linear))
    layers.insert(first, nn.Flatten())
    found = nn.Sequential(*layers[:-1])
    values = models.parameters(model).values()
    with torch.no_grad():
        for parameter, value in zip(found.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(value))
    return found


def batch_of(model: str, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and labels as torch takes them."""
    x, label = models.data(model, batch)
    return torch.from_numpy(x), torch.from_numpy(label).long()
