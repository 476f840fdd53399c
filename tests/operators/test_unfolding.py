import numpy as np
import pytest
from tests.operators.make import f32

from procession.testing.gradcheck import run_operator

CASES = [
    ((2, 3, 5, 4), {"kernel": 2}),
    ((2, 3, 6, 5), {"kernels": [3, 2], "stride": 2, "pads": [1, 0, 2, 1]}),
    ((1, 2, 7, 7), {"kernel": 3, "dilation": 2, "pad": 1}),
    ((2, 3, 9), {"kernel": 3, "stride": 2}),
    ((1, 2, 3, 4, 4), {"kernels": [2, 3, 1], "pad": 1}),
]


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("shape", "arguments"), CASES)
def test_kernels_times_columns_are_a_convolution(shape, arguments, order):
    axes = len(shape) - 2
    sizes = arguments.get("kernels", [arguments.get("kernel")] * axes)
    x, w = f32(*shape), f32(4, shape[1], *sizes)
    if order == "NHWC":
        x, w = np.moveaxis(x, 1, -1), np.moveaxis(w, 1, -1)
    y = run_operator("Conv", x, w, order=order, **arguments)
    columns = run_operator("Im2Col", x, order=order, **arguments)
    contracted = -1 if order == "NHWC" else 1
    made = np.tensordot(columns, w.reshape(4, -1), axes=(contracted, 1))
    made = made if order == "NHWC" else np.moveaxis(made, -1, 1)
    np.testing.assert_allclose(made, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("shape", "arguments"), CASES)
def test_folding_counts_how_often_a_number_is_seen(shape, arguments, order):
    x = f32(*shape)
    x = np.moveaxis(x, 1, -1) if order == "NHWC" else x
    often = {**arguments, "order": order}
    columns = run_operator("Im2Col", x, **often)
    seen = run_operator("Im2Col", np.ones_like(x), **often)
    times = run_operator("Col2Im", seen, x, **often)
    np.testing.assert_allclose(
        run_operator("Col2Im", columns, x, **often), x * times, rtol=1e-5, atol=1e-6
    )


def test_what_no_window_sees_is_zero():
    columns = run_operator("Im2Col", f32(1, 1, 5, 5), kernel=2, stride=3)
    made = run_operator("Col2Im", columns, np.ones((1, 1, 5, 5), np.float32), kernel=2, stride=3)
    assert not made[0, 0, 2].any()
    assert not made[0, 0, :, 2].any()


def test_errors():
    x = f32(1, 2, 4, 4)
    with pytest.raises(ValueError, match="smaller than the kernel"):
        run_operator("Im2Col", x, kernel=5)
    with pytest.raises(TypeError, match="floating-point"):
        run_operator("Im2Col", x.astype(np.int64), kernel=2)
    with pytest.raises(ValueError, match=r"Im2Col makes \(1, 8, 3, 3\), not \(1, 8, 3, 2\)"):
        run_operator("Col2Im", f32(1, 8, 3, 2), x, kernel=2)
