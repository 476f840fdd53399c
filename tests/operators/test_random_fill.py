import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

LIKE = np.zeros((3, 2), np.float64)
RANDOM = ["UniformFill", "UniformIntFill", "GaussianFill", "XavierFill", "MSRAFill"]
MANY = [400, 300]


@pytest.mark.parametrize("name", RANDOM)
def test_random_fills_use_their_generator(name):
    first, again = (run_operator(name, shape=[3, 4], rng=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == (np.int32 if name == "UniformIntFill" else np.float32)
    generator = np.random.default_rng(5)
    run_operator(name, shape=[3, 4], rng=generator)
    other = run_operator(name, shape=[3, 4], rng=generator)
    assert (other != first).any()


def test_uniform():
    x = run_operator("UniformFill", shape=MANY, min=2.0, max=3.0)
    assert x.min() >= 2
    assert x.max() <= 3
    assert x.mean() == pytest.approx(2.5, abs=0.01)
    x = run_operator("UniformFill", LIKE, np.float32(5), np.float32(6))
    assert x.shape == (3, 2)
    assert ((x >= 5) & (x <= 6)).all()


def test_uniform_int_includes_both_ends():
    x = run_operator("UniformIntFill", shape=MANY, min=2, max=4)
    assert np.unique(x).tolist() == [2, 3, 4]
    assert np.unique(run_operator("UniformIntFill", shape=MANY)).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["UniformFill", "UniformIntFill"])
@pytest.mark.parametrize("high", [2, 1])
def test_uniform_needs_an_interval(name, high):
    with pytest.raises(ValueError, match=f"min=2 is not below max={high}"):
        run_operator(name, min=2, max=high)


def test_gaussian():
    x = run_operator("GaussianFill", shape=MANY, mean=3.0, std=0.5)
    assert x.mean() == pytest.approx(3, abs=0.01)
    assert x.std() == pytest.approx(0.5, abs=0.01)
    assert (run_operator("GaussianFill", shape=[9], mean=3.0, std=0) == 3).all()
    with pytest.raises(ValueError, match="std=-1 is negative"):
        run_operator("GaussianFill", std=-1)


@pytest.mark.parametrize("shape", [(400, 300), (40, 30, 10)])
def test_xavier(shape):
    x = run_operator("XavierFill", shape=shape)
    bound = np.sqrt(3 / 300)
    assert np.abs(x).max() == pytest.approx(bound, rel=0.01)
    assert x.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize("shape", [(400, 300), (40, 30, 10)])
def test_msra(shape):
    assert run_operator("MSRAFill", shape=shape).std() == pytest.approx(np.sqrt(2 / 400), rel=0.05)


@pytest.mark.parametrize(("name", "shape"), [("XavierFill", []), ("MSRAFill", [3])])
def test_too_few_dimensions(name, shape):
    with pytest.raises(ValueError, match=f"{name} wants"):
        run_operator(name, shape=shape)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("avoided", [[], [0, 1], [3, 3, 8, 99, -5], [9, 8, 7, 6]])
def test_unique_uniform(dtype, avoided):
    left = sorted(set(range(10)) - set(avoided))
    arguments = {"min": 0, "max": 9, "dtype": dtype, "input_as_shape": True}
    x = run_operator(
        "UniqueUniformFill", np.array([len(left)]), np.array(avoided, dtype), rng=3, **arguments
    )
    assert x.dtype == dtype
    assert sorted(x.tolist()) == left
    with pytest.raises(ValueError, match=f"there are {len(left)} from 0 to 9"):
        run_operator("UniqueUniformFill", np.array([len(left) + 1]), np.array(avoided), **arguments)


def test_unique_uniform_reaches_all_numbers():
    drawn = [
        run_operator("UniqueUniformFill", shape=[2, 2], min=1, max=6, rng=seed).reshape(-1)
        for seed in range(40)
    ]
    assert all(len(set(each.tolist())) == 4 for each in drawn)
    assert np.unique(drawn).tolist() == [1, 2, 3, 4, 5, 6]
    assert len({tuple(each) for each in drawn}) > 30


def test_unique_uniform_makes_integers():
    with pytest.raises(ValueError, match="int32 or int64, not float32"):
        run_operator("UniqueUniformFill", shape=[2], min=1, max=6, dtype=1)


def test_float16_uniform():
    x = run_operator("Float16UniformFill", shape=MANY, min=2.0, max=3.0)
    assert x.dtype == np.float16
    assert 2 <= x.min() < 2.01
    assert 2.99 < x.max() <= 3
