"""Records SpatialBN, LayerNorm and their kin, LRN and Dropout, with a Python that has Caffe2.

python -m tests.operators.record.normalization
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, run

RNG = np.random.RandomState(23)
NHWC = {"order": "NHWC"}
AWAY = np.float32(5)
"""A mean that is far from 0, for a standard deviation of about 1."""


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


def batch(id, x, arguments, test=False):
    """SpatialBN in training or in a test, and its gradient."""
    channels = x.shape[-1 if arguments.get("order") == "NHWC" else 1]
    arguments = dict(arguments, is_test=int(test))
    inputs = [x, positive(channels), floats(channels), floats(channels), positive(channels)]
    in_place = {} if test else {1: 3, 2: 4}
    forward = Case(id, "SpatialBN", inputs, arguments, 1 if test else 5, in_place)
    saved = inputs[3:] if test else run(forward)[3:]
    given = [x, inputs[1], floats(*x.shape), *saved]
    yield forward
    # Caffe2 has no gradient for rows, and that of a test takes the mean for one of X.
    if x.ndim > 2 and not test:
        yield Case(id + " gradient", "SpatialBNGradient", given, arguments, 3)


def several():
    """What is done where a batch is spread over two places."""
    x, channels = floats(3, 4, 2, 2), 4
    inputs = [x, positive(4), floats(4), floats(4), positive(4)]
    inputs += [2 * x.sum(axis=(0, 2, 3)), 2 * (x * x).sum(axis=(0, 2, 3))]
    arguments = {"is_test": 0, "num_batches": 2}
    forward = Case("two batches", "SpatialBN", inputs, arguments, 5, {1: 3, 2: 4})
    mean, inverse = run(forward)[3:]
    dy = floats(*x.shape)
    given = [x, inputs[1], dy, mean, inverse, floats(channels), floats(channels)]
    yield forward
    # It writes over the last two of its inputs.
    in_place = {1: 5, 2: 6}
    yield Case("two batches' gradient", "SpatialBNGradient", given, arguments, 3, in_place)
    yield Case("sums", "ChannelStats", [x], {}, 2)
    yield Case("sums' gradient", "ChannelBackpropStats", [x, mean, inverse, dy], {}, 2)


def layer(id, shape, arguments, affine=0):
    x = floats(*shape)
    inputs = [x, positive(affine), floats(affine)] if affine else [x]
    forward = Case(id, "LayerNorm", inputs, arguments, 3)
    given = [floats(*shape), *run(forward), x, *inputs[1:2]]
    yield forward
    yield Case(id + " gradient", "LayerNormGradient", given, arguments, 3 if affine else 1)


def instance(id, shape, arguments):
    channels = shape[-1 if arguments.get("order") == "NHWC" else 1]
    inputs = [floats(*shape), positive(channels), floats(channels)]
    forward = Case(id, "InstanceNorm", inputs, arguments, 3)
    saved = run(forward)[1:]
    dy = floats(*shape)
    yield forward
    yield Case(id + " gradient", "InstanceNormGradient", [*inputs, dy, *saved], arguments, 3)
    yield Case(id + " gradient anew", "InstanceNormGradient", [*inputs, dy], arguments, 3)


def group(id, shape, arguments):
    channels = shape[-1 if arguments.get("order") == "NHWC" else 1]
    inputs = [floats(*shape), positive(channels), floats(channels)]
    forward = Case(id, "GroupNorm", inputs, arguments, 3)
    given = [floats(*shape), *inputs, *run(forward)[1:]]
    yield forward
    yield Case(id + " gradient", "GroupNormGradient", given, arguments, 3)


def response(id, shape, arguments):
    x = floats(*shape)
    forward = Case(id, "LRN", [x], arguments, 2)
    yield forward
    given = [x, run(forward)[0], floats(*shape)]
    yield Case(id + " gradient", "LRNGradient", given, arguments, 1)


def cases():
    yield from batch("images", floats(3, 4, 2, 3), {"momentum": 0.7, "epsilon": 1e-3})
    yield from batch("rows", floats(6, 5), {})
    yield from batch("channels last", floats(3, 2, 3, 4), NHWC)
    yield from batch("one dimension", floats(3, 4, 5), {})
    yield from batch("far", floats(6, 4, 3, 3) + AWAY, {})
    yield from batch("test", floats(3, 4, 2, 3), {"epsilon": 1e-3}, test=True)
    yield from batch("test, channels last", floats(3, 2, 3, 4), NHWC, test=True)
    yield from several()
    yield from layer("layer", (4, 6), {})
    yield from layer("layer of last", (2, 3, 4), {"axis": -1, "epsilon": 0.1})
    yield from layer("affine", (4, 6), {"elementwise_affine": True}, 6)
    yield from layer("affine inside", (2, 3, 2, 2), {"axis": 2, "elementwise_affine": True}, 4)
    yield from instance("instance", (2, 3, 3, 2), {})
    yield from instance("instance, last", (2, 3, 2, 4), dict(NHWC, epsilon=0.1))
    yield from group("groups", (2, 6, 3, 2), {"group": 3})
    yield from group("group, last", (2, 3, 2, 4), dict(NHWC, group=2, epsilon=0.1))
    yield from group("group of rows", (3, 6), {"group": 2})
    yield from response("near", (2, 5, 2, 3), {"size": 3, "alpha": 0.3, "beta": 0.7, "bias": 2.0})
    yield from response("even", (2, 6, 2, 1), {"size": 4, "alpha": 0.3, "beta": 0.7})
    last = {"size": 3, "alpha": 0.3, "beta": 0.7}
    yield from response("response, last", (2, 2, 3, 5), dict(last, **NHWC))
    for id, arguments, size in (("root", {}, 12), ("root inside", {"axis": 2, "eps": 0.1}, 4)):
        inputs = [floats(2, 3, 4), positive(size), floats(size)]
        forward = Case(id, "RMSNorm", inputs, arguments, 2)
        yield forward
        given = [floats(2, 3, 4), *inputs[:2], run(forward)[1]]
        yield Case(id + " gradient", "RMSNormGradient", given, arguments, 3)
    x, scale, bias, dy = floats(2, 3, 2, 2), floats(3), floats(3), floats(2, 3, 2, 2)
    yield Case("channels scaled", "AffineChannel", [x, scale, bias])
    yield Case("their gradient", "AffineChannelGradient", [dy, scale])
    learnable = {"is_learnable": True}
    yield Case("all gradients", "AffineChannelGradient", [dy, x, scale], learnable, 3)
    last = [floats(2, 2, 3), scale, bias]
    yield Case("affine channels, last", "AffineChannel", last, NHWC)
    yield Case("dropout of none", "Dropout", [x], {"is_test": 0, "ratio": 0.0}, 2)
    yield Case("dropout in a test", "Dropout", [x], {"is_test": 1, "ratio": 0.3})
    mask = RNG.uniform(size=x.shape) < 0.5
    yield Case("dropout's gradient", "DropoutGrad", [x, mask], {"is_test": 0, "ratio": 0.3})
    yield Case("in a test", "DropoutGrad", [x], {"is_test": 1, "ratio": 0.3})


if __name__ == "__main__":
    record(RECORDED / "normalization.npz", cases())
