import numpy as np
import pytest

import procession
from procession.testing.gradcheck import run_operator

X = np.arange(6, dtype=np.float32).reshape(3, 2)
MASK = np.array([True, False, True])


def test_boolean_mask():
    rows, places = run_operator("BooleanMask", X, MASK, n_outputs=2)
    np.testing.assert_array_equal(rows, X[::2])
    assert places.tolist() == [0, 2]
    assert places.dtype == np.int64
    np.testing.assert_array_equal(run_operator("BooleanMask", X, MASK, n_outputs=1), X[::2])
    assert run_operator("BooleanMask", X, ~MASK & MASK, n_outputs=1).shape == (0, 2)


@pytest.mark.parametrize(
    ("data", "mask", "error", "message"),
    [
        (X, MASK[:2], ValueError, r"a vector, of length 3, and is \(2,\)"),
        (X, MASK[:, None], ValueError, r"\(3, 1\)"),
        (X, np.int32([1, 0, 1]), TypeError, "a mask holds bools, not int32"),
    ],
)
def test_boolean_mask_errors(data, mask, error, message):
    with pytest.raises(error, match=message):
        run_operator("BooleanMask", data, mask)


def test_boolean_mask_lengths():
    y = run_operator("BooleanMaskLengths", np.array([1, 0, 2]), MASK)
    assert y.tolist() == [1, 0, 1]
    assert y.dtype == np.int64
    with pytest.raises(ValueError, match="lengths add up to 2, but there are 3 rows"):
        run_operator("BooleanMaskLengths", np.int32([2]), MASK)


def test_boolean_unmask():
    y = run_operator("BooleanUnmask", MASK, np.float32([1, 2]), ~MASK, np.float32([3]))
    assert y.tolist() == [1, 3, 2]
    # The first mask that is true decides.
    y = run_operator("BooleanUnmask", MASK, np.float32([1, 2]), MASK | True, np.float32([3]))
    assert y.tolist() == [1, 3, 2]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([MASK, np.ones(2)], ValueError, "no mask is true at position 1"),
        ([MASK, np.ones(3)], ValueError, r"mask 0 decides 2 places, its values are \(3,\)"),
        ([MASK, np.ones(2), ~MASK], ValueError, "pairs of a mask and its values"),
        ([MASK, np.ones(2), ~MASK, np.ones(1, int)], TypeError, "values 1 are int64"),
    ],
)
def test_boolean_unmask_errors(inputs, error, message):
    with pytest.raises(error, match=message):
        run_operator("BooleanUnmask", *inputs)


@pytest.mark.parametrize(
    ("arguments", "numbers", "kept"),
    [
        ({"mode": "sequence"}, [1, 2], [[1, 0, 0], [1, 1, 0]]),
        ({"mode": "window", "radius": 1}, [0, 2], [[1, 1, 0], [0, 1, 1]]),
        ({"mode": "upper"}, None, [[1, 0, 0], [1, 1, 0]]),
        ({"mode": "lower"}, None, [[1, 1, 1], [0, 1, 1]]),
        ({"mode": "upperdiag"}, None, [[0, 0, 0], [1, 0, 0]]),
        ({"mode": "lowerdiag"}, None, [[0, 1, 1], [0, 0, 1]]),
    ],
)
def test_sequence_mask(arguments, numbers, kept):
    x = np.arange(6, dtype=np.float32).reshape(2, 3) + 1
    inputs = [x] if numbers is None else [x, np.int32(numbers)]
    y = run_operator("SequenceMask", *inputs, **arguments)
    np.testing.assert_array_equal(y, np.where(kept, x, -np.inf))
    y = run_operator("SequenceMask", *inputs, fill_val=7.0, **arguments)
    np.testing.assert_array_equal(y, np.where(kept, x, 7))
    y = run_operator("SequenceMask", *inputs, grad=True, **arguments)
    np.testing.assert_array_equal(y, np.where(kept, x, 0))


def test_sequence_mask_of_batches_and_repeated_dimensions():
    x = np.ones((2, 2, 3, 2), np.float32)
    y = run_operator(
        "SequenceMask", x, mode="upper", axis=2, batch=0, repeat_from_axis=3, fill_val=0.0
    )
    expected = np.float32([[1, 0, 0], [1, 1, 0]])[np.newaxis, :, :, np.newaxis]
    np.testing.assert_array_equal(y, np.broadcast_to(expected, x.shape))
    # Without batches the rows are numbered through all of them.
    y = run_operator("SequenceMask", x[..., 0], mode="upper", axis=2, fill_val=0.0)
    assert y.sum(axis=2).ravel().tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "diagonal"}, "mode='diagonal' is none of sequence, window"),
        ({"mode": "window"}, "mode='window' needs a second input"),
        ({"mode": "upper", "axis": 2}, r"axis=2, .* and X \(3, 2\) do not fit"),
    ],
)
def test_sequence_mask_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_operator("SequenceMask", X, **arguments)


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs"),
    [
        ("BooleanUnmask", ["mask", "x"], ["values"]),
        ("Partition", ["x"], ["values", "more"]),
        ("LengthsPartition", ["x", "lengths"], ["values", "more"]),
        ("DequeueBlobs", ["x"], ["values"]),
        ("SafeDequeueBlobs", ["x"], ["values", "more"]),
    ],
)
def test_what_hands_no_gradient_on_stops_none(operator, inputs, outputs):
    net = procession.Net("net")
    getattr(net, operator)(inputs, outputs)
    net.Mul(["values", "weights"], "y")
    gradients = net.AddGradientOperators(["y"])
    assert "x" not in gradients
    assert "weights" in gradients
