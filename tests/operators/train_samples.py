"""Samples of what layers of a network are made of besides products; see `samples`."""

import numpy as np
from tests.operators.make import RNG, Sample, f32, of, positive
from tests.operators.train_loss_samples import TRAIN_LOSSES

CHANNELS = (f32(3), f32(3))
RUNNING = (f32(3), positive(3))


def mask(*shape: int) -> np.ndarray:
    return RNG.uniform(size=shape) < 0.5


def batch_norm() -> list[Sample]:
    x = f32(2, 3, 2, 2)
    return [
        of(x, *CHANNELS, *RUNNING, is_test=0, n_outputs=5),
        of(x, *CHANNELS, *RUNNING, is_test=1, n_outputs=1),
        of(f32(4, 3), *CHANNELS, *RUNNING, is_test=0, n_outputs=5),
        of(f32(2, 2, 2, 3), *CHANNELS, *RUNNING, is_test=0, order="NHWC", n_outputs=5),
        of(f32(0, 3, 2, 2), *CHANNELS, *RUNNING, is_test=0, n_outputs=5),
        of(f32(0, 2, 2, 3), *CHANNELS, *RUNNING, is_test=0, order="NHWC", n_outputs=5),
        of(
            x,
            *CHANNELS,
            *RUNNING,
            2 * x.sum(axis=(0, 2, 3)),
            2 * (x * x).sum(axis=(0, 2, 3)),
            is_test=0,
            num_batches=2,
            n_outputs=5,
        ),
    ]


def batch_norm_gradient() -> list[Sample]:
    x = f32(2, 3, 2, 2)
    return [
        of(x, f32(3), f32(2, 3, 2, 2), *RUNNING, is_test=0),
        of(x, f32(3), f32(2, 3, 2, 2), *RUNNING, is_test=1),
        of(f32(2, 2, 3), f32(3), f32(2, 2, 3), *RUNNING, is_test=0, order="NHWC"),
        of(f32(0, 3, 2), f32(3), f32(0, 3, 2), *RUNNING, is_test=0),
        of(x, f32(3), f32(2, 3, 2, 2), *RUNNING, f32(3), f32(3), is_test=0, num_batches=2),
    ]


TRAIN: dict[str, list[Sample]] = {
    "AffineChannel": [
        of(f32(2, 3, 2, 2), *CHANNELS),
        of(f32(2, 3), *CHANNELS),
        of(f32(2, 2, 3), *CHANNELS, order="NHWC"),
        of(f32(0, 3, 2), *CHANNELS, is_learnable=True),
    ],
    "AffineChannelGradient": [
        of(f32(2, 3, 2), f32(3), n_outputs=1),
        of(f32(2, 3, 2), f32(2, 3, 2), f32(3), is_learnable=True, n_outputs=3),
        of(f32(2, 2, 3), f32(2, 2, 3), f32(3), is_learnable=True, order="NHWC", n_outputs=3),
    ],
    "ChannelBackpropStats": [
        of(f32(2, 3, 2, 2), *RUNNING, f32(2, 3, 2, 2)),
        of(f32(2, 2, 3), *RUNNING, f32(2, 2, 3), order="NHWC"),
    ],
    "ChannelStats": [of(f32(2, 3, 2, 2)), of(f32(2, 3)), of(f32(2, 2, 3), order="NHWC")],
    "Dropout": [
        of(f32(4, 3), is_test=0, n_outputs=2),
        of(f32(), is_test=0, ratio=0.0, n_outputs=2),
        of(f32(4, 3), is_test=1, ratio=0.25, n_outputs=1),
    ],
    "DropoutGrad": [of(f32(4, 3), mask(4, 3)), of(f32(4, 3), is_test=1)],
    "GroupNorm": [
        of(f32(2, 4, 2, 2), f32(4), f32(4), group=2, n_outputs=3),
        of(f32(2, 4), f32(4), f32(4), num_groups=1, n_outputs=3),
        of(f32(2, 2, 4), f32(4), f32(4), group=2, order="NHWC", n_outputs=3),
        of(f32(0, 4, 2), f32(4), f32(4), group=2, n_outputs=3),
        of(f32(2, 4, 2), f32(4), f32(4), group=2, is_test=1, n_outputs=1),
    ],
    "GroupNormGradient": [
        of(f32(2, 4, 2), f32(2, 4, 2), f32(4), f32(4), f32(2, 2), positive(2, 2)),
        of(f32(2, 2, 4), f32(2, 2, 4), f32(4), f32(4), f32(2, 1), positive(2, 1), order="NHWC"),
    ],
    "InstanceNorm": [
        of(f32(2, 3, 2, 2), *CHANNELS, n_outputs=3),
        of(f32(2, 4, 3), *CHANNELS, order="NHWC", n_outputs=3),
        of(f32(0, 3, 2, 2), *CHANNELS, n_outputs=3),
    ],
    "InstanceNormGradient": [
        of(f32(2, 3, 4), *CHANNELS, f32(2, 3, 4)),
        of(f32(2, 3, 4), *CHANNELS, f32(2, 3, 4), f32(2, 3), positive(2, 3)),
        of(f32(2, 4, 3), *CHANNELS, f32(2, 4, 3), f32(2, 3), order="NHWC"),
    ],
    "LayerNorm": [
        of(f32(2, 3)),
        of(f32(2, 3, 4), axis=2),
        of(f32(2, 3), f32(3), f32(3), elementwise_affine=True),
        of(f32(2, 3), axis=0),
        of(f32(0, 3)),
    ],
    "LayerNormGradient": [
        of(f32(2, 3), f32(2, 3), f32(2, 1), positive(2, 1), f32(2, 3), n_outputs=1),
        of(
            *(f32(2, 3), f32(2, 3), f32(2, 1), positive(2, 1), f32(2, 3), f32(3)),
            elementwise_affine=True,
            n_outputs=3,
        ),
    ],
    "SpatialBN": batch_norm(),
    "SpatialBNGradient": batch_norm_gradient(),
    **TRAIN_LOSSES,
}
