"""Values: what can be fed and comes back as it was, and what is refused."""

from __future__ import annotations

import importlib
import os
import select
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from procession.errors import DataTypeError, OperatorError
from procession.graph.net import Net
from procession.graph.task import Node
from procession.session.base import Session
from procession.testing.session_contract.base import ContractBase

PLAIN = [
    *"?bBhHiIlLqQefdgFDG",
    *("S1", "S5", "U1", "U3", "V1", "V7"),
    *("M8[D]", "M8[25s]", "M8[ns]", "M8", "m8[ms]", "m8"),
    *(">i2", ">u8", ">f4", ">e", ">c16", ">U3", ">M8[us]"),
]
STRUCTURED: tuple[Any, ...] = (
    [("a", "i1"), ("b", "f8")],
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
    [("a", ">i2", (3, 2)), ("b", [("c", "U2"), ("d", "M8[us]"), ("e", "?")])],
    {"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 16},
    {"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 1]},
    [(("the title", "a"), "f4")],
)
DTYPES = [np.dtype(each) for each in (*PLAIN, *STRUCTURED)]
DEADLINE = 30


def filled(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of a dtype with values of all sorts in it."""
    made: np.ndarray[Any, Any] = np.zeros(shape, dtype)
    if dtype.names is not None:
        for name in dtype.names:
            field = made[name]
            # A field that is an array itself adds its dimensions to those of the array.
            field[...] = filled(field.shape, field.dtype)
    else:
        # Not as it is: `resize` may give it the bytes' usual order.
        made[...] = np.resize(_some(dtype), shape)
    return made


def _some(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if dtype.kind == "U":
        return np.array(["", "x", "\N{SNOWMAN}", "y\0z"], dtype)
    if dtype.kind in "SV":
        return np.arange(dtype.itemsize * 5, dtype=np.uint8).view(dtype)
    if dtype.kind == "b":
        return np.array([True, False, False], dtype)
    if dtype.kind in "mM":
        # The last is no time at all.
        counts: np.ndarray[Any, Any] = np.array([0, 1, -5, -(1 << 63)], np.int64)
        return counts.view(dtype.newbyteorder("="))
    numbers: list[Any] = [0, 1, 2, 77]
    if dtype.kind in "fc":
        numbers = [0.5, -0.0, np.inf, np.nan, 3]
    if dtype.kind == "c":
        numbers += [2.5 - 1j]
    return np.array(numbers, dtype)


def assert_same(fetched: Any, value: np.ndarray[Any, Any]) -> None:
    """See that it is the same in value, dtype and shape, and that it is a snapshot."""
    assert isinstance(fetched, np.ndarray)
    assert fetched.dtype == value.dtype
    assert fetched.dtype.isalignedstruct == value.dtype.isalignedstruct
    assert fetched.shape == value.shape
    assert not fetched.flags.writeable
    _assert_equal(fetched, value)


def _assert_equal(fetched: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> None:
    if value.dtype.names is None:
        np.testing.assert_array_equal(fetched, value)
        return
    for name in value.dtype.names:
        # By field: records with a NaN in them are not equal to themselves.
        _assert_equal(fetched[name], value[name])


def foreign_dtype() -> np.dtype[Any]:
    """A dtype that was added to NumPy from outside: the one that NumPy tests itself with."""
    for package in ("numpy._core", "numpy.core"):
        try:
            module = importlib.import_module(f"{package}._rational_tests")
        except ImportError:
            continue
        foreign: np.dtype[Any] = np.dtype(module.rational)
        return foreign
    pytest.skip("this NumPy comes without its tests")


class _Labelled(np.ndarray[Any, Any]):
    """A class of arrays, such as users have."""


class Values(ContractBase):
    """What can be a blob's value, and what happens to the rest."""

    @pytest.mark.parametrize("shape", [(3,), (41, 130)], ids=["small", "large"])
    def test_arrays_of_every_dtype_come_back(
        self, session: Session, shape: tuple[int, ...]
    ) -> None:
        workspace = session.workspace("n")
        for dtype in DTYPES:
            value = filled(shape, dtype)
            workspace.feed_blob("x", value)
            assert_same(workspace.fetch_blob("x"), value)

    def test_arrays_without_elements_and_without_dimensions(self, session: Session) -> None:
        workspace = session.workspace("n")
        for dtype in DTYPES:
            for shape in ((), (0,), (3, 0, 2), (1,) * 20):
                value = filled(shape, dtype)
                workspace.feed_blob("x", value)
                assert_same(workspace.fetch_blob("x"), value)
        workspace.feed_blob("x", np.zeros((5, 0), "S0"))
        assert workspace.fetch_blob("x").shape == (5, 0)

    @pytest.mark.parametrize("rows", [4, 200], ids=["small", "large"])
    def test_however_they_lie_in_memory(self, session: Session, rows: int) -> None:
        base = np.arange(rows * 60, dtype=np.float64).reshape(rows, 3, 20)
        odd = np.zeros(rows * 24 + 1, np.uint8)[1:].view(np.float64).reshape(rows, 3)
        odd[...] = base[:, :, 0]
        read_only = base.copy()
        read_only.flags.writeable = False
        workspace = session.workspace("n")
        for value in (
            np.asfortranarray(base),
            base.transpose(2, 0, 1),
            base[::-1, :, ::3],
            base[:, ::-1],
            base[:, 1],
            np.broadcast_to(base[:1], base.shape),
            np.broadcast_to(np.float32(3), (rows, 50)),
            base.view(">f8"),
            odd,
            read_only,
            base.astype([("a", "f4"), ("b", "f8")])["b"],
            base.view(_Labelled),
        ):
            workspace.feed_blob("x", value)
            assert_same(workspace.fetch_blob("x"), np.asarray(value))

    @pytest.mark.parametrize("length", [4, 3000], ids=["small", "large"])
    def test_arrays_of_objects_are_copies_both_ways(self, session: Session, length: int) -> None:
        workspace = session.workspace("n")
        value = np.empty(length, object)
        value[:3] = [[1, 2], "text", None]
        record = np.zeros(length, [("a", object), ("b", np.int32)])
        record["a"][0] = {"k": 1}
        workspace.feed_blob("x", value)
        workspace.feed_blob("r", record)
        value[0].append(3)
        record["a"][0]["k"] = 2
        fetched = workspace.fetch_blob("x")
        assert (fetched.dtype, fetched.shape) == (np.dtype(object), (length,))
        assert fetched[:3].tolist() == [[1, 2], "text", None]
        assert not fetched.flags.writeable
        fetched[0].append(4)
        assert workspace.fetch_blob("x")[0] == [1, 2]
        again = workspace.fetch_blob("r")
        assert again.dtype == record.dtype
        assert again["a"][0] == {"k": 1}

    def test_strings_of_any_length(self, session: Session) -> None:
        if not hasattr(getattr(np, "dtypes", None), "StringDType"):
            pytest.skip("this NumPy has no such type")
        value = np.array(["a", "long" * 5000, ""], np.dtypes.StringDType())
        session.workspace().feed_blob("x", value)
        fetched = session.workspace().fetch_blob("x")
        assert (fetched.dtype, fetched.tolist()) == (value.dtype, value.tolist())

    def test_masked_arrays_stay_masked(self, session: Session) -> None:
        value = np.ma.masked_array(np.arange(3000), np.arange(3000) % 2 == 0)
        session.workspace().feed_blob("x", value)
        fetched = session.workspace().fetch_blob("x")
        assert isinstance(fetched, np.ma.MaskedArray)
        np.testing.assert_array_equal(fetched.mask, value.mask)
        assert fetched.sum() == value.sum()

    def test_what_is_no_array_for_numpy_stays_what_it_is(self, session: Session) -> None:
        workspace = session.workspace()
        for value in ([[1, 2], [3]], [1, 2], 1 << 100, 2 + 3j, range(3), {1, 2}, int, "\0"):
            workspace.feed_blob("x", value)
            fetched = workspace.fetch_blob("x")
            assert fetched == value
            assert type(fetched) is type(value)

    def test_dtypes_that_are_not_numpys_own_are_refused_by_name(self, session: Session) -> None:
        foreign = foreign_dtype()
        workspace = session.workspace("n")
        workspace.feed_blob("x", 5)
        for value in (
            np.zeros(3, foreign),
            np.zeros(3000, foreign),
            np.zeros((), foreign),
            np.zeros(3, [("a", "i4"), ("b", [("c", foreign, (2,))])]),
            foreign.type(2),
        ):
            with pytest.raises(DataTypeError, match=r"blob 'x' cannot be .*rational") as caught:
                workspace.feed_blob("x", value)
            assert isinstance(caught.value, TypeError)
            assert caught.value.dtype == "rational"
            assert "array.view(np.uint64)" in str(caught.value)
        assert workspace.fetch_blob("x") == 5
        bits = np.arange(3000).astype(foreign).view(np.uint64)
        workspace.feed_blob("x", bits)
        np.testing.assert_array_equal(workspace.fetch_blob("x"), bits)

    def test_operators_cannot_make_such_arrays_either(self, session: Session) -> None:
        foreign_dtype()
        net = Net("net")
        net.Python(_make_foreign)([], ["x"])
        with pytest.raises(OperatorError, match="cannot be of dtype rational"):
            session.run(net)
        assert not session.workspace().has_blob("x")
        self.works_on(session)

    def test_a_feed_during_a_run_waits_for_it(self, session: Session, tmp_path: Path) -> None:
        with _Gate(tmp_path / "began") as began, _Gate(tmp_path / "go_on") as go_on:
            net = Net("net")
            net.Python(_use_twice(began.path, go_on.path), pass_workspace=True)(["x"], ["y"])
            workspace = session.workspace("n")
            workspace.feed_blob("x", np.zeros(3000))
            fed = threading.Event()
            errors: list[BaseException] = []

            def run() -> None:
                try:
                    with Node("n"):
                        session.run(net)
                except BaseException as error:
                    errors.append(error)

            def feed() -> None:
                try:
                    workspace.feed_blob("x", np.ones(3000))
                except BaseException as error:
                    errors.append(error)
                fed.set()

            runner, feeder = threading.Thread(target=run), threading.Thread(target=feed)
            runner.start()
            began.wait()
            feeder.start()
            assert not fed.wait(0.05)
            go_on.open()
            runner.join(DEADLINE)
            feeder.join(DEADLINE)
        assert not errors
        assert fed.is_set()
        # What the operator saw is what was there when the run began, to its end.
        assert workspace.fetch_blob("y").tolist() == [0, 0]
        assert workspace.fetch_blob("x").sum() == 3000


class _Gate:
    """A pipe with a name, which lets through whoever waits at it, here or in another process."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __enter__(self) -> _Gate:
        os.mkfifo(self.path)
        self._file = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        return self

    def __exit__(self, *exception: object) -> None:
        self.open()
        os.close(self._file)

    def open(self) -> None:
        os.write(self._file, b".")

    def wait(self) -> None:
        if not select.select([self._file], [], [], DEADLINE)[0]:
            raise TimeoutError("the other side did not come")


def _use_twice(began: str, go_on: str) -> Any:
    def use(inputs: Any, outputs: Any, workspace: Any) -> None:
        first = float(workspace.fetch_blob("x")[0])
        for path, flag in ((began, os.O_WRONLY), (go_on, os.O_RDONLY | os.O_NONBLOCK)):
            file = os.open(path, flag)
            if flag == os.O_WRONLY:
                os.write(file, b".")
            elif not select.select([file], [], [], DEADLINE)[0]:
                raise TimeoutError("the other side did not come")
            os.close(file)
        outputs[0].feed(np.array([first, float(workspace.fetch_blob("x")[0])]))

    return use


def _make_foreign(inputs: Any, outputs: Any) -> None:
    outputs[0].feed(np.zeros(3, foreign_dtype()))
