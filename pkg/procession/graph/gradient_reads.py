"""What control operators read, for the walk back: more than they list, and what they need of it.

An If without Else may write a blob, and may leave it as it is. So what it holds afterwards depends
on what it held before, as if the operator read it, which the forward operator need not list. The
walk back has to know; it works with operators that do list it.
"""

from __future__ import annotations

from collections.abc import Iterable

from procession.graph.proto import Argument, NetDef, OperatorDef

CONTROL = frozenset(("If", "AsyncIf", "While", "Do"))


def _operators(operator: OperatorDef, argument: str) -> list[OperatorDef]:
    net = operator.arguments.get(argument)
    return net.op if isinstance(net, NetDef) else []


def _bound(operator: OperatorDef) -> dict[str, str]:
    """Blob inside a Do -> blob outside."""
    arguments = operator.arguments
    outside = [*operator.input[:-1], *operator.output[:-1]]
    inside = arguments.get("inner_blobs") or ()
    places = arguments.get("outer_blobs_idx") or ()
    return {
        blob.decode() if isinstance(blob, bytes) else str(blob): outside[place]
        for blob, place in zip(inside, places, strict=False)
        if 0 <= place < len(outside)
    }


def _always_written(operators: Iterable[OperatorDef]) -> set[str]:
    """The blobs that operators write, whichever way the run takes."""
    found: set[str] = set()
    for operator in operators:
        if operator.type not in CONTROL:
            found.update(operator.output)
        elif operator.type == "Do":
            inside = _always_written(_operators(operator, "net"))
            found.update(outer for inner, outer in _bound(operator).items() if inner in inside)
        elif operator.type == "While":
            # The condition is asked at least once, the body may not run at all.
            found |= _always_written(_operators(operator, "cond_net"))
        else:
            then, other = (_operators(operator, name) for name in ("then_net", "else_net"))
            found |= _always_written(then) & _always_written(other)
    return found


def _read_first(operators: Iterable[OperatorDef]) -> set[str]:
    """The blobs of which operators may read what they are before any of these writes them."""
    found: set[str] = set()
    written: set[str] = set()
    for operator in operators:
        found.update(each for each in operator.input if each not in written)
        found.update(each for each in _unlisted(operator) if each not in written)
        written |= _always_written([operator])
    return found


def _unlisted(operator: OperatorDef) -> list[str]:
    """The outputs that depend on what they were before, though they are no inputs."""
    listed = set(operator.input)
    outputs = [blob for blob in operator.output if blob not in listed]
    if operator.type not in CONTROL or not outputs:
        return []
    certain = _always_written([operator])
    if operator.type == "Do":
        inside = _read_first(_operators(operator, "net"))
        read = {outer for inner, outer in _bound(operator).items() if inner in inside}
    else:
        read = set()
        for argument in ("cond_net", "then_net", "else_net"):
            read |= _read_first(_operators(operator, argument))
    return [blob for blob in outputs if blob in read or blob not in certain]


def with_unlisted_reads(operator: OperatorDef) -> OperatorDef:
    """The operator, or a copy with more inputs: the outputs that depend on what they were.

    Args:
        operator: Any operator; only control operators are changed.
    """
    kept = _unlisted(operator)
    if not kept:
        return operator
    made = OperatorDef()
    made.CopyFrom(operator)
    if operator.type != "Do":
        made.input.extend(kept)
        return made
    if not operator.input or operator.input[-1] != operator.output[-1]:
        return operator
    # The last one is the blob of the workspaces. Outputs are counted after the inputs.
    before = len(operator.input) - 1
    made.input[before:] = [*kept, operator.input[-1]]
    for number, argument in enumerate(made.arg):
        if argument.name == "outer_blobs_idx":
            places = [place + len(kept) * (place >= before) for place in argument.value]
            made.arg[number] = Argument.of("outer_blobs_idx", places)
    return made


def keeps_copy(operator: OperatorDef, blob: str) -> bool:
    """Whether an operator keeps for its gradient what a blob was when it ended."""
    if operator.type != "Do" or not operator.arguments.get("copy_external_blobs"):
        return False
    workspace: str = operator.output[-1]
    return blob != workspace


def reads_value(operator: OperatorDef, blob: str) -> bool:
    """Whether an operator needs more of an input than its shape, as fills of zeros do."""
    if operator.type not in CONTROL:
        fills: bool = operator.type == "ConstantFill"
        return not fills
    if operator.type == "Do":
        if blob == operator.input[-1]:
            return True
        inside = {inner for inner, outer in _bound(operator).items() if outer == blob}
    else:
        if blob == operator.input[0]:
            return True
        inside = {blob}
    return any(
        each in inside and reads_value(reader, each)
        for argument in operator.arg
        if isinstance(argument.value, NetDef)
        for reader in argument.value.op
        for each in reader.input
    )
