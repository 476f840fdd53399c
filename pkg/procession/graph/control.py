"""Steps for sequences, loops and conditions. Caffe2: control.

A condition is a blob that holds one truth value, or a net, which computes it whenever it is asked:
its value is then the last external output of the net (`net.AddExternalOutput(blob)`). What runs is
a net, a step, or a list of nets or steps. Steps are called after the `name` given, in the name
scope in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procession.errors import GraphError, RunnableTypeError
from procession.graph import names
from procession.graph.blob import BlobReference
from procession.graph.builder import NetBuilder
from procession.graph.net import Net
from procession.graph.step import ExecutionStep, scoped_execution_step
from procession.operators.datatype import DataType

Blob = str | BlobReference
Condition = Blob | Net
Body = Net | ExecutionStep | Sequence[Any]


def _net(name: str) -> Net:
    return NetBuilder.new_net(name)


def _step(kind: str, name: str, parts: list[Any], **options: Any) -> ExecutionStep:
    return scoped_execution_step(names.unique("control", f"{name}/{kind}"), parts, **options)


def _listed(given: Any) -> list[Any]:
    """What was given as arguments, or as one list."""
    if len(given) == 1:
        given = given[0]
    parts = list(given) if isinstance(given, (list, tuple)) else [given]
    if not parts:
        raise GraphError("there is nothing to run: give nets or steps")
    return parts


def _pairs(function: str, given: Any) -> list[tuple[Any, Any]]:
    """Pairs that were given as arguments, or as one list."""
    pairs = list(given[0] if len(given) == 1 and isinstance(given[0], list) else given)
    if not pairs:
        raise GraphError(f"{function} takes at least one pair")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise RunnableTypeError(f"{function} takes pairs, not {pair!r}")
    return pairs


def _are_nets(parts: list[Any]) -> bool:
    return all(isinstance(part, Net) for part in parts)


def _before(nets: list[Net], body: Body) -> list[Any]:
    parts = _listed((body,))
    return nets + parts if _are_nets(parts) else [Do("prepend", nets), *parts]


def _behind(nets: list[Net], body: Body) -> list[Any]:
    parts = _listed((body,))
    return parts + nets if _are_nets(parts) else [*parts, Do("append", nets)]


def GetConditionBlobFromNet(condition_net: Net) -> BlobReference:
    """The blob with the condition that a net computes: its last external output.

    Raises:
        GraphError: It has none.
    """
    outputs = condition_net.external_outputs
    if not outputs:
        raise GraphError(
            f"net {condition_net.Name()!r} is used as a condition and has no external output: "
            f"call AddExternalOutput with the blob that holds the truth value"
        )
    # Without its net, so that operators on it are not added to that.
    return BlobReference(str(outputs[-1]))


def _blob(condition: Condition) -> Blob:
    return GetConditionBlobFromNet(condition) if isinstance(condition, Net) else condition


def BoolNet(*blobs_with_bool_value: Any) -> Net:
    """A net that gives truth values to blobs: `BoolNet((blob, True), ...)`, or a list of pairs."""
    net = _net("bool_net")
    for blob, value in _pairs("BoolNet", blobs_with_bool_value):
        net.AddExternalOutput(
            net.ConstantFill([], [blob], shape=[], value=value, dtype=int(DataType.BOOL))
        )
    return net


def NotNet(condition_blob_or_net: Condition) -> tuple[Net, BlobReference]:
    """A net that negates a condition, and the blob with the result."""
    return _deriving("not_net", "Not", condition_blob_or_net)


def _copy_net(condition: Condition) -> tuple[Net, BlobReference]:
    return _deriving("copy_condition_blob_net", "Copy", condition)


def _deriving(name: str, operator: str, condition: Condition) -> tuple[Net, BlobReference]:
    net = _net(name)
    blob: BlobReference = getattr(net, operator)(_blob(condition))
    net.AddExternalOutput(blob)
    return net, blob


def MergeConditionNets(name: str, condition_nets: Any, relation: str) -> Any:
    """One net that does what several condition nets do, and relates their conditions.

    Args:
        name: What it is called.
        condition_nets: A list of nets. One net alone, in a list or not, is returned as it is;
            for an empty list None is.
        relation: "And" or "Or".
    """
    if not isinstance(condition_nets, list):
        return condition_nets
    if len(condition_nets) < 2:
        return condition_nets[0] if condition_nets else None
    merged = _net(name)
    last: Any = None
    for net in condition_nets:
        for blob in net.message.external_input:
            if not merged.BlobIsDefined(blob):
                merged.Proto().external_input.append(blob)
        merged.extend_ops(net.message.op)
        last = _related(merged, last, GetConditionBlobFromNet(net), relation)
        for key, values in net._attributes.items():
            for value in values:
                merged.add_attribute(key, value)
    merged.AddExternalOutput(last)
    return merged


def CombineConditions(name: str, condition_nets: list[Net], relation: str) -> Net | None:
    """A net that relates the conditions of several nets, which run elsewhere.

    Args:
        name: What it is called.
        condition_nets: The nets. For an empty list None is returned.
        relation: "And" or "Or".

    Raises:
        RunnableTypeError: They are no list.
    """
    if not condition_nets:
        return None
    if not isinstance(condition_nets, list):
        raise RunnableTypeError(f"CombineConditions takes a list of nets, not {condition_nets!r}")
    if len(condition_nets) == 1:
        return _copy_net(condition_nets[0])[0]
    combined = _net(name)
    last: Any = None
    for net in condition_nets:
        last = _related(combined, last, GetConditionBlobFromNet(net), relation)
    combined.AddExternalOutput(last)
    return combined


def _related(net: Net, last: Any, condition: BlobReference, relation: str) -> Any:
    if relation not in ("And", "Or"):
        raise GraphError(f"conditions are related by 'And' or 'Or', not {relation!r}")
    return condition if last is None else getattr(net, relation)([last, condition])


def Do(name: str, *nets_or_steps: Any) -> ExecutionStep:
    """Run nets or steps one after the other: `Do(name, net1, net2)`, or a list of them.

    One step alone is returned as it is.
    """
    return _sequence("Do", name, nets_or_steps)


def DoParallel(name: str, *nets_or_steps: Any) -> ExecutionStep:
    """Run nets or steps at once, until the last has ended; given as to `Do`."""
    return _sequence("DoParallel", name, nets_or_steps, concurrent_substeps=True)


def _sequence(kind: str, name: str, given: Any, **options: Any) -> ExecutionStep:
    parts = _listed(given)
    if len(parts) == 1 and isinstance(parts[0], ExecutionStep):
        return parts[0]
    return _step(kind, name, parts, **options)


def _beginning_false(name: str, stop: BlobReference, step: ExecutionStep) -> ExecutionStep:
    """A step that runs nets until a blob is true, which it may be from the last time."""
    return Do(name, BoolNet((stop, False)), step)


def For(name: str, nets_or_steps: Body, iter_num: int) -> ExecutionStep:
    """Run something `iter_num` times."""
    start, count = _net("init-net"), _net("For-iter")
    counter = start.CreateCounter([], init_count=iter_num)
    done = count.CountDown([counter])
    loop = _step("For-inner", name, _before([count], nets_or_steps), should_stop_blob=done)
    return Do(f"{name}/For", Do(f"{name}/For-init-net", start), loop)


def While(name: str, condition_blob_or_net: Condition, nets_or_steps: Body) -> ExecutionStep:
    """Run something as long as a condition is true, which is asked beforehand."""
    negated, stop = NotNet(condition_blob_or_net)
    parts = _before(_asking(condition_blob_or_net, negated), nets_or_steps)
    if not _are_nets(parts):
        return _step("While", name, parts, should_stop_blob=stop)
    inner = _step("While-inner", name, parts, should_stop_blob=stop)
    return _beginning_false(f"{name}/While", stop, inner)


def _asking(condition: Condition, *then: Net) -> list[Net]:
    """The nets that compute a condition, and what is derived from it."""
    return [condition, *then] if isinstance(condition, Net) else list(then)


def Until(name: str, condition_blob_or_net: Condition, nets_or_steps: Body) -> ExecutionStep:
    """Run something as long as a condition is false, which is asked beforehand."""
    condition = condition_blob_or_net
    parts = _listed((nets_or_steps,))
    if isinstance(condition, Net):
        parts = _before([condition], nets_or_steps)
    stop = BlobReference(str(_blob(condition)))
    return _step("Until", name, parts, should_stop_blob=stop)


def DoWhile(name: str, condition_blob_or_net: Condition, nets_or_steps: Body) -> ExecutionStep:
    """Run something, and again as long as a condition is true, which is asked afterwards."""
    negated, stop = NotNet(condition_blob_or_net)
    parts = _behind(_asking(condition_blob_or_net, negated), nets_or_steps)
    inner = _step("DoWhile-inner", name, parts, should_stop_blob=stop)
    return _beginning_false(f"{name}/DoWhile", stop, inner)


def DoUntil(name: str, condition_blob_or_net: Condition, nets_or_steps: Body) -> ExecutionStep:
    """Run something, and again as long as a condition is false, which is asked afterwards.

    A blob is looked at after each net or step: one that is true from the beginning lets only the
    first of them run.
    """
    condition = condition_blob_or_net
    if not isinstance(condition, Net):
        stop = BlobReference(str(condition))
        return _step("DoUntil", name, _listed((nets_or_steps,)), should_stop_blob=stop)
    stop = GetConditionBlobFromNet(condition)
    parts = _behind([condition], nets_or_steps)
    inner = _step("DoUntil-inner", name, parts, should_stop_blob=stop)
    return _beginning_false(f"{name}/DoUntil", stop, inner)


def _once_if(name: str, condition: Condition, body: Body) -> ExecutionStep:
    negated, stop = NotNet(condition)
    parts = _before(_asking(condition, negated), body)
    options: dict[str, Any] = {"should_stop_blob": stop, "only_once": True}
    if not _are_nets(parts):
        return _step("_RunOnceIf", name, parts, **options)
    inner = _step("_RunOnceIf-inner", name, parts, **options)
    return _beginning_false(f"{name}/_RunOnceIf", stop, inner)


def _once_if_not(name: str, condition: Condition, body: Body) -> ExecutionStep:
    if isinstance(condition, Net):
        first, stop = condition, GetConditionBlobFromNet(condition)
    else:
        first, stop = _copy_net(condition)
    return _step(
        "_RunOnceIfNot", name, _before([first], body), should_stop_blob=stop, only_once=True
    )


def If(
    name: str,
    condition_blob_or_net: Condition,
    true_nets_or_steps: Body,
    false_nets_or_steps: Body | None = None,
) -> ExecutionStep:
    """Run one thing if a condition is true, and another, if given, if it is false."""
    if not false_nets_or_steps:
        return _once_if(f"{name}/If", condition_blob_or_net, true_nets_or_steps)
    return Do(
        f"{name}/If",
        _once_if(f"{name}/If-true", condition_blob_or_net, true_nets_or_steps),
        _once_if_not(f"{name}/If-false", _blob(condition_blob_or_net), false_nets_or_steps),
    )


def IfNot(
    name: str,
    condition_blob_or_net: Condition,
    true_nets_or_steps: Body,
    false_nets_or_steps: Body | None = None,
) -> ExecutionStep:
    """Run the first thing if a condition is false, and the second, if given, if it is true."""
    if not false_nets_or_steps:
        return _once_if_not(f"{name}/IfNot", condition_blob_or_net, true_nets_or_steps)
    return Do(
        f"{name}/IfNot",
        _once_if_not(f"{name}/IfNot-true", condition_blob_or_net, true_nets_or_steps),
        _once_if(f"{name}/IfNot-false", _blob(condition_blob_or_net), false_nets_or_steps),
    )


def Switch(name: str, *conditions: Any) -> ExecutionStep:
    """Run each thing whose condition is true, one after the other.

    `Switch(name, (condition, nets or steps), ...)`, or a list of such pairs. Each condition is
    asked once, when its turn comes.
    """
    pairs = _pairs("Switch", conditions)
    return _step("Switch", name, [_once_if(f"{name}/Switch", c, body) for c, body in pairs])


def SwitchNot(name: str, *conditions: Any) -> ExecutionStep:
    """`Switch`, of each thing whose condition is false."""
    pairs = _pairs("SwitchNot", conditions)
    steps = [_once_if_not(f"{name}/SwitchNot", c, body) for c, body in pairs]
    return _step("SwitchNot", name, steps)
