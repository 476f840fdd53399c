import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

COMPARISONS = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal,
    "GT": np.greater, "GE": np.greater_equal,
}  # fmt: skip
TABLES = {"And": [1, 0, 0, 0], "Or": [1, 1, 1, 0], "Xor": [0, 1, 1, 0]}


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_comparisons(name, dtype):
    a, b = np.array([[0, 1, 1], [2, 2, 2]], dtype), np.array([0, 0, 2], dtype)
    y = run_operator(name, a, b)
    assert y.dtype == bool
    np.testing.assert_array_equal(y, COMPARISONS[name](a, b))


def test_comparison_with_a_number_of_another_width():
    # 0.1 is another number in float32: compared as float64 they would differ.
    assert run_operator("EQ", np.full(2, 0.1, np.float32), np.array(0.1)).all()


def test_comparison_along_an_axis():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = run_operator("LT", a, np.float32([2, 2]), broadcast=1, axis=0)
    assert y.tolist() == [[True, True, False], [False, False, False]]


def test_strings_can_be_equal():
    a, b = np.array(["a", "b"], object), np.array(["a", "c"], object)
    assert run_operator("EQ", a, b).tolist() == [True, False]


@pytest.mark.parametrize("name", TABLES)
def test_truth_tables(name):
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    y = run_operator(name, a, b)
    assert y.dtype == bool
    assert y.astype(int).tolist() == TABLES[name]


def test_not():
    assert run_operator("Not", np.array([True, False])).tolist() == [False, True]
    assert run_operator("Not", np.array([2.0, 0.0])).tolist() == [False, True]
