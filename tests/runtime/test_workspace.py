"""Workspace: names to values, parents, snapshots."""

import datetime
import threading

import numpy as np
import pytest

from procession import BlobNotFoundError, BlobReference, Workspace
from procession.blobs.shared import MINIMUM

SMALL, LARGE = 4, MINIMUM  # float32 elements: the large one has a buffer


@pytest.fixture
def workspace():
    return Workspace(node="n1")


# Feeding and fetching.


@pytest.mark.parametrize(
    "value",
    [
        np.float32([[1, 2], [3, 4]]),
        np.arange(LARGE, dtype=np.float64).reshape(2, -1),
        np.zeros((0, 3), np.int32),
        np.array(5, np.int8),
        np.float16([1.5]),
        np.array([1 + 2j]),
        np.array([True, False]),
        np.array(["text", "more"]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.arange(4, dtype=">i4"),
    ],
)
def test_arrays_keep_dtype_and_shape(workspace, value):
    workspace.feed_blob("x", value)
    fetched = workspace.fetch_blob("x")
    np.testing.assert_array_equal(fetched, value)
    assert fetched.dtype == value.dtype
    assert fetched.shape == value.shape
    assert not fetched.flags.writeable


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_any_layout_can_be_fed(workspace, size):
    whole = np.arange(2 * size, dtype=np.float32).reshape(2, size)
    for view in (whole.T, whole[:, ::2], whole[::-1], np.broadcast_to(whole[0], (3, size))):
        workspace.feed_blob("x", view)
        fetched = workspace.fetch_blob("x")
        np.testing.assert_array_equal(fetched, view)
        assert fetched.flags.c_contiguous


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, np.bool_),
        (3, np.int64),
        (2.5, np.float32),
        (np.float64(2.5), np.float64),
        (np.int8(3), np.int8),
    ],
)
def test_numbers_become_arrays(workspace, value, dtype):
    workspace.feed_blob("x", value)
    fetched = workspace.fetch_blob("x")
    assert isinstance(fetched, np.ndarray)
    assert fetched.shape == ()
    assert fetched.dtype == dtype
    assert fetched == value


@pytest.mark.parametrize(
    "value", [None, "text", b"bytes", [1, [2]], {"a": 1}, 2**100, datetime.date(2020, 1, 1)]
)
def test_all_else_is_kept_as_it_is(workspace, value):
    workspace.feed_blob("x", value)
    assert workspace.fetch_blob("x") == value
    assert type(workspace.fetch_blob("x")) is type(value)


def test_subclasses_of_arrays(workspace):
    masked = np.ma.MaskedArray([1, 2], [True, False])
    workspace.feed_blob("masked", masked)
    assert isinstance(workspace.fetch_blob("masked"), np.ma.MaskedArray)
    workspace.feed_blob("matrix", np.eye(2).view(np.recarray))
    assert type(workspace.fetch_blob("matrix")) is np.ndarray


@pytest.mark.parametrize("name", ["x", BlobReference("x")])
def test_names_may_be_references(workspace, name):
    workspace.feed_blob(name, 1)
    assert workspace.has_blob(name)
    assert workspace.fetch_blob(name) == 1
    assert workspace.names() == ["x"]
    workspace.remove_blob(name)
    assert not workspace.has_blob(name)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_was_fed_is_a_copy(workspace, size):
    value = np.zeros(size, np.float32)
    workspace.feed_blob("x", value)
    value[:] = 1
    assert not workspace.fetch_blob("x").any()


def test_objects_are_copied_both_ways(workspace):
    value = {"list": [1]}
    workspace.feed_blob("x", value)
    value["list"].append(2)
    fetched = workspace.fetch_blob("x")
    assert fetched == {"list": [1]}
    fetched["list"].append(3)
    assert workspace.fetch_blob("x") == {"list": [1]}


def test_arrays_of_objects_are_copied_both_ways(workspace):
    value = np.array([[1], "text"], object)
    workspace.feed_blob("x", value)
    value[0].append(2)
    fetched = workspace.fetch_blob("x")
    assert fetched.tolist() == [[1], "text"]
    fetched[0].append(3)
    assert workspace.fetch_blob("x").tolist() == [[1], "text"]


def test_what_cannot_be_copied_is_shared(workspace):
    lock = threading.Lock()
    workspace.feed_blob("x", lock)
    assert workspace.fetch_blob("x") is lock


# Snapshots.


