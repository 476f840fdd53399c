"""Schemas: fields, their columns, and what can be asked of them."""

import copy
import pickle

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procession.errors import (
    DuplicateFieldError,
    FieldNotFoundError,
    SchemaError,
    SchemaTypeError,
)
from procession.graph import schema
from procession.graph.blob import BlobReference
from procession.graph.schema import (
    Field,
    List,
    ListWithEvicted,
    Map,
    MapWithEvicted,
    NamedTuple,
    RawTuple,
    Scalar,
    Struct,
    Tuple,
)


@pytest.fixture
def record():
    return Struct(
        ("id", np.int64),
        ("words", List(str)),
        ("user", Struct(("age", Scalar(np.int8)), ("scores", Map(np.int32, np.float32)))),
    )


NAMES = [
    "id",
    "words:lengths",
    "words:values",
    "user:age",
    "user:scores:lengths",
    "user:scores:values:keys",
    "user:scores:values:values",
]


# Columns.


def test_columns_are_paths_to_scalars(record):
    assert record.field_names() == NAMES
    types = [np.int64, np.int32, str, np.int8, np.int32, np.int32, np.float32]
    assert record.field_types() == [np.dtype(each) for each in types]
    assert record.field_metadata() == [None] * 7
    assert [scalar.id() for scalar in record.all_scalars()] == list(range(7))
    assert Scalar().field_names() == [""]
    assert Struct().field_names() == Struct(("a", Struct())).field_names() == []


def test_a_slice_cuts_a_fields_columns_out_of_the_whole(record):
    assert NAMES[record.words.slice()] == NAMES[1:3]
    assert NAMES[record.user.scores.slice()] == NAMES[4:]
    assert NAMES[record["user:scores:values:keys"].slice()] == NAMES[5:6]
    assert record.slice() == slice(0, 7)
    evicted = Struct(("a", np.int32), ("b", ListWithEvicted(Tuple(np.int32, np.int32))))
    assert evicted["b:_evicted_values"].id() == 4
    # A field taken out, and put elsewhere, is a copy there.
    assert Struct(("x", np.int8), ("age", record.user.age))["age"].id() == 1
    assert record.user.age.id() == 3


def test_what_columns_hold():
    blobs = [BlobReference("a"), BlobReference("b")]
    full = Tuple(*blobs)
    assert full.has_blobs()
    assert full.field_blobs() == blobs
    assert full.field_types() == [np.dtype(np.void)] * 2
    half = Tuple(BlobReference("a"), np.int32)
    assert not half.has_blobs()
    with pytest.raises(SchemaError, match="int32 holds no blob"):
        half.field_blobs()
    assert Struct().has_blobs()
    assert Struct().field_blobs() == []
    assert not ListWithEvicted(BlobReference("v"), BlobReference("l")).has_blobs()


def test_a_field_of_unnamed_fields():
    field = Field([Scalar(), List(Tuple(np.int32, np.int8)), Struct(), Scalar()])
    assert field.field_names() == ["0", "1:lengths", "1:values:field_0", "1:values:field_1", "3"]
    assert field.slice() == slice(0, 5)
    assert field.all_scalars()[4].id() == 4
    with pytest.raises(NotImplementedError, match="Field does not say how it is copied"):
        field.clone()


# Structs.


def test_fields_are_attributes_and_items(record):
    assert record.user.scores is record["user:scores"] is record["user"]["scores"]
    assert record.words.items is record["words:values"] is record.words["values"]
    assert record["words:lengths"] is record.words.lengths
    assert record[0] is record.id
    assert record[-1] is record[np.int64(2)] is record.user
    assert list(record) == [record.id, record.words, record.user]
    assert record.get_children() == list(record.fields.items())
    assert list(record.fields) == ["id", "words", "user"]
    assert len(record) == 3
    assert not Struct()
    assert {"id", "words", "clone"} <= set(dir(record))


def test_several_fields_make_a_struct(record):
    assert record["user:age", "id"].field_names() == ["user:age", "id"]
    assert record[["words", 0]].field_names() == ["words:lengths", "words:values", "id"]
    assert record[:-1].field_names() == NAMES[:3]
    assert record[()] == Struct()
    assert record["id",].id is not record.id


