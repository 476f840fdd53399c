import numpy as np
import pytest

from procession.testing.gradcheck import run_operator


@pytest.mark.parametrize(
    ("name", "values", "dtype"),
    [
        ("GivenTensorFill", [1.5, 2], np.float32),
        ("GivenTensorDoubleFill", [1.5, 2], np.float64),
        ("GivenTensorIntFill", [1, 2.0], np.int32),
        ("GivenTensorInt64Fill", [1, 1 << 40], np.int64),
        ("GivenTensorInt16Fill", [1, -2], np.int16),
        ("GivenTensorBoolFill", [True, False], np.bool_),
        ("GivenTensorStringFill", ["a", "long one"], object),
    ],
)
def test_given_values(name, values, dtype):
    for given in (values, tuple(values), np.array(values, dtype)):
        x = run_operator(name, values=given, shape=[2, 1])
        assert (x.dtype, x.shape) == (dtype, (2, 1))
        assert x.reshape(-1).tolist() == values
    assert run_operator(name, np.zeros(2), values=values).shape == (2,)


def test_given_values_in_row_major_order():
    x = run_operator("GivenTensorFill", values=[[1, 2], [3, 4]], shape=[4])
    assert x.tolist() == [1, 2, 3, 4]


def test_given_values_are_copied():
    values = np.ones(3, np.float32)
    assert not np.may_share_memory(
        run_operator("GivenTensorFill", values=values, shape=[3]), values
    )


def test_given_errors():
    with pytest.raises(ValueError, match=r"2 values for the shape \(3,\), which has 3"):
        run_operator("GivenTensorFill", values=[1, 2], shape=[3])
    with pytest.raises(ValueError, match=r"1\.5 does not fit into int32"):
        run_operator("GivenTensorIntFill", values=[1, 1.5], shape=[2])


@pytest.mark.parametrize(
    ("dtype", "expected"), [(10, np.int64), (5, np.bool_), (13, np.float64), (4, object)]
)
def test_given_type(dtype, expected):
    x = run_operator("GivenTensorFill", values=[1, 0], shape=[2], dtype=dtype)
    assert x.dtype == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["ab\x01"], [97, 98, 1]), ([b"ab\xff"], [97, 98, 255]), ("a\xe9", [97, 0xC3, 0xA9])],
)
def test_bytes_of_a_string(values, expected):
    x = run_operator("GivenTensorByteStringToUInt8Fill", values=values, shape=[3])
    assert (x.dtype, x.tolist()) == (np.uint8, expected)
    x[0] = 1  # it is no view of the bytes


@pytest.mark.parametrize(
    ("values", "message"), [(["ab"], "2 values for the shape"), (["ab", "c"], "one string")]
)
def test_bytes_must_fit(values, message):
    with pytest.raises(ValueError, match=message):
        run_operator("GivenTensorByteStringToUInt8Fill", values=values, shape=[3])
