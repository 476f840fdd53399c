"""Record what Caffe2 makes of convolutions, and of their gradients.

Run it with a Python that has Caffe2, in the root of the repository:

    PYTHONPATH=. python tests/operators/record/convolution.py
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record

RNG = np.random.RandomState(11)
NHWC = {"order": "NHWC"}


def floats(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def ordered(shape, order):
    """The shape (N, C, ...) in that order."""
    return (shape[0], *shape[2:], shape[1]) if order == "NHWC" else shape


# id, operator, images, kernels (both with the channels in front), the result's size, arguments.
CONV = [
    ("plain", "Conv", (2, 3, 6, 5), (4, 3, 3, 2), (4, 4), {"kernels": [3, 2]}),
    ("sides", "Conv", (2, 3, 6, 5), (4, 3, 3, 2), (4, 2),
     {"kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 3, "pad_t": 1, "pad_l": 0,
      "pad_b": 2, "pad_r": 1}),
    ("dilated", "Conv", (2, 4, 7, 6), (6, 2, 2, 2), (4, 3),
     {"kernel": 2, "stride": 2, "group": 2, "dilation_h": 1, "dilation_w": 2, "pad": 1}),
    ("depthwise", "Conv", (1, 4, 5, 5), (4, 1, 3, 3), (5, 5), {"kernel": 3, "pad": 1, "group": 4}),
    ("pointwise", "Conv", (2, 5, 3, 4), (3, 5, 1, 1), (3, 4), {"kernel": 1}),
    ("valid", "Conv", (1, 2, 7, 6), (2, 2, 3, 3), (3, 2),
     {"kernel": 3, "stride": 2, "legacy_pad": 1}),
    ("same", "Conv", (1, 2, 7, 6), (2, 2, 3, 3), (4, 3),
     {"kernel": 3, "stride": 2, "legacy_pad": 2}),
    ("caffe", "Conv", (1, 2, 7, 6), (2, 2, 3, 3), (3, 3),
     {"kernel": 3, "stride": 2, "legacy_pad": 3}),
    ("skipping", "Conv", (1, 2, 6, 6), (2, 2, 1, 1), (2, 2),
     {"kernel": 1, "stride": 3, "legacy_pad": 2}),
    ("many", "Conv", (20, 2, 5, 4), (3, 2, 2, 2), (4, 3), {"kernel": 2}),
    ("1d", "Conv", (2, 3, 9), (4, 3, 3), (4,), {"kernels": [3], "strides": [2], "pads": [1, 0]}),
    ("3d", "Conv", (2, 2, 4, 5, 4), (3, 2, 2, 3, 2), (3, 5, 2),
     {"kernels": [2, 3, 2], "strides": [1, 1, 2], "pads": [0, 1, 0, 0, 1, 0]}),
    ("3d dilated", "Conv", (1, 4, 4, 5, 5), (4, 2, 2, 2, 2), (2, 3, 4),
     {"kernels": [2, 2, 2], "dilations": [2, 2, 1], "group": 2}),
    ("name", "Conv1D", (2, 3, 6), (4, 3, 2), (5,), {"kernels": [2]}),
    ("name", "Conv2D", (2, 3, 4, 4), (4, 3, 2, 2), (3, 3), {"kernel": 2}),
    ("name", "Conv3D", (1, 2, 3, 3, 3), (2, 2, 2, 2, 2), (2, 2, 2), {"kernels": [2, 2, 2]}),
]  # fmt: skip
TRANSPOSED = [
    ("plain", (2, 3, 4, 3), (3, 2, 3, 2), (6, 4), {"kernels": [3, 2]}),
    ("strided", (2, 3, 4, 3), (3, 2, 3, 2), (8, 8),
     {"kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 3, "pad_t": 0, "pad_l": 1,
      "pad_b": 1, "pad_r": 0, "adj_h": 0, "adj_w": 1}),
    ("grouped", (2, 4, 3, 3), (4, 3, 3, 3), (6, 6),
     {"kernel": 3, "stride": 2, "pad": 1, "adj": 1, "group": 2}),
    ("adjusted", (1, 2, 3, 2), (2, 2, 2, 2), (7, 4), {"kernel": 2, "stride": 2, "adjs": [1, 0]}),
    ("pointwise", (2, 3, 3, 4), (3, 5, 1, 1), (3, 4), {"kernel": 1}),
]  # fmt: skip


def uses(id, operator, images, kernels, bias, slopes, arguments):
    """The operator with a bias and without, and its gradient."""
    x, w, b, dy = floats(*images), floats(*kernels), floats(bias), floats(*slopes)
    gradient = operator + "Gradient"
    yield Case(id + " with bias", operator, [x, w, b], arguments)
    yield Case(id, operator, [x, w], arguments)
    yield Case(id + " quiet", gradient, [x, w, dy], dict(arguments, no_gradient_to_input=1), 2)
    if len(images) == 5 and arguments["order"] == "NHWC":
        return  # Caffe2's gradient of the images is not what it has for NCHW.
    yield Case(id, gradient, [x, w, dy], arguments, 3)
    yield Case(id + " no bias", gradient, [x, w, dy], dict(arguments, no_bias=1), 2)


def cases():
    for id, operator, images, kernels, size, arguments in CONV:
        for order in ("NCHW", "NHWC"):
            if operator != "Conv" and order == "NHWC":
                continue
            slopes = (images[0], kernels[0], *size)
            shapes = [ordered(shape, order) for shape in (images, kernels, slopes)]
            yield from uses(
                f"{id} {order}",
                operator,
                shapes[0],
                shapes[1],
                kernels[0],
                shapes[2],
                dict(arguments, order=order),
            )
    for id, images, kernels, size, arguments in TRANSPOSED:
        for order in ("NCHW", "NHWC"):
            channels = kernels[1] * arguments.get("group", 1)
            shapes = [ordered(s, order) for s in (images, kernels, (images[0], channels, *size))]
            yield from uses(
                f"{id} {order}",
                "ConvTranspose",
                shapes[0],
                shapes[1],
                channels,
                shapes[2],
                dict(arguments, order=order),
            )


def unique(made):
    for case in made:
        yield case._replace(id=case.operator + " " + case.id)


if __name__ == "__main__":
    record(RECORDED / "convolution.npz", unique(cases()))
