"""Which kind of nets readers and pipes make: that of the nets they are given, or are built among.

So a pipe in a task whose `with` block makes nets of some class has nets of that class throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from procession import BlobReference, ExecutionStep, Net, NetBuilder
from procession.core import DataType

Parts: TypeAlias = list[Net | ExecutionStep]
"""What runs, one after the other."""
Columns: TypeAlias = Sequence[BlobReference]
"""The blobs of a batch of records, one for each column."""


def new_net(name: str, like: Net | None = None) -> Net:
    """A net of the class of another; left out, of the class that the builder one is in makes."""
    return NetBuilder.new_net(name) if like is None else type(like)(name)


def new_builder(like: Net | None = None) -> NetBuilder:
    """A builder of nets of the class of another; left out, as the builder one is in."""
    made = NetBuilder()
    if like is not None:
        made.net_type = type(like)
    return made


def fill_bool(net: Net, blob: BlobReference, value: bool) -> None:
    """Have a net make a blob one truth value."""
    net.ConstantFill([], [blob], shape=[], value=value, dtype=DataType.BOOL)


def outputs_of(made: Any) -> list[BlobReference]:
    """What an operator's method returned, as a list."""
    return list(made) if isinstance(made, (list, tuple)) else [made]
