"""What the models of all nodes have in common, and what they must not have.

Nodes stay equal because they do the same to the same parameters. So what `build` and `optimize` add
for one node is held against what they have added for the first. Names of blobs may differ where
they come from the name of a net, as that of each node is another; what `read` adds may differ, and
so may what fills a blob that rank 0's value is given for.

Chance is to be another one on each node: the same numbers left out of all parts of a batch are not
what leaving them out of the joined batch is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any
from zlib import crc32

import numpy as np

from procession import GraphError
from procession.train.checkpoint import state_blobs
from procession.train.gradient_reduction import World
from procession.train.model import ModelHelper


class Additions:
    """The operators that `build` and `optimize` have added to the nets of a node's model.

    Args:
        model: The model, with its input only.
        node: What the node is called.
        world: The node's seat.
    """

    def __init__(self, model: ModelHelper, node: str, world: World) -> None:
        self.model = model
        self.node = node
        self.world = world
        self._skipped = [len(net.message.op) for net in (model.param_init_net, model.net)]

    def mix_seeds(self) -> None:
        """Give random operators other seeds than they have on rank 0.

        That is for what the forward pass draws. An optimizer that draws has to do so alike.
        """
        if self.world.rank:
            _mix(self.model.net.Proto().op[self._skipped[1] :], self.world.rank)

    def compare(self, other: Additions) -> None:
        """See that another node's model does the same as this one.

        Raises:
            GraphError: It does not; the first operator that differs is named.
        """
        likeness = _Likeness(self, other)
        for which, (mine, its) in enumerate(zip(self.operators(), other.operators(), strict=True)):
            for one, two in zip_longest(mine, its):
                how = likeness.difference(one, two)
                if how:
                    nets = [
                        (each.model.param_init_net if which else each.model.net).Name()
                        for each in (self, other)
                    ]
                    raise GraphError(
                        f"build and optimize have to add the same operators on all nodes; {how}\n"
                        f"  net {nets[0]!r} on node {self.node!r}: {_told(one)}\n"
                        f"  net {nets[1]!r} on node {other.node!r}: {_told(two)}"
                    )

    def operators(self) -> tuple[list[Any], list[Any]]:
        """Those that count: of each net, without what `read` has added.

        What fills a blob that all get from rank 0 does not count.
        """
        init, net = (self.model.param_init_net.message.op, self.model.net.message.op)
        given = set(state_blobs(self.model))
        filling = [
            operator
            for operator in init[self._skipped[0] :]
            if not given.issuperset(operator.output)
        ]
        return list(net[self._skipped[1] :]), filling

    def made(self) -> set[str]:
        """The blobs that the model makes, but for those that all get from rank 0."""
        nets = (self.model.param_init_net, self.model.net)
        found = {blob for net in nets for blob in _made(net.message.op)}
        return found.difference(map(str, [*self.model.params, *self.model.GetComputedParams("")]))


class _Likeness:
    """Which blob of one model is which of the other."""

    def __init__(self, first: Additions, other: Additions) -> None:
        self._made = first.made(), other.made()
        self._known = {first.world.blob: other.world.blob}, {other.world.blob: first.world.blob}
        self._nodes = first.node, other.node

    def difference(self, one: Any, two: Any) -> str:
        """In what respect two operators differ; empty if they do not."""
        if one is None or two is None:
            return "one has more than the other"
        if one.type != two.type:
            return "these are of two types"
        for what in ("input", "output"):
            mine, its = getattr(one, what), getattr(two, what)
            if len(mine) != len(its) or not all(map(self._is_blob, mine, its)):
                return f"these have other {what}s"
        # Functions are made for one node as a rule, and cannot be compared; a rank is one's own.
        if one.type in ("Python", "CreateCommonWorld"):
            return ""
        mine, its = one.arguments, two.arguments
        for name in dict.fromkeys([*mine, *its]):
            within = self._within(mine.get(name), its.get(name))
            if within is not None:
                if within:
                    return f"in the {name} of these, {within}"
                continue
            if not self._is_value(mine.get(name), its.get(name)):
                values = " and ".join(
                    f"{name}={_short(values.get(name))} on node {node!r}"
                    for values, node in zip((mine, its), self._nodes, strict=True)
                )
                return f"here there is {values}"
        return ""

    def _within(self, mine: Any, its: Any) -> str | None:
        """In what respect two nets differ; None if these are none."""
        if not _is_net(mine) or not _is_net(its):
            return None
        for one, two in zip_longest(mine.op, its.op):
            how = self.difference(one, two)
            if how:
                return f"{how} ({_told(one)}; {_told(two)})"
        return ""

    def _is_blob(self, mine: str, its: str) -> bool:
        known, back = self._known
        if mine in known or its in back:
            return known.get(mine) == its and back.get(its) == mine
        if mine not in self._made[0] or its not in self._made[1]:
            return mine == its
        known[mine], back[its] = its, mine
        return True

    def _is_value(self, mine: Any, its: Any) -> bool:
        if isinstance(mine, np.ndarray) or isinstance(its, np.ndarray):
            one, two = np.asarray(mine), np.asarray(its)
            return one.dtype == two.dtype and bool(np.array_equal(one, two))
        if isinstance(mine, Sequence) and not isinstance(mine, (str, bytes)):
            if not isinstance(its, Sequence) or len(mine) != len(its):
                return False
            return all(map(self._is_value, mine, its))
        if isinstance(mine, str) and isinstance(its, str):
            return mine == its or (mine in self._made[0] and self._is_blob(mine, its))
        if isinstance(mine, (int, float, bytes, type(None))):
            # What is no number is itself.
            return bool(mine == its or (mine != mine and its != its))
        # What else there is may have been made for one node.
        return type(mine) is type(its)


def _made(operators: Sequence[Any], inside: bool = False) -> Iterator[str]:
    for operator in operators:
        yield from operator.output
        if inside:
            # What is handed in has another name there.
            yield from operator.input
        for inner in _inner(operator):
            yield from _made(inner, True)


def _is_net(value: Any) -> bool:
    return hasattr(value, "op") and hasattr(value, "external_input")


def _inner(operator: Any) -> Iterator[Sequence[Any]]:
    """The operators of the nets that are arguments of one."""
    for value in operator.arguments.values():
        if _is_net(value):
            yield value.op


def _mix(operators: Sequence[Any], rank: int) -> None:
    for operator in operators:
        if operator.HasField("device_option") and operator.device_option.HasField("random_seed"):
            option = operator.device_option
            option.random_seed = crc32(f"{option.random_seed}/{rank}".encode())
        for inner in _inner(operator):
            _mix(inner, rank)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}..."


def _told(operator: Any) -> str:
    if operator is None:
        return "none"
    return f"{operator.type} {list(operator.input)} -> {list(operator.output)}"
