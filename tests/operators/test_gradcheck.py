"""The gradient check itself must find what is wrong."""

import numpy as np
import pytest

from procession.operators import REGISTRY, STOPS, alias, emit, operator
from procession.testing.gradcheck import check_gradient, run_operator

X = np.array([[1.0, -2.0], [0.5, 3.0]])


@pytest.fixture
def register():
    names = []

    def add(name, kernel, **options):
        operator(name, **options)(kernel)
        names.append(name)

    yield add
    for name in names:
        REGISTRY.remove(name)


def cube(x):
    return x**3


def test_right_gradient_passes(register):
    rules = [
        emit("Sqr", "I0", "GI0"),
        emit("Mul", "GI0 GO0", "GI0"),
        emit("Scale", "GI0", "GI0", scale=3.0),
    ]
    register("TestCube", cube, gradient=rules)
    check_gradient("TestCube", [X])


def test_wrong_value(register):
    register("TestCube", cube, gradient=[emit("Mul", "I0 GO0", "GI0")])
    with pytest.raises(AssertionError, match=r"TestCube: the gradient of input 0 is wrong at 4 of"):
        check_gradient("TestCube", [X])


def test_nan_is_wrong(register):
    def nan_gradient(x, dy):
        return np.full(x.shape, np.nan)

    register("TestCubeGradient", nan_gradient)
    register("TestCube", cube, gradient=[emit("TestCubeGradient", "I0 GO0", "GI0")])
    with pytest.raises(AssertionError, match="it is nan"):
        check_gradient("TestCube", [X])


def test_wrong_shape(register):
    register("TestTotal", lambda x: np.sum(x), gradient=[alias("GO0", "GI0")])
    with pytest.raises(AssertionError, match=r"is \(\), the input is \(2, 2\)"):
        check_gradient("TestTotal", [X])


def test_wrong_dtype(register):
    rules = [emit("Cast", "GO0", "GI0", to="float")]
    register("TestSame", lambda x: x + 0, gradient=rules)
    with pytest.raises(AssertionError, match="is float32, the input is float64"):
        check_gradient("TestSame", [X])


def test_unknown_symbol(register):
    register("TestSame", lambda x: x + 0, gradient=[emit("Mul", "GO0 I1", "GI0")])
    with pytest.raises(AssertionError, match=r"Mul\(GO0, I1\) reads I1"):
        check_gradient("TestSame", [X])


def test_wrong_number_of_outputs(register):
    register("TestSame", lambda x: x + 0, gradient=[emit("AddGradient", "GO0 I0 I0", "GI0")])
    with pytest.raises(AssertionError, match="made 2 outputs for GI0"):
        check_gradient("TestSame", [X])


@pytest.mark.parametrize(
    ("gradient", "message"), [(None, "has no gradient"), (STOPS, "make no gradient")]
)
def test_nothing_to_check(register, gradient, message):
    register("TestSame", lambda x: x + 0, gradient=gradient)
    with pytest.raises(AssertionError, match=message):
        check_gradient("TestSame", [X])


def test_wrt_must_have_a_rule():
    with pytest.raises(AssertionError, match="no rule of LabelCrossEntropy makes GI1"):
        check_gradient("LabelCrossEntropy", [np.array([[0.5, 0.5]]), np.array([1])], wrt=[1])


def test_run_operator_takes_numbers_and_gives_arrays():
    total = run_operator("Add", 1.5, 2.0)
    assert isinstance(total, np.ndarray)
    assert total == 3.5


def test_run_operator_seeds():
    first, again = (run_operator("UniformFill", shape=[4], rng=7) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = run_operator("UniformFill", shape=[4], rng=np.random.default_rng(8))
    assert (first != other).any()
