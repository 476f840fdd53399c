"""A dtype comes out of a message as it went in."""

import marshal
import subprocess
import sys
import threading

import numpy as np
import pytest

from procession.cluster.datatypes import pack_dtype, unpack_dtype
from procession.errors import DataTypeError, SerializationError

RECORD = np.dtype([("a", "i1"), ("b", "f8")])

PLAIN = [
    *(np.dtype(code) for code in np.typecodes["All"] if code != "O"),
    *(np.dtype(code).newbyteorder() for code in "ihlqefdgFDGU"),
    np.dtype("S5"),
    np.dtype("U3"),
    np.dtype(">U3"),
    np.dtype("V7"),
    np.dtype("M8[25s]"),
    np.dtype(">m8[ms]"),
    np.dtype("M8"),
    np.dtype("m8"),
]
PARTS = [
    RECORD,
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    np.dtype([("a", ">i2", (3, 2)), ("b", [("c", "U2"), ("d", "M8[us]")])]),
    np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 16}),
    np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 1]}),
    np.dtype([(("a title", "a"), "i4")]),
    np.dtype((np.record, [("a", "i4")])),
    np.dtype(("i4", (2, 2))),
    np.dtype([]),
    np.dtype("f4", metadata={"unit": "m"}),
    np.dtype([("a", np.dtype("f4", metadata={"unit": "m"}))]),
    np.dtype(object),
    np.dtype([("a", object), ("b", "i4")]),
]


KEPT = [
    "num",
    "char",
    "byteorder",
    "itemsize",
    "alignment",
    "type",
    "names",
    "isalignedstruct",
    "shape",
]


def there_and_back(dtype: np.dtype) -> np.dtype:
    return unpack_dtype(marshal.loads(marshal.dumps(pack_dtype(dtype))))


def assert_same(there: np.dtype, here: np.dtype) -> None:
    assert there == here
    for what in KEPT:
        assert getattr(there, what) == getattr(here, what), what
    # Where there is none, some versions of NumPy say so by an empty mapping.
    assert dict(there.metadata or {}) == dict(here.metadata or {})
    if here.names is None:
        return
    for name in here.names:
        assert there.fields[name][1:] == here.fields[name][1:]
        assert_same(there.fields[name][0], here.fields[name][0])


@pytest.mark.parametrize("dtype", PLAIN, ids=str)
def test_plain_types_are_a_short_text(dtype: np.dtype) -> None:
    packed = pack_dtype(dtype)
    assert isinstance(packed, str)
    assert len(packed) <= 8
    assert_same(there_and_back(dtype), dtype)


@pytest.mark.parametrize("dtype", PARTS, ids=str)
def test_all_that_a_type_is_made_of_is_kept(dtype: np.dtype) -> None:
    assert_same(there_and_back(dtype), dtype)


def test_it_means_the_same_in_another_process() -> None:
    dtype = PARTS[2]
    program = (
        "import sys; from procession.cluster.datatypes import pack_dtype, unpack_dtype;"
        "print(unpack_dtype(bytes.fromhex(sys.argv[1])).descr)"
    )
    packed = pack_dtype(dtype)
    assert isinstance(packed, bytes)
    command = [sys.executable, "-c", program, packed.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(dtype.descr)


class Row(np.void):
    """A class that no other process can import."""


def test_a_class_of_the_users_comes_along() -> None:
    dtype = np.dtype((Row, RECORD))
    again = there_and_back(dtype)
    assert again == dtype
    assert again.type.__name__ == "Row"


def test_metadata_that_cannot_be_pickled_is_named() -> None:
    dtype = np.dtype("f4", metadata={"lock": threading.Lock()})
    with pytest.raises(SerializationError, match=r"dtype float32 cannot be pickled: .*lock"):
        pack_dtype(dtype)


@pytest.fixture
def rational() -> np.dtype:
    """A type that was registered with NumPy from outside, the one of its own tests."""
    try:
        tests = pytest.importorskip("numpy._core._rational_tests")
    except pytest.skip.Exception:
        tests = pytest.importorskip("numpy.core._rational_tests")
    return np.dtype(tests.rational)


def test_a_type_that_is_not_numpys_own_is_refused(rational: np.dtype) -> None:
    with pytest.raises(DataTypeError, match=r"dtype rational.*array.view\(np.uint64\)") as caught:
        pack_dtype(rational)
    assert caught.value.dtype == "rational"
    for outer in (
        np.dtype([("a", "i4"), ("b", rational)]),
        np.dtype([("a", [("b", rational, (2,))])]),
        np.dtype((rational, (2, 2))),
    ):
        with pytest.raises(DataTypeError, match="rational"):
            pack_dtype(outer)
