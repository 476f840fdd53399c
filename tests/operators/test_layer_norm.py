import numpy as np
import pytest

from procession.operators import REGISTRY, channels
from procession.testing.gradcheck import run_operator

RNG = np.random.default_rng(9)
X = RNG.normal(size=(3, 4, 2, 5)).astype(np.float32)
GAMMA, BETA = np.float32([1, 2, -0.5, 3]), np.float32([0, 1, -1, 2])


@pytest.mark.parametrize(("axis", "lead"), [(1, (3,)), (2, (3, 4)), (-1, (3, 4, 2)), (0, ())])
def test_layer_norm(axis, lead):
    y, mean, deviation = run_operator("LayerNorm", X, axis=axis, epsilon=0.01)
    rows = X.reshape(*lead, -1)
    assert mean.shape == deviation.shape == (*lead, 1)
    np.testing.assert_allclose(mean, rows.mean(axis=-1, keepdims=True), rtol=1e-5, atol=1e-6)
    wanted = np.sqrt(rows.var(axis=-1, keepdims=True) + 0.01)
    np.testing.assert_allclose(deviation, wanted, rtol=1e-5)
    np.testing.assert_allclose(
        y.reshape(rows.shape), (rows - mean) / deviation, rtol=1e-5, atol=1e-6
    )


def test_layer_norm_affine():
    x = X.reshape(-1, 4)
    plain, *_ = run_operator("LayerNorm", x)
    y, *_ = run_operator("LayerNorm", x, GAMMA, BETA, elementwise_affine=True)
    np.testing.assert_allclose(y, plain * GAMMA + BETA, rtol=1e-6)
    unused, *_ = run_operator("LayerNorm", x, GAMMA, BETA)
    np.testing.assert_array_equal(unused, plain)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((X,), {"axis": 4}, "has no axis 4"),
        ((X,), {"elementwise_affine": True}, "asks for gamma and beta"),
        ((X, GAMMA, BETA), {"elementwise_affine": True}, r"gamma is \(4,\), an example has 40"),
    ],
)
def test_layer_norm_errors(inputs, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator("LayerNorm", *inputs, **options)


def grouped(x, groups, epsilon):
    rows = x.reshape(len(x), groups, -1)
    mean, var = rows.mean(axis=2), rows.var(axis=2)
    unit = (rows - mean[..., None]) / np.sqrt(var + epsilon)[..., None]
    y = unit.reshape(x.shape) * GAMMA[:, None, None] + BETA[:, None, None]
    return y, mean, 1 / np.sqrt(var + epsilon)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "groups"),
    [
        ("InstanceNorm", {}, 4),
        ("GroupNorm", {"group": 2}, 2),
        ("GroupNorm", {"num_groups": 1}, 1),
        ("GroupNorm", {"group": 4, "num_groups": 4}, 4),
    ],
)
def test_groups(name, options, groups, last):
    x = np.ascontiguousarray(X.transpose(0, 2, 3, 1)) if last else X
    order = "NHWC" if last else "NCHW"
    made = run_operator(name, x, GAMMA, BETA, epsilon=0.01, order=order, n_outputs=3, **options)
    y = made[0].transpose(0, 3, 1, 2) if last else made[0]
    for one, other in zip((y, *made[1:]), grouped(X, groups, 0.01), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["InstanceNorm", "GroupNorm"])
def test_pieces_make_no_difference(monkeypatch, name):
    options = {"group": 2} if name == "GroupNorm" else {}
    dy = RNG.normal(size=X.shape).astype(np.float32)

    def both():
        y, *saved = run_operator(name, X, GAMMA, BETA, n_outputs=3, **options)
        given = (X, GAMMA, BETA, dy) if name == "InstanceNorm" else (dy, X, GAMMA, BETA)
        return (y, *saved, *run_operator(f"{name}Gradient", *given, *saved))

    whole = both()
    monkeypatch.setattr(channels, "PIECE", 100)
    for one, other in zip(both(), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_there_are_as_many_outputs_as_asked_for():
    kernel = REGISTRY["InstanceNorm"].kernel
    for count in (1, 2, 3):
        for is_test in (False, True):
            made = kernel(X, GAMMA, BETA, is_test=is_test, outs=(None,) * count)
            assert len(made) == count
    assert run_operator("InstanceNorm", X, GAMMA, BETA, is_test=True)[0].shape == X.shape
    (y,) = run_operator("GroupNorm", X, GAMMA, BETA, group=2, is_test=1, n_outputs=1)
    assert y.shape == X.shape
    assert REGISTRY["GroupNorm"].rules(3, {"is_test": True}, 1) is None


@pytest.mark.parametrize(
    ("name", "x", "options", "message"),
    [
        ("GroupNorm", X, {}, "4 channels cannot be cut into 32 groups"),
        ("GroupNorm", X, {"group": 3}, "4 channels cannot be cut into 3 groups"),
        ("GroupNorm", X, {"group": 2, "num_groups": 4}, "group=2 and num_groups=4: one of them"),
        ("GroupNorm", X[:, :2], {"group": 2}, r"gamma is \(4,\), for 2 channels"),
        ("InstanceNorm", X[:, :2], {}, r"scale is \(4,\), for 2 channels"),
        ("InstanceNorm", X[0, 0, 0], {}, "has no dimension of channels"),
        ("InstanceNorm", X, {"order": "CHW"}, "neither 'NCHW' nor 'NHWC'"),
    ],
)
def test_errors(name, x, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, x, GAMMA, BETA, **options)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (0, 3), (2, 3, 0)])
def test_instance_norm_of_nothing(shape, given):
    x, scale, bias = np.zeros(shape, np.float32), np.ones(3, np.float32), np.ones(3, np.float32)
    y, *moments = run_operator("InstanceNorm", x, scale, bias, n_outputs=3)
    assert y.shape == shape
    made = run_operator("InstanceNormGradient", x, scale, bias, y, *moments if given else ())
    assert [each.shape for each in made] == [shape, (3,), (3,)]
    assert not made[1].any()
