"""Strategies of hypothesis for inputs of operators: shapes, tensors, segments. Needs hypothesis.

@given(tensor(min_dim=2, max_dim=2))
def test_relu(x): ...
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import hypothesis.extra.numpy
    import hypothesis.strategies as st
except ImportError as error:
    raise ImportError("these strategies need hypothesis: pip install hypothesis") from error


def to_float32(x: Any) -> float:
    """The nearest number that a float32 can hold."""
    return float(struct.unpack("f", struct.pack("f", float(x)))[0])


def floats(*args: Any, **kwargs: Any) -> Any:
    """`strategies.floats`, of 32 bits if nothing else is said."""
    if "width" not in kwargs:
        kwargs["width"] = 32
        for bound in ("min_value", "max_value"):
            if kwargs.get(bound) is not None:
                kwargs[bound] = to_float32(kwargs[bound])
    return st.floats(*args, **kwargs)


def dims(min_value: int = 1, max_value: int = 5) -> Any:
    """Lengths of a dimension."""
    return st.integers(min_value=min_value, max_value=max_value)


def elements_of_type(dtype: Any = np.float32, filter_: Any = None) -> Any:
    """Numbers of a type: from -1 to 1, or not negative, or truth values."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        elements = floats(min_value=-1.0, max_value=1.0, width=kind.itemsize * 8)
    elif kind.kind == "i":
        elements = st.integers(min_value=0, max_value=int(np.iinfo(kind).max))
    elif kind.kind == "b":
        elements = st.booleans()
    else:
        raise ValueError(f"give the elements for arrays of {kind}")
    return elements if filter_ is None else elements.filter(filter_)


def arrays(dims: Any, dtype: Any = np.float32, elements: Any = None, unique: bool = False) -> Any:
    """Arrays of a shape."""
    if elements is None:
        elements = elements_of_type(dtype)
    return hypothesis.extra.numpy.arrays(dtype, tuple(dims), elements=elements, unique=unique)


def _shapes(min_dim: int, max_dim: int, **kwargs: Any) -> Any:
    return st.lists(dims(**kwargs), min_size=min_dim, max_size=max_dim)


def tensor(
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    elements: Any = None,
    unique: bool = False,
    **kwargs: Any,
) -> Any:
    """Arrays of any shape."""
    shapes = _shapes(min_dim, max_dim, **kwargs)
    return shapes.flatmap(lambda shape: arrays(shape, dtype, elements, unique))


def tensor1d(
    min_len: int = 1, max_len: int = 64, dtype: Any = np.float32, elements: Any = None
) -> Any:
    """Arrays of one dimension."""
    return tensor(1, 1, dtype, elements, min_value=min_len, max_value=max_len)


def tensors(
    n: int,
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    elements: Any = None,
    **kwargs: Any,
) -> Any:
    """Lists of n arrays of one shape."""
    return _shapes(min_dim, max_dim, **kwargs).flatmap(
        lambda shape: st.lists(arrays(shape, dtype, elements), min_size=n, max_size=n)
    )


def tensors1d(
    n: int, min_len: int = 1, max_len: int = 64, dtype: Any = np.float32, elements: Any = None
) -> Any:
    """Lists of n arrays of one dimension and one length."""
    return tensors(n, 1, 1, dtype, elements, min_value=min_len, max_value=max_len)


def segment_ids(size: int, is_sorted: bool) -> Any:
    """Numbers of segments, one for each of so many rows."""
    if size == 0:
        return st.just(np.empty(0, np.int32))
    if not is_sorted:
        return arrays([size], np.int32, st.integers(min_value=0, max_value=2 * size))
    steps = arrays([size], np.int32, st.integers(min_value=0, max_value=1))
    return steps.map(lambda step: np.cumsum(step, dtype=np.int32) - step[0])


def lengths(
    size: int, min_segments: int | None = None, max_segments: int | None = None, **kwargs: Any
) -> Any:
    """Lengths of segments that have so many rows together."""
    least = 0 if min_segments is None else min_segments
    most = size if max_segments is None else max_segments
    if size == 0 and most == 0:
        return st.just(np.empty(0, np.int32))

    def between(borders: list[int]) -> Any:
        return np.diff(np.sort(np.array([0, *borders, size], np.int32)))

    borders = st.integers(min_value=max(least - 1, 0), max_value=most - 1).flatmap(
        lambda count: st.lists(
            st.integers(min_value=0, max_value=size), min_size=count, max_size=count
        )
    )
    return borders.map(between)


def _with_rows(allow_empty: bool, min_dim: int, max_dim: int, **kwargs: Any) -> Any:
    """Shapes, whose first dimension may be 0 if that is allowed."""
    empty = st.booleans() if allow_empty else st.just(False)
    return st.tuples(empty, _shapes(min_dim, max_dim, **kwargs))


def segmented_tensor(
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    is_sorted: bool = True,
    elements: Any = None,
    segment_generator: Callable[..., Any] = segment_ids,
    allow_empty: bool = False,
    **kwargs: Any,
) -> Any:
    """(array, segments of its rows)."""
    return (
        _with_rows(allow_empty, min_dim, max_dim, **kwargs)
        .map(lambda drawn: [0, *drawn[1]] if drawn[0] else drawn[1])
        .flatmap(
            lambda shape: st.tuples(
                arrays(shape, dtype, elements), segment_generator(shape[0], is_sorted=is_sorted)
            )
        )
    )


def lengths_tensor(
    min_segments: int | None = None, max_segments: int | None = None, *args: Any, **kwargs: Any
) -> Any:
    """(array, lengths of segments of its rows)."""

    def generate(size: int, **more: Any) -> Any:
        return lengths(size, min_segments, max_segments, **more)

    kwargs["segment_generator"] = generate
    return segmented_tensor(*args, **kwargs)


def sparse_segmented_tensor(
    min_dim: int = 1,
    max_dim: int = 4,
    dtype: Any = np.float32,
    is_sorted: bool = True,
    elements: Any = None,
    allow_empty: bool = False,
    segment_generator: Callable[..., Any] = segment_ids,
    itype: Any = np.int64,
    **kwargs: Any,
) -> Any:
    """(array, indices of rows of it, segments of these)."""

    def sized(drawn: tuple[bool, list[int]]) -> Any:
        empty, shape = drawn
        count = st.just(0) if empty else st.integers(min_value=1, max_value=shape[0])
        return st.tuples(st.just(shape), count)

    def generate(drawn: tuple[list[int], int]) -> Any:
        shape, count = drawn
        rows = st.integers(min_value=0, max_value=shape[0] - 1)
        return st.tuples(
            arrays(shape, dtype, elements),
            arrays([count], itype, rows),
            segment_generator(count, is_sorted=is_sorted),
        )

    return _with_rows(allow_empty, min_dim, max_dim, **kwargs).flatmap(sized).flatmap(generate)


def sparse_lengths_tensor(**kwargs: Any) -> Any:
    """(array, indices of rows of it, lengths of segments of these)."""
    return sparse_segmented_tensor(segment_generator=lengths, **kwargs)
