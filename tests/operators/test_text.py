import numpy as np
import pytest

from procession.testing.gradcheck import run_operator


def strings(*values):
    return np.array(values, object)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("StringPrefix", {}, ["abc", "ab"]),
        ("StringPrefix", {"length": 1}, ["a", "a"]),
        ("StringPrefix", {"length": 0}, ["", ""]),
        ("StringSuffix", {}, ["def", "ab"]),
        ("StringSuffix", {"length": 1}, ["f", "b"]),
        ("StringSuffix", {"length": 0}, ["", ""]),
        ("StringStartsWith", {"prefix": "abc"}, [True, False]),
        ("StringStartsWith", {}, [True, True]),
        ("StringEndsWith", {"suffix": "b"}, [False, True]),
        ("StringEquals", {"text": "ab"}, [False, True]),
    ],
)
def test_strings_of_both_kinds(name, arguments, expected):
    y = run_operator(name, strings("abcdef", "ab"), **arguments)
    assert y.tolist() == expected
    assert y.dtype == (bool if isinstance(expected[0], bool) else object)
    of_bytes = [each.encode() if isinstance(each, str) else each for each in expected]
    for encoded in (arguments, {k: v.encode() for k, v in arguments.items() if k != "length"}):
        given = {**arguments, **encoded}
        assert run_operator(name, strings(b"abcdef", b"ab"), **given).tolist() == of_bytes
    assert run_operator(name, np.array(["abcdef", "ab"]), **arguments).tolist() == expected


def test_one_string():
    y = run_operator("StringPrefix", "text")
    assert (y.shape, y[()]) == ((), "tex")


@pytest.mark.parametrize(
    ("x", "arguments", "expected"),
    [
        (strings("a", "b"), {}, ["a,", "b,"]),
        (strings(b"a", b"b"), {"delimiter": "-"}, [b"a-", b"b-"]),
        (strings("a", "b", "c", "d").reshape(2, 2), {"delimiter": b"-"}, ["a-b-", "c-d-"]),
        (strings("a", "b", "c", "d").reshape(2, 2), {"axis": 1}, ["a,c,", "b,d,"]),
        (np.float32([[0, 1.5], [2, 1e9]]), {}, ["0,1.5,", "2,1e+09,"]),
        (np.array([1, -2]), {}, ["1,", "-2,"]),
        (np.array([True]), {}, ["1,"]),
        (strings(), {}, []),
    ],
)
def test_join(x, arguments, expected):
    y = run_operator("StringJoin", x, **arguments)
    assert y.tolist() == expected
    assert y.dtype == object


@pytest.mark.parametrize(
    ("name", "x", "arguments", "error", "message"),
    [
        ("StringPrefix", np.zeros(2), {}, TypeError, "takes strings, not float64"),
        ("StringEquals", strings("a", 1), {}, TypeError, "takes strings, not a int: 1"),
        ("StringPrefix", strings("a"), {"length": -1}, ValueError, "length=-1 is negative"),
        ("StringSuffix", strings("a"), {"length": -1}, ValueError, "length=-1 is negative"),
        ("StringJoin", strings("a"), {"axis": 1}, ValueError, r"axis=1 for X \(1,\)"),
        ("StringJoin", np.zeros((1, 1, 1)), {}, ValueError, "a vector or a matrix"),
    ],
)
def test_errors(name, x, arguments, error, message):
    with pytest.raises(error, match=message):
        run_operator(name, x, **arguments)
