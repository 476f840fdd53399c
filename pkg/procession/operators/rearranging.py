"""Images with their numbers in other places: channels shuffled, pixels dealt out to batches."""

from __future__ import annotations

import numpy as np

from procession.operators.arrays import Array
from procession.operators.channels import channels_last
from procession.operators.registry import emit, operator


def _shuffled(operator: str, x: Array, group: int, order: str, back: bool = False) -> Array:
    """The channels laid out with a row for each group, and read column by column; or back."""
    last = channels_last(operator, order)
    if x.ndim < 2:
        raise ValueError(f"{operator}: X is {x.shape}, and has no dimension of channels")
    axis = x.ndim - 1 if last else 1
    channels = x.shape[axis]
    if group < 1 or channels % group:
        raise ValueError(f"{operator}: {channels} channels cannot be cut into {group} groups")
    table = (channels // group, group) if back else (group, channels // group)
    cut = x.reshape(*x.shape[:axis], *table, *x.shape[axis + 1 :])
    return np.array(np.swapaxes(cut, axis, axis + 1), order="C").reshape(x.shape)


@operator("ChannelShuffle", gradient=[emit("ChannelShuffleGradient", "GO0", "GI0")])
def channel_shuffle(x: Array, *, group: int = 1, order: str = "NCHW") -> Array:
    """The first channel of each group, then the second ones, and so on. Caffe2: ChannelShuffle.

    Args:
        group: How many groups the channels are cut into.
        order: Where the channels are, "NCHW" or "NHWC".

    Raises:
        ValueError: The channels cannot be cut into so many groups, or no such order.
    """
    return _shuffled("ChannelShuffle", x, group, order)


@operator("ChannelShuffleGradient")
def channel_shuffle_gradient(dy: Array, *, group: int = 1, order: str = "NCHW") -> Array:
    """The gradient of X: dY with the channels where they were. Caffe2: ChannelShuffleGradient."""
    return _shuffled("ChannelShuffleGradient", dy, group, order, back=True)


def _checked(operator: str, x: Array, pad: int, block_size: int, order: str) -> None:
    if channels_last(operator, order):
        raise ValueError(f"{operator}: the order is 'NCHW', there is no other")
    if x.ndim != 4:
        raise ValueError(f"{operator}: X is {x.shape}, images have four dimensions")
    if pad < 0 or block_size < 1:
        raise ValueError(
            f"{operator}: pad={pad} is negative, or block_size={block_size} not positive"
        )


@operator("SpaceToBatch", gradient=[emit("BatchToSpace", "GO0", "GI0")])
def space_to_batch(x: Array, *, pad: int = 0, block_size: int = 2, order: str = "NCHW") -> Array:
    """Each pixel of a block in a batch of its own: (N, C, H, W) becomes (b * b * N, C, H/b, W/b).

    Caffe2: SpaceToBatch.

    Args:
        pad: How many zeros are put around each image first.
        block_size: How high and wide a block is: the b above.
        order: "NCHW".

    Raises:
        ValueError: X does not have four dimensions, the blocks do not divide it, or another order.
    """
    _checked("SpaceToBatch", x, pad, block_size, order)
    images, channels, height, width = x.shape
    high, wide = height + 2 * pad, width + 2 * pad
    if high % block_size or wide % block_size:
        raise ValueError(
            f"SpaceToBatch: block_size={block_size} does not divide images of {high} x {wide}"
        )
    if pad:
        inner = x
        x = np.zeros((images, channels, high, wide), inner.dtype)
        x[:, :, pad : pad + height, pad : pad + width] = inner
    b = block_size
    cut = x.reshape(images, channels, high // b, b, wide // b, b).transpose(3, 5, 0, 1, 2, 4)
    return np.array(cut, order="C").reshape(b * b * images, channels, high // b, wide // b)


@operator("BatchToSpace", gradient=[emit("SpaceToBatch", "GO0", "GI0")])
def batch_to_space(x: Array, *, pad: int = 0, block_size: int = 2, order: str = "NCHW") -> Array:
    """The images that SpaceToBatch has taken apart. Caffe2: BatchToSpace.

    Args:
        pad: How many pixels are then cut off around each image.
        block_size: How high and wide a block is.
        order: "NCHW".

    Raises:
        ValueError: X does not have four dimensions, its batches are no whole blocks, nothing is
            left of the images, or another order.
    """
    _checked("BatchToSpace", x, pad, block_size, order)
    b = block_size
    batches, channels, height, width = x.shape
    if batches % (b * b):
        raise ValueError(f"BatchToSpace: {batches} batches are no whole blocks of {b} x {b}")
    if min(height, width) * b <= 2 * pad:
        raise ValueError(f"BatchToSpace: with pad={pad} nothing is left of X {x.shape}")
    cut = x.reshape(b, b, batches // (b * b), channels, height, width).transpose(2, 3, 4, 0, 5, 1)
    whole = np.array(cut, order="C").reshape(-1, channels, height * b, width * b)
    return np.array(whole[:, :, pad : height * b - pad, pad : width * b - pad], order="C")
