import numpy as np
import pytest

from procession import LocalSession, Net, errors
from procession.operators import channels
from procession.testing.gradcheck import check_gradient, run_operator

RNG = np.random.default_rng(7)
X = RNG.normal(size=(4, 3, 2, 5)).astype(np.float32)
SCALE, BIAS = np.float32([1, 2, -0.5]), np.float32([0, 1, -1])
MEAN, VAR = np.float32([0.5, -0.5, 0]), np.float32([1, 2, 0.25])
ALL = (SCALE, BIAS, MEAN, VAR)
TRAIN = {"is_test": 0, "n_outputs": 5}


def test_in_training_the_mean_is_that_of_the_batch():
    y, mean, var, saved_mean, saved_inv = run_operator(
        "SpatialBN", X, *ALL, momentum=0.75, epsilon=0.01, **TRAIN
    )
    center, spread = X.mean(axis=(0, 2, 3)), X.var(axis=(0, 2, 3))
    np.testing.assert_allclose(saved_mean, center, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(saved_inv, 1 / np.sqrt(spread + 0.01), rtol=1e-5)
    np.testing.assert_allclose(mean, 0.75 * MEAN + 0.25 * center, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, 0.75 * VAR + 0.25 * spread * 40 / 39, rtol=1e-5)
    unit = (y - BIAS[:, None, None]) / SCALE[:, None, None]
    np.testing.assert_allclose(unit.mean(axis=(0, 2, 3)), np.zeros(3), atol=1e-5)
    np.testing.assert_allclose(unit.var(axis=(0, 2, 3)), spread / (spread + 0.01), rtol=1e-4)


def test_in_a_test_it_is_the_running_one():
    (y,) = run_operator("SpatialBN", X, *ALL, is_test=1, epsilon=0.01, n_outputs=1)
    scale, bias, mean, var = (each[:, None, None] for each in ALL)
    np.testing.assert_allclose(
        y, (X - mean) / np.sqrt(var + np.float32(0.01)) * scale + bias, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("is_test", [0, 1])
def test_channels_last(is_test):
    options = {"is_test": is_test, "n_outputs": 1 if is_test else 5}
    first = run_operator("SpatialBN", X, *ALL, **options)
    last = run_operator("SpatialBN", X.transpose(0, 2, 3, 1), *ALL, order="NHWC", **options)
    np.testing.assert_allclose(last[0].transpose(0, 3, 1, 2), first[0], rtol=1e-4, atol=1e-5)
    for one, other in zip(first[1:], last[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_a_mean_far_from_0_costs_no_digits(order):
    x = X if order == "NCHW" else np.ascontiguousarray(X.transpose(0, 2, 3, 1))
    far = x + np.float32(1000)
    dy = RNG.normal(size=x.shape).astype(np.float32)
    saved = run_operator("SpatialBN", far, *ALL, order=order, **TRAIN)[3:]
    made = run_operator("SpatialBNGradient", far, SCALE, dy, *saved, is_test=0, order=order)
    # The same in double precision, of the numbers that float32 has for X + 1000.
    wide = [each.astype(np.float64) for each in (far, *ALL)]
    _, _, _, *exact = run_operator("SpatialBN", *wide, order=order, **TRAIN)
    np.testing.assert_allclose(saved[0], exact[0], rtol=1e-6)
    np.testing.assert_allclose(saved[1], exact[1], rtol=1e-4)
    expected = run_operator(
        "SpatialBNGradient", wide[0], wide[1], dy.astype(float), *exact, is_test=0, order=order
    )
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_pieces_make_no_difference(monkeypatch, order):
    x = X if order == "NCHW" else np.ascontiguousarray(X.transpose(0, 2, 3, 1))
    dy = RNG.normal(size=x.shape).astype(np.float32)

    def both():
        made = run_operator("SpatialBN", x + 9, *ALL, order=order, **TRAIN)
        options = {"is_test": 0, "order": order}
        back = run_operator("SpatialBNGradient", x + 9, SCALE, dy, *made[3:], **options)
        return (*made, *back)

    whole = both()
    monkeypatch.setattr(channels, "PIECE", 100)
    for one, other in zip(both(), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_one_number_has_no_variance():
    x = X[:1, :, :1, :1]
    y, mean, var, _, inverse = run_operator("SpatialBN", x, *ALL, **TRAIN)
    np.testing.assert_allclose(y.reshape(3), BIAS, atol=1e-4)
    np.testing.assert_allclose(mean, 0.9 * MEAN + 0.1 * x.reshape(3), rtol=1e-5)
    np.testing.assert_allclose(var, 0.9 * VAR, rtol=1e-6)
    np.testing.assert_allclose(inverse, np.full(3, 1e-5**-0.5), rtol=1e-5)


def test_nothing_changes_no_running_mean():
    y, mean, var, *_ = run_operator("SpatialBN", X[:0], *ALL, **TRAIN)
    assert y.shape == (0, 3, 2, 5)
    np.testing.assert_array_equal(mean, MEAN)
    np.testing.assert_array_equal(var, VAR)


def test_sums_of_several_batches():
    halves = X[:2], X[2:]
    sums = [run_operator("ChannelStats", half) for half in halves]
    total, squares = (a + b for a, b in zip(*sums, strict=True))
    whole = run_operator("SpatialBN", X, *ALL, **TRAIN)
    dy = RNG.normal(size=X.shape).astype(np.float32)
    expected = run_operator("SpatialBNGradient", X, SCALE, dy, *whole[3:], is_test=0)
    parts, stats = [], []
    for half, slope in zip(halves, (dy[:2], dy[2:]), strict=True):
        part = run_operator("SpatialBN", half, *ALL, total, squares, num_batches=2, **TRAIN)
        stats.append(run_operator("ChannelBackpropStats", half, *part[3:], slope))
        parts.append(part)
    for index in (1, 2, 3, 4):
        for part in parts:
            np.testing.assert_allclose(part[index], whole[index], rtol=1e-4, atol=1e-5)
    y = np.concatenate([part[0] for part in parts])
    np.testing.assert_allclose(y, whole[0], rtol=1e-4, atol=1e-5)
    slopes = tuple(a + b for a, b in zip(*stats, strict=True))
    made = [
        run_operator(
            "SpatialBNGradient", half, SCALE, slope, *part[3:], *slopes, is_test=0, num_batches=2
        )
        for half, slope, part in zip(halves, (dy[:2], dy[2:]), parts, strict=True)
    ]
    dx = np.concatenate([each[0] for each in made])
    np.testing.assert_allclose(dx, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made[0][1] * 2, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((X[0, 0, 0], *ALL), {}, r"X is \(5,\), and has no dimension of channels"),
        ((X, SCALE[:2], *ALL[1:]), {}, r"scale is \(2,\), for 3 channels"),
        ((X, *ALL[:3], VAR[:1]), {}, r"var is \(1,\), for 3 channels"),
        ((X, *ALL), {"order": "NCWH"}, "order='NCWH' is neither 'NCHW' nor 'NHWC'"),
        ((X, *ALL, MEAN), {}, "with `sums` there must be `sumsq`"),
    ],
)
def test_errors(inputs, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator("SpatialBN", *inputs, **TRAIN, **options)


def test_integers_are_an_error():
    with pytest.raises(TypeError, match="for floating-point numbers, not for int64"):
        run_operator("SpatialBN", X.astype(np.int64), *ALL, **TRAIN)


def test_whether_it_is_a_test_must_be_said():
    net = Net("norm")
    with pytest.raises(errors.ProcessionError, match="is_test"):
        net.SpatialBN(["x", "s", "b", "m", "v"], 5)


def test_in_a_net_the_running_mean_is_changed_in_place():
    net = Net("norm")
    names = ["y", "m", "v", "saved_mean", "saved_inv"]
    net.SpatialBN(["x", "s", "b", "m", "v"], names, is_test=0, momentum=0.5)
    loss = net.SumSqrElements(net.Relu("y"))
    gradients = net.AddGradientOperators([loss])
    assert {"x", "s", "b"} <= {str(blob) for blob in gradients}
    with LocalSession() as session:
        blobs = session.workspace()
        for name, value in zip("xsbmv", (X, *ALL), strict=True):
            blobs.feed_blob(name, value)
        expected, var = MEAN, VAR
        for _ in range(3):
            session.run(net)
            expected = 0.5 * expected + 0.5 * X.mean(axis=(0, 2, 3))
            var = 0.5 * var + 0.5 * X.var(axis=(0, 2, 3), ddof=1)
            mean = blobs.fetch_blob("m")
            np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(blobs.fetch_blob("v"), var, rtol=1e-4)


def test_affine_channel():
    y = run_operator("AffineChannel", X, SCALE, BIAS)
    np.testing.assert_array_equal(y, X * SCALE[:, None, None] + BIAS[:, None, None])
    with pytest.raises(ValueError, match=r"AffineChannel: bias is \(2,\), for 3 channels"):
        run_operator("AffineChannel", X, SCALE, BIAS[:2])


def test_gradient_of_handed_in_sums_of_the_batch_itself():
    # With sums that are constants, X has a part in Y only.
    sums = [x.astype(np.float64) for x in run_operator("ChannelStats", X)]
    with pytest.raises(AssertionError):
        check_gradient("SpatialBN", [X, *ALL, *sums], {"is_test": 0}, wrt=[0], n_outputs=5)
    check_gradient("SpatialBN", [X, *ALL, *sums], {"is_test": 0}, wrt=[1, 2], n_outputs=5)