@pytest.mark.parametrize(
    "path",
    ["", "ids", "id:x", "id:", ":id", "words:items", "words:values:x", "user::age", "user:ages"],
)
def test_no_such_field(record, path):
    assert path not in record
    with pytest.raises(FieldNotFoundError) as caught:
        record[path]
    assert caught.value.field == path
    assert isinstance(caught.value, KeyError)
    with pytest.raises(KeyError):
        record[[path]]


def test_no_such_field_says_which_there_are(record):
    with pytest.raises(FieldNotFoundError, match=r"no field 'usr'. Did you mean 'user'.* 'words'"):
        record["usr"]
    with pytest.raises(AttributeError, match="the Struct has no field 'nope'"):
        record.nope  # noqa: B018
    with pytest.raises(IndexError, match="no field number 3, but 3 fields"):
        record[3]
    with pytest.raises(IndexError):
        record[-4]
    with pytest.raises(KeyError, match="It has none"):
        Struct()["a"]
    with pytest.raises(TypeError, match=r"a name or a number, not 1\.5"):
        record[1.5]
    assert getattr(record, "nope", None) is None
    assert 3 not in record


@pytest.mark.parametrize("path", [*NAMES, "user", "words"])
def test_there_is_such_a_field(record, path):
    assert path in record


def test_get_looks_at_one_level(record):
    assert record.get("id", None) is record.id
    assert record.get("nope", 7) == 7
    assert record.get("user:age") is None
    assert record.get("clone", None) is None


def test_names_with_colons_nest():
    assert Struct(
        ("a:b:c", np.int32), ("d", str), ("a", Struct(("e", np.int8))), ("a:b:f", np.int16)
    ) == Struct(
        ("a", Struct(("b", Struct(("c", np.int32), ("f", np.int16))), ("e", np.int8))), ("d", str)
    )


@pytest.mark.parametrize("name", ["", ":", "a:", ":a", "a::b"])
def test_a_name_is_not_empty(name):
    with pytest.raises(SchemaError, match="cannot be empty"):
        Struct((name, np.int32))


@pytest.mark.parametrize("name", ["lengths", "a:lengths", "lengths:a"])
def test_lengths_are_for_lists(name):
    with pytest.raises(SchemaError, match="'lengths'"):
        Struct((name, np.int32))


@pytest.mark.parametrize(
    "names", [["a", "a"], ["a", "b", "a:b"], ["a:b", "a"], ["a:b", "a:b"], ["a:b:c", "a:b"]]
)
def test_no_two_fields_have_one_name(names):
    with pytest.raises(DuplicateFieldError) as caught:
        Struct(*((name, np.int32) for name in names))
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == names[-1].split(":")[-1] or caught.value.field == "a"


@pytest.mark.parametrize("field", ["ab", ("a",), ("a", 1, 2), 3, (1, np.int32)])
def test_a_struct_is_made_of_pairs(field):
    with pytest.raises(SchemaTypeError, match=r"pairs|a string"):
        Struct(field)


def test_fields_cannot_be_set(record):
    for name in ("id", "new", "fields"):
        with pytest.raises(TypeError, match=f"record.{name} = "):
            setattr(record, name, Scalar())
    assert record.id.dtype == np.int64


def test_a_field_may_be_called_as_what_a_struct_has():
    record = Struct(("get", np.int32), ("fields", np.int8), ("items", str))
    assert [record[name].dtype.kind for name in record.fields] == ["i", "i", "U"]
    assert record.items.dtype.kind == "U"


# Sums and differences.


def test_a_sum_has_the_fields_of_both():
    left = Struct(("a", np.int32), ("b", Struct(("c", str))), ("x", List(str)))
    right = Struct(("d", np.int8), ("b", Struct(("c2", str), ("c3:e", str))))
    names = ["a", "b:c", "b:c2", "b:c3:e", "x:lengths", "x:values", "d"]
    assert (left + right).field_names() == names
    assert (left + Struct()) == left
    # The sum is made of copies.
    assert (left + right).a is not left.a
    assert left.field_names() == ["a", "b:c", "x:lengths", "x:values"]


