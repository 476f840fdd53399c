"""Records images padded, resized and rearranged, with a Python that has Caffe2.

python -m tests.operators.record.images
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, run

RNG = np.random.RandomState(31)
SIDES = {"pad_t": 1, "pad_l": 2, "pad_b": 0, "pad_r": 1}
CUT = {"pad_t": -1, "pad_l": 0, "pad_b": 2, "pad_r": -1}


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def both(id, operator, inputs, arguments, reads_x=False, name=None):
    """An operator and its gradient."""
    forward = Case(id, operator, inputs, arguments)
    yield forward
    dy = floats(*run(forward)[0].shape)
    given = [dy, *inputs] if reads_x else [dy]
    yield Case(id + " gradient", name or operator + "Gradient", given, arguments)


def cases():
    for mode in ("constant", "reflect", "edge"):
        for order, shape in (("NCHW", (2, 2, 3, 4)), ("NHWC", (2, 3, 4, 2))):
            options = {"mode": mode, "order": order}
            for id, more in [("even", {"pad": 2}), ("sides", SIDES), ("cut", CUT)]:
                id = f"{mode} {order} {id}"
                yield from both(id, "PadImage", [floats(*shape)], dict(options, **more))
    x = floats(1, 2, 3, 3)
    yield from both("pads", "PadImage", [x], {"pads": [0, 2, 1, 0]})
    yield Case("value", "PadImage", [x], {"pad": 1, "value": 2.5})
    for operator in ("ResizeNearest", "UpsampleBilinear"):
        for id, more in [
            ("twice", {"width_scale": 2.0, "height_scale": 2.0}),
            ("uneven", {"width_scale": 1.5, "height_scale": 3.0}),
            ("smaller", {"width_scale": 0.7, "height_scale": 0.5}),
        ]:
            id = f"{operator} {id}"
            yield from both(id, operator, [floats(2, 2, 4, 5)], more, reads_x=True)
    scales = np.array([2, 0.5], np.float32)
    yield from both("input", "ResizeNearest", [floats(1, 2, 3, 4), scales], {}, reads_x=True)
    last = {"order": "NHWC", "width_scale": 1.5, "height_scale": 2.0}
    yield from both("last", "ResizeNearest", [floats(1, 3, 4, 2)], last, reads_x=True)
    for order, shape in (("NCHW", (2, 6, 2, 2)), ("NHWC", (2, 2, 2, 6))):
        for group in (1, 2, 3):
            arguments = {"order": order, "group": group}
            id = f"{order} {group}"
            yield from both(id, "ChannelShuffle", [floats(*shape)], arguments)
    for id, shape, arguments in [
        ("blocks", (2, 2, 4, 6), {"block_size": 2}),
        ("large blocks", (1, 2, 4, 7), {"block_size": 3, "pad": 1}),
    ]:
        yield from both(id, "SpaceToBatch", [floats(*shape)], arguments, name="BatchToSpace")
    for order, shape in (("NCHW", (2, 2, 5, 4)), ("NHWC", (2, 5, 4, 2))):
        for id, arguments in [
            ("plain", {"kernel_h": 3, "kernel_w": 2}),
            ("strided", {"kernel": 2, "stride_h": 2, "stride_w": 3, "pad": 1}),
            ("dilated", {"kernel": 2, "dilation": 2, "stride": 2, "pad": 1}),
        ]:
            arguments = dict(arguments, order=order)
            given = [floats(*shape)]
            yield from both(f"{order} {id}", "Im2Col", given, arguments, True, name="Col2Im")


if __name__ == "__main__":
    record(RECORDED / "images.npz", cases())