@pytest.mark.parametrize("size", [1, SMALL, MINIMUM // 4 - 1, MINIMUM // 4, LARGE])
def test_what_was_fetched_never_changes(workspace, size):
    fetched = []
    for number in range(5):
        workspace.feed_blob("x", np.full(size, number, np.float32))
        fetched.append(workspace.fetch_blob("x"))
    workspace.feed_blob("x", "text")
    workspace.feed_blob("x", np.full(size, 9, np.float32))
    workspace.remove_blob("x")
    workspace.close()
    for number, array in enumerate(fetched):
        assert (array == number).all()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_read_only_for_good(workspace, size):
    workspace.feed_blob("x", np.zeros(size, np.float32))
    fetched = workspace.fetch_blob("x")
    for array in (fetched, fetched[1:], fetched.reshape(2, -1), fetched.view(np.int32)):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    with pytest.raises(TypeError, match=r"read-?only"):
        memoryview(fetched)[0] = 1
    assert not workspace.fetch_blob("x").any()


def test_a_large_fetch_copies_nothing(workspace):
    workspace.feed_blob("x", np.zeros(LARGE, np.float32))
    first, second = workspace.fetch_blob("x"), workspace.fetch_blob("x")
    assert np.shares_memory(first, second)


def test_memory_is_written_in_place_when_nobody_looks(workspace):
    workspace.feed_blob("x", np.zeros(LARGE, np.float32))
    address = workspace.fetch_blob("x").ctypes.data
    workspace.feed_blob("x", np.ones(LARGE, np.float32))
    looked = workspace.fetch_blob("x")
    assert looked.ctypes.data == address
    part = looked[5:6]
    del looked
    workspace.feed_blob("x", np.full(LARGE, 2, np.float32))
    assert workspace.fetch_blob("x").ctypes.data != address
    assert part == 1


# Blobs, by name.


def test_the_mapping_of_blobs(workspace):
    workspace.feed_blob("b", 1)
    workspace.feed_blob("a", 2)
    blobs = workspace.blobs
    assert list(blobs) == ["a", "b"]
    assert len(blobs) == 2
    assert "a" in blobs
    assert BlobReference("a") in blobs
    assert "c" not in blobs
    assert blobs["a"].fetch() == 2
    blobs["a"].feed(3)
    assert workspace.fetch_blob("a") == 3
    assert blobs[BlobReference("b")].name == "b"
    assert repr(blobs) == "Blobs(['a', 'b'])"
    assert repr(blobs["a"]) == "BlobHandle('a')"
    workspace.feed_blob("c", 4)
    assert list(blobs) == ["a", "b", "c"]
    with pytest.raises(BlobNotFoundError, match="no blob 'd'"):
        blobs["d"]
    assert blobs.get("d") is None


def test_only_a_workspace_of_a_node_is_called_after_it():
    with pytest.raises(BlobNotFoundError, match=r"no blob 'x' in this workspace\.$"):
        Workspace().child().fetch_blob("x")
    with pytest.raises(BlobNotFoundError, match=r"no blob 'x' in the workspace of node 'n'\.$"):
        Workspace(node="n").child().scope({}).fetch_blob("x")


@pytest.mark.parametrize("use", ["fetch_blob", "remove_blob"])
def test_no_such_blob(workspace, use):
    workspace.feed_blob("weights", 1)
    with pytest.raises(BlobNotFoundError, match="no blob 'weigths' in the work") as caught:
        getattr(workspace, use)("weigths")
    error = caught.value
    assert isinstance(error, KeyError)
    assert (error.blob, error.node, error.elsewhere) == ("weigths", "n1", ())
    assert "Did you mean 'weights'?" in str(error)


def test_a_removed_blob_is_gone(workspace):
    workspace.feed_blob("x", 1)
    workspace.remove_blob("x")
    assert workspace.names() == []
    with pytest.raises(BlobNotFoundError):
        workspace.remove_blob("x")


def test_repr(workspace):
    workspace.feed_blob("x", 1)
    assert repr(workspace) == "Workspace(node='n1', blobs=['x'])"


# Children.


def test_a_child_sees_its_parents_blobs(workspace):
    workspace.feed_blob("x", 1)
    child = workspace.child().child()
    assert child.node == "n1"
    assert child.fetch_blob("x") == 1
    assert child.has_blob("x")
    assert child.names() == ["x"]
    assert [*child.own_names()] == []


def test_a_child_writes_its_parents_blobs(workspace):
    workspace.feed_blob("x", 1)
    child = workspace.child().child()
    child.feed_blob("x", 2)
    assert workspace.fetch_blob("x") == 2
    child.remove_blob("x")
    assert workspace.names() == []


def test_what_is_new_in_a_child_is_its_own(workspace):
    child, other = workspace.child(), workspace.child()
    child.feed_blob("y", 1)
    assert [*child.own_names()] == ["y"]
    assert not workspace.has_blob("y")
    assert not other.has_blob("y")
    fetched = child.fetch_blob("y")
    child.close()
    assert child.names() == []
    assert fetched == 1


def test_a_later_blob_of_the_parent_is_hidden_by_the_childs_own(workspace):
    child = workspace.child()
    child.feed_blob("y", 1)
    workspace.feed_blob("y", 2)
    assert child.fetch_blob("y") == 1
    assert child.names() == ["y"]
    child.feed_blob("y", 3)
    assert workspace.fetch_blob("y") == 2


def test_exported_names_belong_to_the_parent(workspace):
    child = workspace.child(exported=frozenset(["out"]))
    child.feed_blob("out", 1)
    child.feed_blob("inner", 2)
    child.close()
    assert workspace.names() == ["out"]
    assert workspace.fetch_blob("out") == 1


def test_exports_go_up_as_far_as_they_are_exported(workspace):
    middle = workspace.child(exported=frozenset(["a"]))
    inner = middle.child(exported=frozenset(["a", "b"]))
    inner.feed_blob("a", 1)
    inner.feed_blob("b", 2)
    assert [*workspace.own_names()] == ["a"]
    assert [*middle.own_names()] == ["b"]
    assert [*inner.own_names()] == []


def test_a_blob_is_seen_once_it_is_kept(workspace):
    blob = workspace.make("x")
    assert not workspace.has_blob("x")
    blob.store(np.float32([1]))
    workspace.keep("x", blob)
    assert workspace.find("x") is blob
    assert workspace.make("x") is blob
    workspace.keep("x", blob)
    assert workspace.fetch_blob("x") == 1
