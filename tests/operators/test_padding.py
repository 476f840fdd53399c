import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
MODES = ["constant", "reflect", "edge"]


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [2, 0, 1, 2], [0, 0, 0, 0]])
def test_is_what_numpy_pads(pads, mode, order):
    top, left, bottom, right = pads
    around = [(0, 0), (0, 0), (top, bottom), (left, right)]
    x = X if order == "NCHW" else X.transpose(0, 2, 3, 1)
    around = around if order == "NCHW" else [around[0], *around[2:], around[1]]
    y = run_operator("PadImage", x, pads=pads, mode=mode, order=order)
    np.testing.assert_array_equal(y, np.pad(x, around, mode=mode))


def test_ways_to_say_how_wide():
    even = run_operator("PadImage", X, pads=[1, 1, 1, 1], value=5.0)
    np.testing.assert_array_equal(run_operator("PadImage", X, pad=1, value=5.0), even)
    wider = run_operator("PadImage", X, pad=1, pad_l=0, value=5.0)
    np.testing.assert_array_equal(wider, even[..., 1:])
    assert run_operator("PadImage", X, pad_t=2).shape == (1, 2, 5, 4)


@pytest.mark.parametrize("mode", MODES)
def test_a_negative_border_takes_away(mode):
    y = run_operator("PadImage", X, pads=[-1, 0, -1, -2], mode=mode)
    np.testing.assert_array_equal(y, X[:, :, 1:2, :2])
    dx = run_operator("PadImageGradient", y, pads=[-1, 0, -1, -2], mode=mode)
    np.testing.assert_array_equal(dx[:, :, 1:2, :2], y)
    assert dx.shape == X.shape
    assert dx.sum() == y.sum()


@pytest.mark.parametrize("name", ["PadImage", "PadImageGradient"])
@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X[0], {"pad": 1}, "images have four dimensions"),
        (X, {"mode": "wrap"}, "mode='wrap' is none of"),
        (X, {"pads": [1, 1]}, r"pads=\[1, 1\] is not top, left, bottom and right"),
        (X, {"order": "CHW"}, "neither 'NCHW' nor 'NHWC'"),
    ],
)
def test_errors(name, x, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, x, **options)


def test_too_small():
    with pytest.raises(ValueError, match="a border of 3 needs a longer side than 3"):
        run_operator("PadImage", X, pad=3, mode="reflect")
    with pytest.raises(ValueError, match=r"nothing is left of 3 with borders of \(-2, -1\)"):
        run_operator("PadImage", X, pads=[-2, 0, -1, 0])
    with pytest.raises(ValueError, match="nothing is left of 3"):
        run_operator("PadImage", X, pads=[-3, 0, 3, 0])
