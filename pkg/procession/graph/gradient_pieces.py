"""Pieces: what each reader of a value contributes to its gradient, and what sums them.

The names are Caffe2's: of pieces that operators write, the first gives its name to the sum, and
the others are called `_x_grad_autosplit_0`, ...
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from procession.errors import GradientError
from procession.graph.device import device_option_equal
from procession.graph.gradient_makers import GRADIENT_SUFFIX, described
from procession.graph.gradient_values import Value, Values
from procession.graph.operator import signature_of
from procession.graph.proto import DeviceOption, OperatorDef

_NONE = DeviceOption()


class Piece(NamedTuple):
    """What one reader contributes to a value's gradient."""

    values: Values
    made: tuple[bool, ...]
    """Whether an operator of that reader's gradient writes it; else it is handed through."""
    device_option: DeviceOption | None


class Sum(NamedTuple):
    """An operator that makes one value of several."""

    type: str
    values: list[Value]
    outputs: list[str]
    arguments: Mapping[str, Any]


def options_of(blob: str, pieces: Sequence[Piece], reader: OperatorDef) -> list[DeviceOption]:
    """The device options of pieces, empty where there is none.

    Args:
        blob: Whose gradient it is.
        pieces: The pieces.
        reader: Who reads the blob first.

    Raises:
        GradientError: They cannot be summed: sparse and dense ones, or ones of several devices.
    """
    if len({len(piece.values) for piece in pieces}) > 1:
        raise GradientError(
            f"{blob!r} has both sparse and dense gradients, and those are not summed: "
            f"{'; '.join(_origins(pieces))}. First read by {described(reader)}"
        )
    options = [piece.device_option or _NONE for piece in pieces]
    if not all(device_option_equal(each, options[0]) for each in options[1:]):
        raise GradientError(
            f"the gradients of {blob!r} are computed on different devices, and are to be "
            f"summed: {'; '.join(_origins(pieces))}"
        )
    return options


def merged(options: Iterable[DeviceOption], target: DeviceOption, summing: str, keep: str) -> None:
    """Give a sum the device of what it sums.

    Args:
        options: As `options_of` finds them.
        target: That of the sum.
        summing: What its `extra_info` says of it.
        keep: An `extra_info` with which nothing else is taken over.
    """
    first, *others = options
    if not any(keep in each.extra_info for each in (first, *others) if each is not _NONE):
        # An option of nothing is not taken over: it would count as set.
        target.MergeFrom(first)
    target.extra_info.append(summing)


def sums_of(blob: str, pieces: Sequence[Piece]) -> list[Sum]:
    """What makes one gradient of several pieces: one operator, or two for a sparse one.

    The pieces get names of their own where they had the same.
    """
    if len(pieces[0].values) == 1:
        return [_dense(blob, pieces)]
    return _sparse(blob, pieces)


def _dense(blob: str, pieces: Sequence[Piece]) -> Sum:
    values = [piece.values[0] for piece in pieces]
    made = [piece.values[0] for piece in pieces if piece.made[0]]
    total = made[0].name if made else blob + GRADIENT_SUFFIX
    _split(made[1:])
    if made:
        # What is summed in place comes first.
        place = values.index(made[0])
        values[0], values[place] = values[place], values[0]
    return Sum("Sum", values, [total], {})


def _sparse(blob: str, pieces: Sequence[Piece]) -> list[Sum]:
    """They are summed by listing them all: an index may occur again."""
    total = blob + GRADIENT_SUFFIX
    for (indices, values), (indices_made, values_made), _ in pieces:
        if indices_made or values_made:
            total = (
                indices.name.removesuffix("_indices")
                if indices_made
                else values.name.removesuffix("_values")
            )
            break
    sums = []
    for part, what in enumerate(("indices", "values")):
        listed = [piece.values[part] for piece in pieces]
        _split([piece.values[part] for piece in pieces if piece.made[part]])
        name = f"{total}_{what}_concat"
        sums.append(Sum("Concat", listed, [name, f"{name}_split"], {"axis": 0}))
    return sums


def _split(values: Iterable[Value]) -> None:
    """Give each of the pieces a name of its own."""
    number = 0
    for value in values:
        assert value.writer is not None
        # What the nets of an If write is among its outputs.
        while (name := f"_{value.name}_autosplit_{number}") in value.writer.output:
            number += 1
        value.rename_all(name)
        number += 1


def _origins(pieces: Iterable[Piece]) -> list[str]:
    return [
        ", ".join(signature_of(v.writer) if v.writer else v.name for v in piece.values)
        for piece in pieces
    ]
