import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

A = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("SumElements", {}, 15),
        ("SumElements", {"average": True}, 2.5),
        ("AveragedLoss", {}, 2.5),
        ("SumSqrElements", {}, 55),
        ("SumSqrElements", {"average": True}, 55 / 6),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_totals(name, arguments, expected, dtype):
    total = run_operator(name, A.astype(dtype), **arguments)
    assert total.dtype == dtype
    assert total.shape == ()
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["AveragedLoss", "SumElements", "SumSqrElements"])
def test_the_average_of_nothing_is_zero(name):
    arguments = {} if name == "AveragedLoss" else {"average": True}
    assert run_operator(name, np.zeros((0, 3), np.float32), **arguments) == 0


@pytest.mark.parametrize("name", ["AveragedLoss", "SumElements", "SumSqrElements"])
def test_totals_are_for_floats(name):
    with pytest.raises(TypeError, match=f"{name} is for floating-point numbers"):
        run_operator(name, np.array([1, 2]))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_gradients_take_a_single_number(shape):
    dy = np.full(shape, 3, np.float32)
    dx = run_operator("AveragedLossGradient", A, dy)
    np.testing.assert_array_equal(dx, np.full((2, 3), 0.5, np.float32))
    dx = run_operator("SumElementsGradient", A, dy)
    np.testing.assert_array_equal(dx, np.full((2, 3), 3, np.float32))


def test_gradients_take_no_more_than_that():
    with pytest.raises(ValueError, match=r"dY must be a single number, not of shape \(2,\)"):
        run_operator("AveragedLossGradient", A, np.ones(2, np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_front_and_back(dtype, dimensions):
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    front, back = tuple(range(dimensions)), tuple(range(3 - dimensions, 3))
    for name, axes in (("Front", front), ("Back", back)):
        total = run_operator(f"Reduce{name}Sum", x, num_reduce_dim=dimensions)
        mean = run_operator(f"Reduce{name}Mean", x, num_reduce_dim=dimensions)
        assert total.dtype == mean.dtype == dtype
        np.testing.assert_array_equal(total, x.sum(axis=axes))
        expected = (
            x.mean(axis=axes) if dtype in (np.float32, np.float64) else x.mean(axis=axes) // 1
        )
        np.testing.assert_allclose(mean, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["ReduceFrontSum", "ReduceBackMean"])
@pytest.mark.parametrize("dimensions", [3, -1])
def test_too_few_dimensions(name, dimensions):
    with pytest.raises(ValueError, match=rf"num_reduce_dim={dimensions}, but X is \(2, 3\)"):
        run_operator(name, A, num_reduce_dim=dimensions)
