"""Which kind of nets readers and pipes make: that of the nets they are given, or are built among.

So a pipe in a task whose `with` block makes nets of some class has nets of that class throughout.
Where there are neither, their own class says what they make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

from procession import BlobReference, ExecutionStep, Net, NetBuilder
from procession.core import DataType, add_nets_in_order

Parts: TypeAlias = list[Net | ExecutionStep]
"""What runs, one after the other."""
Columns: TypeAlias = Sequence[BlobReference]
"""The blobs of a batch of records, one for each column."""


def new_net(name: str, like: Net | None = None, otherwise: type[Net] = Net) -> Net:
    """A net of the class of another; left out, of the class that the builder one is in makes.

    Args:
        name: Its name.
        like: The other net.
        otherwise: The class if there is neither.
    """
    if like is not None:
        return type(like)(name)
    builder = NetBuilder.current(required=False)
    return (otherwise if builder is None else builder.net_type)(name)


class MakesNets:
    """What makes nets: of its own class where it is given none, and there is no builder."""

    net_type: ClassVar[type[Net]] = Net

    def _new_net(self, name: str, like: Net | None = None) -> Net:
        return new_net(name, like, self.net_type)


def net_of(*parts: Any) -> Net | None:
    """A net among things: a net, the first net of a step, or the one that a blob belongs to."""
    for part in parts:
        if isinstance(part, ExecutionStep):
            nets: list[Net] = []
            add_nets_in_order(part, nets)
            part = nets[0] if nets else None
        elif isinstance(part, BlobReference):
            part = part.Net()
        if isinstance(part, Net):
            return part
    return None


def new_builder(like: Net | None = None, otherwise: type[Net] = Net) -> NetBuilder:
    """A builder of nets of the class that `new_net` would make."""
    around = NetBuilder.current(required=False)
    made = NetBuilder()
    if like is not None:
        made.net_type = type(like)
    elif around is None:
        made.net_type = otherwise
    return made


def fill_bool(net: Net, blob: BlobReference, value: bool) -> None:
    """Have a net make a blob one truth value."""
    net.ConstantFill([], [blob], shape=[], value=value, dtype=DataType.BOOL)


def outputs_of(made: Any) -> list[BlobReference]:
    """What an operator's method returned, as a list."""
    return list(made) if isinstance(made, (list, tuple)) else [made]