@pytest.mark.parametrize("right", [Scalar(), List(str), Struct(("c", str))])
def test_only_structs_can_be_merged(right):
    left = Struct(("a", Struct(("c", List(str)))))
    with pytest.raises(TypeError, match="only Structs can be merged"):
        left + Struct(("a", right))


def test_a_difference_has_what_the_other_has_not():
    record = Struct(("a", np.int32), ("b", Struct(("c", str), ("d", str))), ("e", List(str)))
    assert record - Struct(("a", str)) == Struct(*record.get_children()[1:])
    assert (record - Struct(("b:c", str))).field_names() == ["a", "b:d", "e:lengths", "e:values"]
    assert list((record - Struct(("b:c", str), ("b:d", str))).fields) == ["a", "e"]
    assert record - Struct(("z", str)) == record
    assert record - record == Struct()
    assert list((Struct(("a", Struct())) - Struct(("a", Struct()))).fields) == []
    with pytest.raises(SchemaTypeError, match="'a' is a Scalar here and a Struct"):
        record - Struct(("a:x", str))


@pytest.mark.parametrize("other", [Scalar(), List(str), 3, None])
def test_structs_are_added_to_structs(other):
    with pytest.raises(TypeError):
        Struct() + other
    with pytest.raises(TypeError):
        Struct() - other


paths = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(":".join), max_size=4)


def struct_of(names):
    try:
        return Struct(*((name, np.int32) for name in names))
    except DuplicateFieldError:
        return Struct()


def inner(names):
    """The beginnings of paths: what has to be a struct."""
    parts = [name.split(":") for name in names]
    return {":".join(part[:end]) for part in parts for end in range(1, len(part))}


@settings(derandomize=True, deadline=None)
@given(paths.map(struct_of), paths.map(struct_of))
def test_sums_and_differences_are_those_of_sets(left, right):
    first, second = set(left.field_names()), set(right.field_names())
    if first & second or first & inner(second) or inner(first) & second:
        with pytest.raises(DuplicateFieldError):
            left + right
        return
    both = left + right
    assert set(both.field_names()) == first | second
    assert (both - left).field_names() == right.field_names()
    assert (both - right).field_names() == left.field_names()


# Lists.


def test_a_list_has_lengths_and_values():
    rows = List(np.float32)
    assert rows.field_names() == ["lengths", "values"]
    assert rows.lengths.dtype == np.int32
    assert rows.items is rows.value is rows["values"]
    assert List(np.float32, BlobReference("l")).lengths() == "l"
    assert List(np.float32, Scalar(np.int64)).lengths.dtype == np.int64
    with pytest.raises(SchemaTypeError, match="lengths of a list are a Scalar, not a Struct"):
        List(np.float32, Struct())


def test_a_list_of_structs_has_their_fields():
    rows = List(Struct(("a", np.int32), ("b:c", str)))
    assert rows.a is rows["values:a"]
    assert rows.b.c is rows["values:b:c"]
    with pytest.raises(AttributeError, match="the Struct has no field 'items'"):
        rows.items  # noqa: B018
    nested = List(List(np.int32))
    assert nested.field_names() == ["lengths", "values:lengths", "values:values"]
    assert nested.items.items.dtype == np.int32


@pytest.mark.parametrize("path", ["items", "lengths:x", "values:x", "a", "", "_evicted_values"])
def test_no_such_field_of_a_list(path):
    with pytest.raises(KeyError, match="has no field"):
        List(np.int32)[path]


def test_no_such_attribute_of_a_list():
    with pytest.raises(AttributeError, match="the List has no field 'values'"):
        List(np.int32).values  # noqa: B018
    with pytest.raises(TypeError, match="has a name, not 0"):
        List(np.int32)[0]


def test_a_map_is_a_list_of_pairs():
    pairs = Map(np.int32, List(str), keys_name="k", values_name="v", lengths_blob=np.array([2]))
    names = ["lengths", "values:k", "values:v:lengths", "values:v:values"]
    assert pairs.field_names() == names
    assert pairs.k.dtype == np.int32
    assert pairs.lengths().tolist() == [2]
    assert Map(np.int32, str).keys.dtype == np.int32


