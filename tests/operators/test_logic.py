import numpy as np
import pytest

from procession import LocalSession, Net, OperatorError
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


@pytest.mark.parametrize("name", ["Not", *TABLES])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.float32, object])
def test_only_truth_values_have_a_logic(name, dtype):
    numbers, truth = np.array([1, 0], dtype), np.array([True, False])
    kind = np.dtype(dtype)
    if name == "Not":
        with pytest.raises(TypeError, match=f"Not takes .*bool.* input 0 is {kind}"):
            run_operator(name, numbers)
        return
    with pytest.raises(TypeError, match=f"{name} takes .*bool.* input 0 is {kind}"):
        run_operator(name, numbers, truth)
    with pytest.raises(TypeError, match=f"{name} takes .*bool.* input 1 is {kind}"):
        run_operator(name, truth, numbers, broadcast=1)
    # Two of one type are no better.
    with pytest.raises(TypeError, match=f"{name} takes .*bool.* input 0 is {kind}"):
        run_operator(name, numbers, numbers)


def test_a_net_says_which_blob_is_no_truth_value():
    net = Net("n")
    net.And(["sure", "count"], "both")
    session = LocalSession()
    workspace = session.workspace()
    workspace.feed_blob("sure", np.array([True]))
    for value in (np.array([True]), np.array([False]), np.array([True])):
        workspace.feed_blob("count", value)
        session.run(net)
    # The net has run as a function of two bools before.
    workspace.feed_blob("count", np.array([1], np.int32))
    with pytest.raises(OperatorError, match=r"And\(sure, count\) -> both") as caught:
        session.run(net)
    assert "sure bool(1), count int32(1)" in str(caught.value)
    assert "input 1 is int32" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("BitwiseAnd", np.bitwise_and),
        ("BitwiseOr", np.bitwise_or),
        ("BitwiseXor", np.bitwise_xor),
    ],
)
@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64])
def test_bits(name, function, dtype):
    a, b = np.array([[0, 1, 6], [5, 3, -1]]).astype(dtype), np.array([3, 1, 5]).astype(dtype)
    y = run_operator(name, a, b)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, function(a, b))
    y = run_operator(name, a, b[:2], broadcast=1, axis=0)
    np.testing.assert_array_equal(y, function(a, b[:2, None]))


def test_is_nan():
    y = run_operator("IsNaN", np.float32([1, np.nan, np.inf]))
    assert (y.dtype, y.tolist()) == (np.uint8, [0, 1, 0])


@pytest.mark.parametrize(
    ("x", "value", "expected"),
    [
        (np.array([1, 2, 3]), [3, 1], [True, False, True]),
        (np.int32([1, 2, 3]), (5,), [False, False, False]),
        (np.array([True, False]), [True], [True, False]),
        (np.array(["a", b"b", "c"], object), ["b", b"c"], [False, True, True]),
    ],
)
def test_members(x, value, expected):
    assert run_operator("IsMemberOf", x, value=value).tolist() == expected
    square = run_operator("IsMemberOf", np.stack([x, x]), value=value)
    assert square.tolist() == [expected, expected]


def test_members_must_fit():
    with pytest.raises(TypeError, match="not for float32"):
        run_operator("IsMemberOf", np.float32([1]), value=[1])
    with pytest.raises(ValueError, match="does not fit into int32"):
        run_operator("IsMemberOf", np.int32([1]), value=[1.5])


A, B = np.arange(6).reshape(2, 3), -np.arange(6).reshape(2, 3)
CHOICE = np.array([True, False])


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, object])
def test_where(dtype):
    a, b = A.astype(dtype), B.astype(dtype)
    condition = np.array([[True, False, True], [False, True, False]])
    y = run_operator("Where", condition, a, b)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.where(condition, a, b))


def test_choosing_rows():
    for y in (
        run_operator("Where", CHOICE, A, B, broadcast_on_rows=1),
        run_operator("Conditional", CHOICE, A, B),
    ):
        np.testing.assert_array_equal(y, [A[0], B[1]])


@pytest.mark.parametrize(
    ("name", "inputs", "error", "message"),
    [
        ("Where", (CHOICE, A, B), ValueError, r"\(2,\), the choice \(2, 3\) \(broadcast_on_rows"),
        ("Where", (np.array([1, 0]), A[0, :2], B[0, :2]), TypeError, "holds int64, and bools"),
        ("Where", (CHOICE, A[0, :2], B), ValueError, r"between \(2,\) and \(2, 3\)"),
        ("Conditional", (np.array(True), A, B), ValueError, r"\(\), there are \(2,\) rows"),
        ("Conditional", (CHOICE, A.T, B.T), ValueError, r"\(2,\), there are \(3,\) rows"),
    ],
)
def test_choices_that_do_not_fit(name, inputs, error, message):
    with pytest.raises(error, match=message):
        run_operator(name, *inputs)
