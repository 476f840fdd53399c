"""Plain data: objects that mean the same in every process.

That is None, numbers, strings and bytes, NumPy's arrays and scalars, and lists, tuples, dicts and
sets of those. An instance of any other class may stand for something in its process, as a lock, a
file or a queue does, and its pickle need not bring that back.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


class NotPlainError(Exception):
    """The object that is to be pickled is, or has in it, what is more than data."""


_PLAIN = (np.ndarray, np.ma.MaskedArray, complex, range, slice, type(Ellipsis))
"""Types whose instances are data, besides those that `pickle` knows by itself."""


def _makers() -> dict[int, Any]:
    """What the pickles of data refer to: functions and types, by identity."""
    masked = np.ma.MaskedArray([1], [True])
    arrays = [np.zeros(2), np.zeros(2, object), np.zeros(2, "M8[s]"), masked]
    found: list[Any] = [np.ndarray, np.dtype, *_PLAIN]
    for sample in (*arrays, np.float32(1), np.dtype("M8[s]"), 1j, range(1)):
        for made in (sample.__reduce_ex__(5), sample.__reduce_ex__(2)):
            found += [part for part in made[:1] if callable(part)]
    return {id(maker): maker for maker in found}


_MAKERS = _makers()


class _PlainPickler(pickle.Pickler):
    """Refuses whatever is no plain data."""

    def reducer_override(self, obj: Any) -> Any:
        # Not called for None, bool, int, float, str, bytes and containers of exactly those types.
        kind = type(obj)
        if (
            kind in _PLAIN
            or id(obj) in _MAKERS
            or isinstance(obj, np.dtype)
            or (isinstance(obj, np.generic) and kind.__module__ == "numpy")
            or (isinstance(obj, type) and obj.__module__ == "numpy")
        ):
            return NotImplemented
        raise NotPlainError(f"it held a {kind.__name__}, which lives and dies with its process")


def plain_pickle(value: Any) -> bytes:
    """The pickle of plain data.

    Raises:
        NotPlainError: It is more than that; the message is a clause.
    """
    with io.BytesIO() as file:
        try:
            _PlainPickler(file, 5).dump(value)
        except NotPlainError:
            raise
        except Exception as error:
            what = f"the {type(value).__name__} that it held cannot be pickled: {error!r}"
            raise NotPlainError(what) from error
        return file.getvalue()
