"""Rows of a tensor added to, by their number."""

from __future__ import annotations

import math

import numpy as np

from procession.operators.arrays import Array


def add_rows(target: Array, indices: Array, rows: Array) -> None:
    """Add rows to those of the target that a vector of indices names, as often as it does."""
    if not indices.size:
        return
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    again = ordered[1:] == ordered[:-1]
    if again.any():
        # Few, as a rule, while NumPy takes its time to add where an index occurs again.
        later = order[1:][again]
        first = np.ones(indices.size, np.bool_)
        first[later] = False
        _add_again(target, indices[later], rows[later])
        indices, rows = indices[first], rows[first]
    changed = np.take(target, indices, axis=0)
    changed += rows
    target[indices] = changed


def _add_again(target: Array, indices: Array, rows: Array) -> None:
    if not target.flags.c_contiguous:
        np.add.at(target, indices, rows)
        return
    # Single numbers are added much faster than rows are.
    width = math.prod(target.shape[1:])
    places = indices.astype(np.intp)[:, np.newaxis] * width + np.arange(width)
    np.add.at(target.reshape(-1), places.reshape(-1), rows.reshape(-1))
