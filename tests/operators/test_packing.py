import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

X = np.arange(6, dtype=np.float32).reshape(3, 2)
LENGTHS = np.int32([1, 2])


def test_pack_segments():
    packed, present = run_operator(
        "PackSegments", LENGTHS, X, return_presence_mask=True, n_outputs=2
    )
    assert packed.tolist() == [[[0, 1], [0, 0]], [[2, 3], [4, 5]]]
    assert present.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"pad_minf": True}, [[0, -np.inf], [2, 4]]),
        ({"max_length": 3}, [[0, 0, 0], [2, 4, 0]]),
        ({"max_length": 1}, [[0], [2]]),
    ],
)
def test_padding_and_length(arguments, expected):
    assert run_operator("PackSegments", LENGTHS, X[:, 0], **arguments).tolist() == expected


def test_pack_strings():
    packed = run_operator("PackSegments", np.int32([1, 0]), np.array(["a"], object))
    assert packed.tolist() == [["a"], [""]]


def test_unpack_segments_undoes_it():
    packed = run_operator("PackSegments", LENGTHS, X)
    np.testing.assert_array_equal(run_operator("UnpackSegments", LENGTHS, packed), X)
    y = run_operator("UnpackSegments", np.int32([0, 3]), packed, max_length=2)
    np.testing.assert_array_equal(y, X[1:])


@pytest.mark.parametrize(
    ("name", "inputs", "arguments", "message"),
    [
        ("PackSegments", [LENGTHS, X[:2]], {}, "add up to 3, but there are 2 rows"),
        ("PackSegments", [LENGTHS, X], {"n_outputs": 2}, "two outputs with return_presence_mask"),
        ("UnpackSegments", [LENGTHS, X[:, :, None]], {}, "2 lengths for packed data"),
        ("UnpackSegments", [LENGTHS, X[:2, :1]], {}, "a length of 2, the data is"),
        ("UnpackSegments", [LENGTHS, X[:2]], {"max_length": 3}, "max_length=3"),
        ("LengthsPad", [X, LENGTHS], {"target_length": 1}, "a length of 2, target_length=1"),
        ("AddPadding", [X], {"padding_width": -1}, "padding_width=-1 is negative"),
        ("RemovePadding", [X, LENGTHS], {}, "a segment has less than 2 rows"),
        ("GatherPadding", [X, LENGTHS], {}, "a segment has less than 2 rows"),
        ("PadEmptySamples", [LENGTHS, X[:2]], {}, "there are 2 rows"),
        ("Partition", [LENGTHS, X], {"n_outputs": 3}, "3 outputs for 2 inputs"),
        ("Partition", [LENGTHS, X], {"n_outputs": 4}, r"input 1 is \(3, 2\), .* \(2,\)"),
        ("LengthsPartition", [LENGTHS, X], {"n_outputs": 2}, "not a vector"),
    ],
)
def test_errors(name, inputs, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, *inputs, **arguments)


def test_lengths_pad():
    y = run_operator("LengthsPad", X[:, 0], LENGTHS, target_length=3, padding_value=-1.0)
    assert y.tolist() == [0, -1, -1, 2, 4, -1]


def test_add_padding():
    y, lengths = run_operator("AddPadding", X[:, :1], LENGTHS, n_outputs=2)
    assert y.ravel().tolist() == [0, 0, 0, 0, 2, 4, 0]
    assert lengths.tolist() == [3, 4]
    assert lengths.dtype == np.int32
    nine, eight = np.float32([9]), np.float32([8])
    y = run_operator("AddPadding", X[:, :1], LENGTHS, nine, end_padding_width=0, n_outputs=1)
    assert y.ravel().tolist() == [9, 0, 9, 2, 4]
    y = run_operator("AddPadding", X[:, :1], LENGTHS, nine, eight, end_padding_width=2, n_outputs=1)
    assert y.ravel().tolist() == [9, 0, 8, 8, 9, 2, 4, 8, 8]
    assert run_operator("AddPadding", X[:, 0], n_outputs=1).tolist() == [0, 0, 2, 4, 0]


def test_remove_padding():
    x = np.arange(6, dtype=np.float32)
    y, lengths = run_operator("RemovePadding", x, np.int32([2, 4]), n_outputs=2)
    assert y.tolist() == [3, 4]
    assert lengths.tolist() == [0, 2]
    assert run_operator("RemovePadding", x, end_padding_width=3, n_outputs=1).tolist() == [1, 2]


def test_gather_padding():
    x, lengths = np.arange(6, dtype=np.float32)[:, None], np.int32([3, 3])
    before, behind = run_operator("GatherPadding", x, lengths, n_outputs=2)
    assert (before.tolist(), behind.tolist()) == ([0 + 3], [2 + 5])
    assert run_operator("GatherPadding", x, lengths, n_outputs=1).tolist() == [10]


def test_pad_empty_samples():
    lengths, y, z = run_operator(
        "PadEmptySamples", np.int32([1, 0, 2]), X, np.array([7, 8, 9]), n_outputs=3
    )
    assert lengths.tolist() == [1, 1, 2]
    assert y.tolist() == [[0, 1], [0, 0], [2, 3], [4, 5]]
    assert z.tolist() == [7, 0, 8, 9]


def test_partition():
    main, x = np.int32([5, 2, 3, -4]), np.arange(4, dtype=np.float32)
    results = run_operator("Partition", main, x, n_outputs=4)
    assert [each.tolist() for each in results] == [[2, -4], [1, 3], [5, 3], [0, 2]]
    results = run_operator("Partition", main, x, n_outputs=4, pack_first_input=True)
    assert [each.tolist() for each in results] == [[1, -2], [1, 3], [2, 1], [0, 2]]
    assert results[0].dtype == np.int32


def test_lengths_partition():
    results = run_operator("LengthsPartition", np.int32([2, 1]), np.array([5, 2, 3]), n_outputs=4)
    assert [each.tolist() for each in results] == [[1, 0], [2], [1, 1], [5, 3]]
    with pytest.raises(TypeError, match="must be integers, not float32"):
        run_operator("Partition", X, n_outputs=2)
