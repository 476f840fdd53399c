"""Records in nets and workspaces."""

import logging

import numpy as np
import pytest

from procession import LocalSession, Net
from procession.errors import BlobNotFoundError, SchemaError, SchemaTypeError
from procession.graph.blob import BlobReference
from procession.graph.schema import (
    ConstRecord,
    FeedRecord,
    FetchRecord,
    InitEmptyRecord,
    List,
    Map,
    NewRecord,
    Scalar,
    Struct,
    Tuple,
    from_blob_list,
)
from procession.graph.scope import NameScope
from procession.operators.datatype import DataType


@pytest.fixture
def pair():
    return Struct(("x", Scalar((np.float32, 2))), ("words", List(str)))


@pytest.fixture
def workspace():
    with LocalSession() as session:
        yield session.workspace()


def test_new_records_have_blobs_called_as_their_columns(pair):
    net = Net("n")
    record = NewRecord(net, pair)
    assert record == pair
    assert record.field_blobs() == ["x", "words:lengths", "words:values"]
    assert record.x().Net() is net
    assert not pair.has_blobs()
    # Each call names new ones.
    again = NewRecord(net, record)
    assert again.field_blobs() == ["x_auto_0", "words:lengths_auto_0", "words:values_auto_0"]


def test_new_records_in_a_scope():
    net = Net("n")
    with NameScope("s"):
        assert NewRecord(net, Map(str, str)).field_blobs() == [
            "s/lengths",
            "s/values:keys",
            "s/values:values",
        ]
        assert NewRecord(net, Scalar(np.int32))() == "s/unnamed_scalar"
        assert NewRecord(net, Scalar(np.int32))() == "s/unnamed_scalar_auto_0"
    assert NewRecord(net, Struct()).field_blobs() == []
    with pytest.raises(SchemaTypeError, match="NewRecord makes a record of is a Field"):
        NewRecord(net, {"a": np.int32})


def test_there_and_back(pair, workspace):
    record = NewRecord(Net("n"), pair)
    FeedRecord(
        record, [np.ones((3, 2), np.float32), np.array([2], np.int32), ["a", "b"]], workspace
    )
    fetched = FetchRecord(record, workspace)
    assert fetched.field_types() == pair.field_types()
    assert fetched.x().tolist() == [[1, 1]] * 3
    assert fetched.words.lengths().tolist() == [2]
    assert fetched.words.items().tolist() == ["a", "b"]
    # What was fetched can be fed.
    other = NewRecord(Net("m"), pair)
    FeedRecord(other, fetched, workspace)
    assert FetchRecord(other, workspace, throw_on_type_mismatch=True).x().shape == (3, 2)


def test_fetched_values_may_have_to_be_of_the_type(workspace):
    record = Struct(("a", Scalar(np.float32, BlobReference("a"))))
    workspace.feed_blob("a", np.array([1, 2], np.int64))
    assert FetchRecord(record, workspace).a().dtype == np.float32
    with pytest.raises(SchemaTypeError, match=r"column 'a': .* float32 was given int64"):
        FetchRecord(record, workspace, throw_on_type_mismatch=True)
    alone = Scalar(np.float32, BlobReference("a"))
    with pytest.raises(SchemaTypeError, match=r"^a column of float32 was given int64"):
        FetchRecord(alone, workspace, throw_on_type_mismatch=True)


def test_blobs_that_are_not_there(workspace):
    with pytest.raises(BlobNotFoundError, match="nope"):
        FetchRecord(Scalar(blob=BlobReference("nope")), workspace)


@pytest.mark.parametrize("number", [1, 4])
def test_as_many_values_as_columns(pair, workspace, number):
    record = NewRecord(Net("n"), pair)
    with pytest.raises(SchemaError, match=f"3 columns, but there are {number} values"):
        FeedRecord(record, [np.ones(1)] * number, workspace)
    assert not workspace.has_blob("x")


def test_only_blobs_are_fed_and_fetched(workspace):
    for record, match in (
        (Struct(("a", np.array([1]))), "the column 'a' holds a value"),
        (Scalar(blob=np.array([1])), "the Scalar holds a value"),
        ([BlobReference("a")], "the record is a Field"),
    ):
        with pytest.raises(SchemaTypeError, match=match):
            FetchRecord(record, workspace)
        with pytest.raises(SchemaTypeError, match=match):
            FeedRecord(record, [np.ones(1)], workspace)
    with pytest.raises(SchemaError, match="holds no blob"):
        FeedRecord(Scalar(np.int32), [np.ones(1)], workspace)


def test_constant_records():
    arrays = from_blob_list(Tuple(np.float32, np.int32), [[1.5, 2.5], [3]])
    net = Net("n")
    record = ConstRecord(net, arrays)
    assert record.field_blobs() == ["field_0", "field_1"]
    with LocalSession() as session:
        session.run(net)
        fetched = FetchRecord(record, session.workspace(), throw_on_type_mismatch=True)
    assert [blob.tolist() for blob in fetched.field_blobs()] == [[1.5, 2.5], [3]]
    with pytest.raises(SchemaError, match="holds no blob"):
        ConstRecord(net, Tuple(np.float32))


class Fills:
    """Stands in for a net, and keeps what it is asked to fill."""

    def __init__(self):
        self.filled = {}

    def NextScopedBlob(self, name):
        return BlobReference(name)

    def ConstantFill(self, inputs, blob, **arguments):
        assert inputs == []
        self.filled[str(blob)] = arguments


def test_empty_records(pair):
    net = Fills()
    assert InitEmptyRecord(net, pair).field_blobs() == list(net.filled)
    assert net.filled == {
        "x": {"shape": [0, 2], "dtype": DataType.FLOAT},
        "words:lengths": {"shape": [0], "dtype": DataType.INT32},
        "words:values": {"shape": [0], "dtype": DataType.STRING},
    }
    record = Struct(("a", Scalar(np.int64, BlobReference("mine"))))
    assert InitEmptyRecord(net, record) is record
    assert net.filled["mine"] == {"shape": [0], "dtype": DataType.INT64}


def test_empty_records_of_no_known_type(caplog):
    net, raw = Fills(), Struct(("a", np.int8), ("b", Scalar()))
    with caplog.at_level(logging.WARNING):
        InitEmptyRecord(net, raw)
    assert net.filled["b"] == {"shape": [0]}
    assert "the column 'b' is filled with floats" in caplog.text
    strict = Fills()
    with pytest.raises(TypeError, match="the column 'b' cannot be filled"):
        InitEmptyRecord(strict, raw, enforce_types=True)
    assert strict.filled == {}


def test_empty_records_run():
    net = Net("n")
    record = InitEmptyRecord(net, Tuple(np.float32, Scalar((np.int32, 3))))
    with LocalSession() as session:
        session.run(net)
        fetched = FetchRecord(record, session.workspace(), throw_on_type_mismatch=True)
    assert [blob.shape for blob in fetched.field_blobs()] == [(0,), (0, 3)]
