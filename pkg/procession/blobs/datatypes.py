"""Which dtypes a tensor can have: NumPy's own, put together in any way.

Anybody can bring NumPy a dtype of his own, as ml_dtypes does with bfloat16. What it means is known
to the process that imported that package and to no other, and the bytes by themselves say nothing:
its type string, "<V2", is that of two bytes of whatever. So it is refused by name, wherever a blob
would get it, rather than lost on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.errors import DataTypeError

_OWN = range(24)
"""The numbers of NumPy's own types, bool to float16. Strings of any length hold objects."""
_PLAIN = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def extension(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The part of a dtype that is not NumPy's own; None when all of it is."""
    if dtype.num in _OWN:
        if dtype.names is not None:
            assert dtype.fields is not None
            parts = (extension(dtype.fields[name][0]) for name in dtype.names)
            return next((part for part in parts if part is not None), None)
        return None if dtype.subdtype is None else extension(dtype.subdtype[0])
    return None if dtype.hasobject else dtype


def check_dtype(dtype: np.dtype[Any], what: str = "a blob") -> None:
    """See that a tensor can have that dtype; `what` says in an error whose it is.

    Raises:
        DataTypeError: It, or a field of it, is not NumPy's own.
    """
    part = extension(dtype)
    if part is None:
        return
    plain = _PLAIN.get(part.itemsize)
    view = "np.uint8" if plain is None else f"np.{plain.__name__}"
    inside = "" if part is dtype else f", which has fields of {part.name},"
    raise DataTypeError(
        f"{what} cannot be of dtype {dtype.name if part is dtype else dtype}{inside} "
        f"because that is no type of NumPy's own but one that {_home(part)} added in this process. "
        f"Hand over the same bytes as a type that everybody knows, array.view({view}), and "
        f"view them as {part.name} again where they are used; or convert them, "
        f"array.astype(np.float32).",
        dtype=part.name,
    )


def _home(dtype: np.dtype[Any]) -> str:
    return dtype.type.__module__.split(".")[0]
