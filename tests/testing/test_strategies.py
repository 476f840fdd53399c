"""Strategies for inputs: what is drawn is what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from procession.testing import strategies

few = settings(max_examples=20, deadline=None, database=None)


@few
@given(strategies.tensor(min_dim=2, max_dim=3, min_value=2, max_value=4))
def test_tensors(drawn: np.ndarray) -> None:
    assert drawn.dtype == np.float32
    assert drawn.ndim in (2, 3)
    assert set(drawn.shape) <= {2, 3, 4}
    assert np.abs(drawn).max() <= 1


@few
@given(strategies.tensors(3, dtype=np.int64), strategies.tensors1d(2, min_len=4, max_len=4))
def test_several_have_one_shape(drawn: list, rows: list) -> None:
    assert len({each.shape for each in drawn}) == 1
    assert [each.dtype for each in drawn] == [np.int64] * 3
    assert [each.shape for each in rows] == [(4,), (4,)]


@few
@given(strategies.lengths_tensor(min_segments=2, max_segments=5, min_value=5))
def test_lengths(drawn: tuple) -> None:
    table, lengths = drawn
    assert lengths.sum() == len(table)
    assert lengths.min() >= 0
    assert 2 <= len(lengths) <= 5


@few
@given(strategies.sparse_lengths_tensor())
def test_rows_by_lengths(drawn: tuple) -> None:
    table, rows, lengths = drawn
    assert lengths.sum() == len(rows)
    assert rows.max() < len(table)
    assert (lengths.dtype, rows.dtype) == (np.int32, np.int64)


@few
@given(strategies.segmented_tensor(allow_empty=True), strategies.segmented_tensor(is_sorted=False))
def test_segments(drawn: tuple, unsorted: tuple) -> None:
    table, segments = drawn
    assert len(table) == len(segments)
    assert (np.diff(segments) >= 0).all()
    assert (segments[:1] == 0).all()
    assert len(unsorted[0]) == len(unsorted[1])


@few
@given(strategies.floats(min_value=0.1, max_value=0.2))
def test_floats_have_32_bits(drawn: float) -> None:
    assert strategies.to_float32(drawn) == drawn


def test_elements_of_other_types_have_to_be_given() -> None:
    with pytest.raises(ValueError, match="complex64"):
        strategies.elements_of_type(np.complex64)