def test_a_list_with_evicted_values():
    rows = MapWithEvicted(np.int32, str, evicted_values=BlobReference("e"))
    names = ["lengths", "values:keys", "values:values", "_evicted_values"]
    assert rows.field_names() == names
    assert rows["_evicted_values"]() == "e"
    assert rows["_evicted_values"].dtype == np.int64
    assert ListWithEvicted(str, evicted_values=Scalar(np.int32)).field_types()[2] == np.int32
    copied = rows.clone()
    assert type(copied) is ListWithEvicted
    assert copied["_evicted_values"]() == "e"


def test_tuples():
    assert list(Tuple(np.int32, List(str)).fields) == ["field_0", "field_1"]
    assert list(NamedTuple("x", str).fields) == ["x_0"]
    assert RawTuple(2, "y").field_names() == ["y_0", "y_1"]
    assert RawTuple(1).field_types() == [np.dtype(np.void)]
    assert RawTuple(0) == Struct()
    with pytest.raises(TypeError, match="a number of fields, not '2'"):
        RawTuple("2")
    with pytest.raises(ValueError, match="-1 is below zero"):
        RawTuple(-1)


# Copies, comparison, text.


def test_what_makes_fields_equal(record):
    assert record == record.clone()
    assert Scalar(np.int32, BlobReference("a")) == Scalar(np.int32)
    assert Scalar(np.int32) != Scalar(np.int64)
    assert Struct(("a", np.int32)) != Struct(("b", np.int32))
    assert Tuple(np.int32) != Scalar(np.int32)
    assert record != "record"
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda field: field.clone(),
        lambda field: pickle.loads(pickle.dumps(field)),
        lambda field: pickle.loads(cloudpickle.dumps(field)),
    ],
)
def test_copies(record, copied):
    full = schema.from_blob_list(record, [BlobReference(name) for name in NAMES])
    other = copied(full)
    assert other is not full
    assert other == full
    assert other.field_blobs() == NAMES
    assert other.user.scores.keys() == "user:scores:values:keys"
    assert other["user:scores:values:keys"].id() == 5
    assert getattr(other, "nope", None) is None
    with pytest.raises(TypeError):
        other.id = Scalar()


def test_a_bare_copy(record):
    full = schema.from_blob_list(record, [BlobReference(name) for name in NAMES])
    assert not full.clone_schema().has_blobs()
    assert full.clone(keep_blobs=False) == full
    assert full.has_blobs()


@pytest.mark.parametrize("kind", [List, ListWithEvicted, Struct])
def test_copies_are_of_the_same_class(kind):
    class Mine(kind):
        pass

    field = Mine(("a", np.int32)) if kind is Struct else Mine(np.int32)
    for each in (field.clone(), field.clone_schema(), Struct(("m", field)).m):
        assert type(each) is Mine
        assert each == field


def test_a_field_put_into_another_is_copied():
    age = Scalar(np.int8)
    record = Struct(("age", age))
    age.set_type(np.int64)
    assert record.age.dtype == np.int8


def test_the_text_of_a_schema():
    record = Struct(("a", np.int32), ("b", ListWithEvicted(BlobReference("x"))), ("c", Struct()))
    assert repr(record).splitlines() == [
        "Struct(",
        "  a=",
        "    Scalar(dtype('int32'), None, None)",
        "  b=",
        "    ListWithEvicted(",
        "      lengths=",
        "        Scalar(dtype('int32'), None, None)",
        "      _items=",
        "        Scalar(dtype('V'), BlobReference(\"x\"), None)",
        "      _evicted_values=",
        "        Scalar(dtype('int64'), None, None)",
        "    )",
        "  c=",
        "    Struct(",
        "    )",
        ")",
    ]


def test_the_errors_are_those_that_scripts_catch():
    for error in (SchemaError, SchemaTypeError):
        assert issubclass(error, AssertionError)
    assert issubclass(DuplicateFieldError, (ValueError, TypeError))
    failed = pickle.loads(pickle.dumps(FieldNotFoundError("no a", field="a")))
    assert (str(failed), failed.field) == ("no a", "a")
