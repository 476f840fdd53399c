"""What each blob of a node must be; after a death or a cancelled run, what it may be.

A blob is in one of several states that are all right: values, absent, torn. As long as nothing went
wrong there is exactly one. What is found where there are several is the only one from then on, so
that a blob never wavers. Values are not changed once they are in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


class Mark:
    """A state that is no value."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ABSENT = Mark("absent")
TORN = Mark("torn")
PLAIN = (type(None), bool, int, float, complex, str, bytes)


@dataclass(frozen=True)
class Change:
    """What an operation does to a blob: what it is in the end, and what it may be in between."""

    final: Any
    between: Callable[[], Iterable[Any]] = tuple
    """Makes what it may be in between, which is wanted only after an interruption."""
    tears: bool = True
    """Whether it can be found torn when the worker dies meanwhile."""


def same(got: Any, wanted: Any) -> bool:
    """Whether two values are equal, arrays down to dtype and shape."""
    if isinstance(got, Mark) or isinstance(wanted, Mark):
        return got is wanted
    if not isinstance(wanted, np.ndarray) or not isinstance(got, np.ndarray):
        return type(got) is type(wanted) and bool(got == wanted)
    return (got.dtype, got.shape) == (wanted.dtype, wanted.shape) and np.array_equal(got, wanted)


def is_plain(value: Any) -> bool:
    """Whether a value outlives its process: arrays, and what is made of plain data only."""
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject or all(map(is_plain, value.flat))
    if type(value) is dict:
        return all(is_plain(item) for pair in value.items() for item in pair)
    if type(value) in (tuple, list, set, frozenset):
        return all(map(is_plain, value))
    return type(value) in PLAIN or value is ABSENT


def shown(value: Any) -> str:
    """A value, short."""
    if isinstance(value, np.ndarray):
        first = value.flat[0] if value.size else "nothing"
        return f"{value.dtype}{list(value.shape)} of {first!r}, ..."
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


class NodeModel:
    """The blobs of one node."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[Any, ...]] = {}

    def states(self, name: str) -> tuple[Any, ...]:
        """All that a blob may be."""
        return self._states.get(name, (ABSENT,))

    def value(self, name: str) -> Any:
        """What a blob must be: a value or a mark; None when that is not known."""
        states = self.states(name)
        return states[0] if len(states) == 1 else None

    def has(self, name: str) -> bool:
        """Whether a blob is sure to be there, with one value."""
        states = self.states(name)
        return len(states) == 1 and not isinstance(states[0], Mark)

    def tensors(self) -> list[str]:
        """The blobs that nets of ours can work on, sorted."""
        return sorted(
            name
            for name, states in self._states.items()
            if len(states) == 1
            and isinstance(states[0], np.ndarray)
            and states[0].dtype == np.float64
        )

    def torn(self) -> list[str]:
        """The blobs that are sure to be torn, sorted."""
        return sorted(name for name in self._states if self.value(name) is TORN)

    def known(self) -> list[str]:
        """Every blob that may be there or be torn, sorted."""
        return sorted(self._states)

    def write(self, name: str, value: Any) -> None:
        """It is this from now on."""
        if value is ABSENT:
            self._states.pop(name, None)
        else:
            self._states[name] = (value,)

    def interrupt(self, changes: Mapping[str, Change], died: bool) -> None:
        """Operations were under way, and nobody knows how far they came.

        Args:
            changes: What they were to do, by blob.
            died: Whether their process is gone; otherwise no blob can be torn.
        """
        for name, change in changes.items():
            states = [*self.states(name), *change.between(), change.final]
            if died and change.tears:
                states.append(TORN)
            self._states[name] = tuple(states)

    def lose_objects(self) -> None:
        """The process is gone, and a new one came: what was no plain data went with the old one."""
        for name, states in list(self._states.items()):
            kept = tuple(s if isinstance(s, Mark) or is_plain(s) else TORN for s in states)
            self._states[name] = kept

    def found(self, name: str, value: Any) -> bool:
        """A blob was looked at. Whether it may be so; from now on it must be."""
        right = any(same(value, state) for state in self.states(name))
        self.write(name, value)
        return right

    def wrong_names(self, names: Iterable[str]) -> list[str]:
        """What is wrong with the list of a workspace's blobs, in words."""
        listed, wrong = set(names), []
        for name in sorted(listed | set(self._states)):
            states = self.states(name)
            if name in listed and all(isinstance(state, Mark) for state in states):
                wrong.append(f"{name} is listed, and is {states[0]}")
            if name not in listed and not any(isinstance(state, Mark) for state in states):
                wrong.append(f"{name} is not listed")
        return wrong

    def clear(self) -> None:
        """The node is gone, and all that it had."""
        self._states.clear()
