"""Record what Caffe2 makes of pooling, and of its gradients.

Run it with a Python that has Caffe2, in the root of the repository:

    PYTHONPATH=. python tests/operators/record/pooling.py
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, run

RNG = np.random.RandomState(12)
SIZES = {1: (9,), 2: (7, 6), 3: (4, 5, 4)}
ARGUMENTS = {
    "2": {"kernel": 2, "stride": 2},
    "overlapping": {"kernels": [3, 2], "strides": [2, 1]},
    "sides": {"kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 3, "pad_t": 1, "pad_l": 1,
              "pad_b": 2, "pad_r": 0},
    "padded": {"kernel": 3, "stride": 2, "pad": 1},
    "global": {"global_pooling": 1},
    "valid": {"kernel": 3, "stride": 2, "legacy_pad": 1},
    "same": {"kernel": 3, "stride": 2, "legacy_pad": 2},
    "caffe": {"kernel": 3, "stride": 2, "legacy_pad": 3},
    "caffe padded": {"kernel": 3, "stride": 2, "legacy_pad": 3, "pad": 1},
    "skipping": {"kernel": 1, "stride": 3, "legacy_pad": 2},
    "1d": {"kernels": [3], "strides": [2], "pads": [1, 0]},
    "3d": {"kernels": [2, 3, 2], "strides": [2, 1, 2], "pads": [1, 0, 0, 0, 1, 1]},
}  # fmt: skip


def images(dimensions, order):
    shape = (1, 2) + SIZES[dimensions]
    if order == "NHWC":
        shape = (1,) + SIZES[dimensions] + (2,)
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def uses(id, operator, x, arguments):
    """The operator and its gradient."""
    forward = Case(operator + " " + id, operator, [x], arguments)
    yield forward
    y = run(forward)[0]
    dy = RNG.uniform(-1, 1, y.shape).astype(np.float32)
    gradient = operator + "Gradient"
    yield Case(gradient + " " + id, gradient, [x, y, dy], arguments)


def cases():
    for id, arguments in ARGUMENTS.items():
        dimensions = {"1d": 1, "3d": 3}.get(id, 2)
        for order in ("NCHW", "NHWC"):
            given = dict(arguments, order=order)
            for operator, more in (
                ("MaxPool", {}),
                ("AveragePool", {}),
                ("AveragePool", {"count_include_pad": 1}),
                ("LpPool", {}),
                ("LpPool", {"p": 3.0}),
            ):
                if operator == "LpPool" and dimensions != 2:
                    continue  # Caffe2 has it for images of two dimensions.
                described = " ".join([id, order, *more])
                yield from uses(described, operator, images(dimensions, order), dict(given, **more))
    for dimensions in SIZES:
        for kind in ("Max", "Average"):
            name = f"{kind}Pool{dimensions}D"
            x = images(dimensions, "NCHW")
            yield from uses("name", name, x, {"kernels": [2] * dimensions})
    ties = RNG.randint(0, 3, (2, 2, 6, 6)).astype(np.float32)
    yield from uses("ties", "MaxPool", ties, {"kernel": 3, "stride": 2})


if __name__ == "__main__":
    record(RECORDED / "pooling.npz", cases())
