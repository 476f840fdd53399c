"""Which objects are data, and mean the same in every process."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest

from procession.blobs.plain import NotPlainError, plain_pickle

PLAIN: list[Any] = [
    None,
    True,
    1 << 80,
    1.5,
    2j,
    "text",
    b"bytes",
    bytearray(b"more"),
    [1, (2, {3: {4}}), frozenset([5])],
    np.array(["a", b"b", None, 1], object),
    np.ma.MaskedArray([1, 2], [True, False]),
    {"rows": np.zeros((2, 3))[:, ::2], "when": np.zeros(2, "M8[s]"), "one": np.float32(1)},
    np.dtype("i4, f8"),
    range(3),
    slice(1, 2),
    ...,
]


class Thing:
    pass


class Numbers(list[int]):
    pass


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_comes_back(value: Any) -> None:
    found = pickle.loads(plain_pickle(value))
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        Thing(),
        [Thing()],
        np.array([Thing()], object),
        threading.Lock(),
        print,
        len,
        Thing,
        Numbers(),
    ],
    ids=repr,
)
def test_other_objects_are_not(value: Any) -> None:
    with pytest.raises(NotPlainError, match="lives and dies"):
        plain_pickle(value)


def test_what_has_no_end_is_not() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotPlainError, match="cannot be pickled: RecursionError"):
        plain_pickle(deep)
