"""Schemas from names, types and lists, and how they compare."""

import numpy as np
import pytest

from procession.errors import DuplicateFieldError, SchemaError, SchemaTypeError
from procession.graph import schema
from procession.graph.blob import BlobReference
from procession.graph.schema import (
    List,
    ListWithEvicted,
    Map,
    MapWithEvicted,
    Metadata,
    Scalar,
    Struct,
    Tuple,
)
from procession.operators.datatype import DataType

SCHEMAS = [
    Struct(),
    Tuple(np.int32, str),
    List(np.float32),
    List(List(Struct(("a", str), ("b:c", np.int8)))),
    Map(np.int32, Map(str, np.float64)),
    ListWithEvicted(List(np.int32)),
    Struct(("a:b", Map(np.int32, str)), ("c", MapWithEvicted(np.int32, Tuple(str)))),
    Struct(("a", Scalar((np.int32, (2, 3)), metadata=Metadata(5)))),
]


@pytest.mark.parametrize("field", SCHEMAS, ids=lambda field: ",".join(field.field_names()))
def test_the_columns_say_it_all(field):
    again = schema.from_column_list(
        field.field_names(), field.field_types(), None, field.field_metadata()
    )
    assert again == field
    assert repr(again) == repr(field)


def test_columns_that_hold_something():
    record = schema.from_column_list(
        ["b:lengths", "a", "b:values"], col_blobs=[BlobReference(name) for name in "xyz"]
    )
    assert record.field_names() == ["b:lengths", "b:values", "a"]
    assert record.field_blobs() == ["x", "z", "y"]


def test_columns_of_a_map_without_values_before_them():
    pairs = schema.from_column_list(["lengths", "keys", "values"], [np.int32, str, np.int8])
    assert pairs == Map(str, np.int8)


@pytest.mark.parametrize(
    "names", [["a", "a"], ["a", "a:b"], ["a:b", "a"], ["a:values", "a:lengths", "a:values:b"]]
)
def test_columns_do_not_stand_in_each_others_way(names):
    with pytest.raises(DuplicateFieldError, match=repr(names[-1])):
        schema.from_column_list(names)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["lengths", "a"], "'lengths'"),
        (["a::b"], "empty"),
        ([""], "empty"),
        (["lengths:a", "values"], "a Scalar, not a Struct"),
    ],
)
def test_columns_that_make_no_schema(names, match):
    with pytest.raises(AssertionError, match=match):
        schema.from_column_list(names)


@pytest.mark.parametrize("what", ["col_types", "col_blobs", "col_metadata"])
def test_columns_and_what_is_known_of_them(what):
    with pytest.raises(SchemaError, match=f"2 col_names, but 1 {what}"):
        schema.from_column_list(["a", "b"], **{what: [None]})


# Types.


def test_a_structured_type_is_a_struct():
    inner = np.dtype([("x", "f4", (2,)), ("y", "S4")], align=True)
    dtype = np.dtype([("a", "i4"), ("b", inner, (3,)), ("c", "O")])
    assert schema.from_dtype(dtype) == Struct(
        ("a", np.int32),
        ("b:x", Scalar((np.float32, (3, 2)))),
        ("b:y", Scalar(("S4", 3))),
        ("c", object),
    )


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        (np.int32, (), np.int32),
        ("f8", (), np.float64),
        ((np.int32, (3,)), (), (np.int32, (3,))),
        (np.dtype((np.int32, (3,))), (2,), (np.int32, (2, 3))),
        (np.int32, (1,), (np.int32, (1,))),
    ],
)
def test_a_plain_type_is_a_scalar(dtype, shape, expected):
    assert schema.from_dtype(dtype, shape) == Scalar(expected)


@pytest.mark.parametrize(
    ("dtype", "data_type"),
    [
        (np.float32, DataType.FLOAT),
        (np.float64, DataType.DOUBLE),
        (np.float16, DataType.FLOAT16),
        (np.int8, DataType.INT8),
        (np.int16, DataType.INT16),
        (np.int32, DataType.INT32),
        (np.int64, DataType.INT64),
        (np.uint8, DataType.UINT8),
        (np.uint16, DataType.UINT16),
        (bool, DataType.BOOL),
        (str, DataType.STRING),
    ],
)
def test_data_types(dtype, data_type):
    assert schema.data_type_for_dtype(np.dtype(dtype)) is data_type
    assert schema.data_type_for_dtype(dtype) is data_type
    assert schema.dtype_for_core_type(data_type) is dtype
    assert schema.dtype_for_core_type(int(data_type)) is dtype


