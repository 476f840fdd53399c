import copy
import pickle

import numpy as np
import pytest

from procession.operators.mapping import Table
from procession.testing.gradcheck import run_operator


def test_there_and_back():
    table = run_operator("KeyValueToMap", np.array([2, 1, 2]), np.float32([3, 4, 5]))
    keys, values = run_operator("MapToKeyValue", table)
    assert (keys.tolist(), values.tolist()) == ([2, 1], [5, 4])
    assert (keys.dtype, values.dtype) == (np.int64, np.float32)
    assert repr(table) == "Table({2: 5.0, 1: 4.0})"


def test_empty_map():
    keys, values = run_operator(
        "MapToKeyValue", run_operator("CreateMap", key_dtype=10, value_dtype="float")
    )
    assert (keys.shape, keys.dtype, values.dtype) == ((0,), np.int64, np.float32)
    keys, values = run_operator("MapToKeyValue", run_operator("CreateMap"))
    assert (keys.dtype, values.dtype) == (np.int32, np.int32)


def test_equality_and_copies():
    table = Table(np.array([1]), np.array([2]))
    for copied in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert copied == table
    assert table != Table(np.array([1]), np.array([3]))
    assert table != Table(np.array([1]), np.float32([2]))
    assert table != {1: 2}


def test_errors():
    with pytest.raises(ValueError, match=r"keys \(2,\) and values \(1,\)"):
        run_operator("KeyValueToMap", np.array([1, 2]), np.array([1]))
    with pytest.raises(TypeError, match="takes a Table, as KeyValueToMap makes it"):
        run_operator("MapToKeyValue", np.array([1]))
