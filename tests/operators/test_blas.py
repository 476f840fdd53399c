"""Adding a multiple of a tensor in one pass."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from procession.operators import blas
from procession.operators.blas import LEAST, add_multiple
from procession.operators.registry import REGISTRY


@pytest.fixture(autouse=True)
def _forget() -> Any:
    blas._axpby.cache_clear()
    yield
    blas._axpby.cache_clear()


def numbers(size: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(size).normal(size=size).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [LEAST, LEAST + 1, 50_001])
def test_it_is_what_numpy_gives_or_nothing(dtype: Any, size: int) -> None:
    x, term = numbers(size, dtype), numbers(size + 1, dtype)[1:]
    expected = x + dtype(-0.25) * term
    before = term.copy()
    total = x.copy()
    if add_multiple(total, term, -0.25, total.view()):
        np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(total, x)
    np.testing.assert_array_equal(term, before)


def test_what_it_does_not_do() -> None:
    x, term = numbers(LEAST), numbers(LEAST + 1)[1:]
    wide = numbers(2 * LEAST)
    refused = [
        (x[:10], term[:10], x[:10]),
        (x, term.astype(np.float64), x),
        (x, term, x.copy()),
        (x, x, x),
        (wide[:-1], wide[1:], wide[:-1]),
        (wide[::2], term, wide[::2]),
        (x, wide[::2], x),
        (x.astype(np.float16),) * 3,
        (np.ones(LEAST, np.int64), np.ones(LEAST, np.int64), np.ones(LEAST, np.int64)),
    ]
    for total, other, source in refused:
        before = total.copy()
        assert not add_multiple(total, other, 2.0, source)
        np.testing.assert_array_equal(total, before)


def test_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    x = numbers(LEAST)
    assert not add_multiple(x, numbers(LEAST), 1.0, x)


def test_a_function_that_does_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_right", lambda *_: False)
    x = numbers(LEAST)
    assert not add_multiple(x, numbers(LEAST), 1.0, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [3, LEAST + 3])
@pytest.mark.parametrize("found", [True, False])
def test_a_weighted_sum_is_the_same_with_and_without(
    dtype: Any, size: int, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not found:
        monkeypatch.setattr(blas, "_right", lambda *_: False)
    kernel = REGISTRY["WeightedSum"].kernel
    one, rate = np.ones(1, dtype), np.full(1, -0.125, dtype)
    w, g = numbers(size, dtype), numbers(size + 1, dtype)[1:]
    expected = w - dtype(0.125) * g
    for out in (None, np.empty_like(w), w.copy(), g.copy()):
        x, term = w, g
        if out is not None and (out == w).all():
            x = out.view()
            x.flags.writeable = False
        elif out is not None and (out == g).all():
            term = out.view()
            term.flags.writeable = False
        made = kernel(x, one, term, rate, out=out)
        np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-6)
        assert made.dtype == dtype
