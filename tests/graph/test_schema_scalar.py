"""Scalars, the columns of a schema: types, what they hold, metadata."""

import numpy as np
import pytest

from procession.errors import ProcessionError, SchemaError, SchemaTypeError
from procession.graph import schema
from procession.graph.schema import FeatureSpec, List, Metadata, Scalar, Struct


@pytest.mark.parametrize(
    ("given", "base", "shape"),
    [
        (None, np.void, ()),
        (np.float32, np.float32, ()),
        ("i2", np.int16, ()),
        ((np.int32, 5), np.int32, (5,)),
        ((np.int32, 1), np.int32, (1,)),
        ((np.int32, (2, 3)), np.int32, (2, 3)),
        ((None, (2,)), np.float64, (2,)),
    ],
)
def test_the_type_of_a_column(given, base, shape):
    scalar = Scalar(given)
    changed = Scalar()
    changed.set_type(given)
    for each in (scalar, scalar.clone_schema(), changed):
        assert each.field_type().base == np.dtype(base)
        assert each.dtype.shape == shape


@pytest.mark.parametrize("given", [(np.void, (2,)), (np.dtype("V"), 3), "no such", 3.5])
def test_no_type_of_a_column(given):
    with pytest.raises(SchemaTypeError, match="is no type of a column"):
        Scalar(given)


@pytest.mark.parametrize("given", [(np.int32, -1), (np.int32, (2, -3)), (str, (10, 20))])
def test_no_shape_of_a_column(given):
    with pytest.raises(SchemaError, match="is no type of a column") as caught:
        Scalar(given)
    assert isinstance(caught.value, ValueError)


def test_a_structured_type_is_several_columns():
    with pytest.raises(SchemaError, match="from_dtype"):
        Scalar([("a", "i4"), ("b", "f4")])


@pytest.mark.parametrize(
    ("dtype", "blob", "holds", "shape"),
    [
        (np.float32, 3, [3.0], ()),
        (np.float32, [1, 2], [1.0, 2.0], ()),
        (np.float32, [[1, 2]], [[1.0, 2.0]], (2,)),
        ((np.int32, 2), [[1, 2]], [[1, 2]], (2,)),
        ((np.int32, 2), [], np.zeros((0, 2)).tolist(), (2,)),
        (np.int32, np.array(7.0), 7, ()),
        (str, ["a", "bc"], ["a", "bc"], ()),
        (bool, [0, 1], [False, True], ()),
        (None, np.array([1.5]), [1.5], ()),
        (np.void, np.zeros((2, 1)), [[0.0], [0.0]], ()),
    ],
)
def test_what_a_scalar_holds(dtype, blob, holds, shape):
    scalar = Scalar(dtype, blob)
    assert scalar.has_blobs()
    assert scalar().tolist() == scalar.get().tolist() == holds
    assert scalar.dtype.shape == shape
    if dtype not in (None, np.void):
        assert scalar().dtype.kind == scalar.dtype.base.kind


@pytest.mark.parametrize(
    ("dtype", "blob", "error", "match"),
    [
        (None, "x", ValueError, "a text or as the name of a blob"),
        (str, b"x", ValueError, "a text or as the name of a blob"),
        (None, 3, TypeError, "an array or a BlobReference, not 3"),
        (None, [1], TypeError, "an array or a BlobReference"),
        (np.int32, ["x"], ValueError, "cannot be held by a column of int32"),
        (np.int32, [None], TypeError, "cannot be held by a column of int32"),
    ],
)
def test_what_a_scalar_cannot_hold(dtype, blob, error, match):
    with pytest.raises(error, match=match) as caught:
        Scalar(dtype, blob)
    assert isinstance(caught.value, ProcessionError)


def test_a_tuple_in_a_struct_is_no_type():
    with pytest.raises(SchemaTypeError, match="write Scalar"):
        Struct(("a", (np.int32, 3)))


def test_nothing_is_held():
    with pytest.raises(SchemaError, match="holds no blob"):
        Scalar(np.int32)()


def test_setting_a_scalar_is_warned_of(caplog):
    scalar = Scalar(np.int32, [1])
    scalar.set(np.float32, [2], unsafe=True)
    scalar.set_value([3, 4], unsafe=True)
    assert not caplog.records
    assert scalar().tolist() == [3.0, 4.0]
    scalar.set_value([5])
    assert "a Scalar that others may hold was changed" in caplog.text
    scalar.set(unsafe=True)
    assert scalar == Scalar()
    assert not scalar.has_blobs()


def test_a_scalar_that_cannot_be_set_stays_as_it_is():
    scalar = Scalar(np.int32, [1], Metadata(categorical_limit=3))
    with pytest.raises(SchemaTypeError):
        scalar.set_value([None], unsafe=True)
    with pytest.raises(SchemaError):
        scalar.set_type(np.float32)
    with pytest.raises(SchemaError):
        scalar.set(np.float32, [2], unsafe=True)
    assert (scalar.dtype, scalar().tolist()) == (np.int32, [1])
    scalar.set_type(np.int8)
    assert (scalar.dtype, scalar().dtype) == (np.int8, np.int32)


@pytest.mark.parametrize(
    ("dtype", "blob", "fits"),
    [
        (np.int32, np.array([1], np.int32), True),
        ((np.int32, 2), np.array([[1, 2]], np.int32), True),
        (np.int32, np.array([1], np.int64), False),
        (np.int32, [1], False),
        (str, np.array(["a"]), True),
        (str, np.array([b"a"], object), True),
        (str, np.array([1]), False),
        (None, np.array([1]), True),
    ],
)
def test_values_may_have_to_be_of_the_type(dtype, blob, fits):
    scalar = Scalar(dtype)
    if fits:
        scalar.set_value(blob, throw_on_type_mismatch=True, unsafe=True)
        assert scalar.has_blobs()
    else:
        with pytest.raises(SchemaTypeError, match=r"a column of .* was given"):
            scalar.set_value(blob, throw_on_type_mismatch=True, unsafe=True)
        scalar.set_value(blob, unsafe=True)


# Metadata.


def test_metadata_stay_with_a_column():
    spec = FeatureSpec("dense", feature_names=["x"])
    rows = List(Scalar(np.int32, metadata=Metadata(7, feature_specs=spec)))
    rows.lengths.set_metadata(Metadata(expected_value=3))
    expected = [(None, 3, None), (7, None, spec)]
    for each in (rows, rows.clone(), rows.clone_schema(), Struct(("a", rows))):
        assert each.field_metadata() == expected
    assert rows.items.metadata.feature_specs.feature_names == ["x"]
    assert rows != List(np.int32)
    rows.items.set(np.int64, unsafe=True)
    assert rows.items.metadata.categorical_limit == 7
    schema.attach_metadata_to_scalars(rows, Metadata(9))
    assert rows.field_metadata() == [Metadata(9)] * 2


@pytest.mark.parametrize("dtype", [np.float32, str, None])
def test_limits_are_for_whole_numbers(dtype):
    with pytest.raises(SchemaError, match="for columns of whole numbers"):
        Scalar(dtype, metadata=Metadata(categorical_limit=3))
    assert Scalar((np.int64, 5), metadata=Metadata(3)).metadata == Metadata(3)


@pytest.mark.parametrize("metadata", [3, (1, 2, 3), None])
def test_metadata_are_metadata(metadata):
    with pytest.raises(SchemaTypeError, match="metadata are a Metadata"):
        Scalar(np.int32).set_metadata(metadata)