def test_data_types_of_shapes_and_texts():
    assert schema.data_type_for_dtype(Scalar((np.int32, (2,))).dtype) is DataType.INT32
    assert schema.data_type_for_dtype(np.dtype("U5")) is DataType.STRING


@pytest.mark.parametrize("dtype", [np.void, np.complex64, np.uint32, object])
def test_types_without_a_data_type(dtype):
    with pytest.raises(TypeError, match="no DataType for"):
        schema.data_type_for_dtype(np.dtype(dtype))


@pytest.mark.parametrize("number", [0, 3, 99, "hello", []])
def test_data_types_of_no_column(number):
    with pytest.raises(TypeError, match="is not the DataType of a column"):
        schema.dtype_for_core_type(number)


# Values.


def test_values_for_a_schema():
    pair = Tuple(np.float32, List(str))
    record = schema.from_blob_list(pair, [[1], np.array([2]), ["a", "b"]])
    assert [blob.tolist() for blob in record.field_blobs()] == [[1.0], [2], ["a", "b"]]
    assert record.field_types() == pair.field_types()
    assert not pair.has_blobs()
    assert schema.from_blob_list(Scalar(), BlobReference("x"))() == "x"
    with pytest.raises(SchemaError, match="3 columns, but there are 1 values"):
        schema.from_blob_list(pair, [1])
    with pytest.raises(SchemaTypeError, match="the schema is a Field"):
        schema.from_blob_list([1], [1])
    with pytest.raises(SchemaTypeError, match="float32 was given int64"):
        schema.from_blob_list(Scalar(np.float32), [np.array([1])], True)


def test_what_can_be_a_record():
    scalar = Scalar(np.int32)
    assert schema.as_record(scalar) is scalar
    assert schema.as_record(np.int32) == scalar
    assert schema.as_record(BlobReference("x"))() == "x"
    assert schema.as_record(np.array([1]))().tolist() == [1]
    assert schema.as_record([np.int32, (str, np.int8)]) == Tuple(np.int32, Tuple(str, np.int8))
    nested = {"a": np.int32, "b": {"c": [str]}}
    assert schema.as_record(nested) == Struct(("a", np.int32), ("b:c", Tuple(str)))
    assert schema.as_record([("a", np.int32), ("b", [("c", [str])])]) == schema.as_record(nested)
    assert schema.as_record([]) == schema.as_record({}) == Struct()
    with pytest.raises(SchemaTypeError, match="not 3"):
        schema.as_record([3])


# Comparison.


def test_subsets_are_by_name():
    small, large = Struct(("b", np.int32)), Struct(("a", str), ("b", str))
    assert schema.is_schema_subset(small, large)
    assert schema.is_schema_subset(Struct(), small)
    assert not schema.is_schema_subset(large, small)


def test_what_is_compared():
    one = Struct(("a", Scalar(np.int32, metadata=Metadata(3))))
    other = Struct(("a", np.int32))
    assert schema.equal_schemas(one, other)
    assert not schema.equal_schemas(one, other, check_field_metas=True)
    other = Struct(("a", np.int64))
    assert not schema.equal_schemas(one, other)
    assert schema.equal_schemas(one, other, check_field_types=False)
    other = Struct(("b", np.int32))
    assert not schema.equal_schemas(one, other)
    assert schema.equal_schemas(one, other, check_field_names=False)
    with pytest.raises(SchemaTypeError, match="compared with is a Field"):
        schema.equal_schemas(one, {"a": np.int32})


def test_a_schema_that_has_to_be_the_one_before():
    before = Struct(("a", np.int32))
    assert schema.schema_check({"a": np.int32}) == before
    assert schema.schema_check({"a": np.int32}, before) == before
    with pytest.raises(SchemaError, match="is not the same as"):
        schema.schema_check({"a": np.int64}, before)
