"""Arguments of operators as messages, one by one, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from procession.graph.message import Message
from procession.graph.proto import Argument

_KINDS = (int, float, (str, bytes), Message)


def make_argument(key: str, value: Any) -> Argument:
    """An argument of a value: a number, text, a message, or a list or array of one kind.

    Raises:
        ValueError: Nothing that an argument could be.

    Caffe2: utils.MakeArgument.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.ravel().tolist() if isinstance(value, np.ndarray) else value.item()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        value = [each.item() if isinstance(each, np.generic) else each for each in value]
        fits = any(all(isinstance(each, kind) for each in value) for kind in _KINDS)
    else:
        fits = isinstance(value, _KINDS)
    if not fits:
        raise ValueError(
            f"argument {key!r} cannot be {value!r}: it is a number, text, a message, or a list of "
            f"one kind of these"
        )
    return Argument.of(key, value)


def arguments_by_name(args: Iterable[Argument]) -> dict[str, Any]:
    """Name -> value, as the messages have it: text is bytes.

    None stands for no value, and that is also what a list without elements comes to. Arguments
    without a name are left out. Caffe2: utils.ArgsToDict.
    """
    found: dict[str, Any] = {}
    for each in args:
        if not each.HasField("name"):
            continue
        for name in ("f", "i", "s", "n", "floats", "ints", "strings", "nets"):
            value = getattr(each, name)
            if each._is_set(Argument.FIELDS[name]):
                found[each.name] = list(value) if Argument.FIELDS[name].repeated else value
                break
        else:
            found[each.name] = None
    return found
