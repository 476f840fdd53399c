"""Nets inside operators: from nets for the branches or the body to an If or While operator.

Each inner net runs in a workspace of its own, which a Do operator makes for it. Of the blobs around
it sees those that it reads before writing them, and those of the lexical scope; what it writes
to them is seen around it. All its other blobs are its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from procession.errors import GraphError, did_you_mean
from procession.graph.blob import BlobReference
from procession.graph.net import Net
from procession.graph.operator import wanted_by
from procession.graph.proto import NetDef
from procession.graph.ssa import get_ssa, get_undefined_blobs
from procession.operators.datatype import DataType


def _references(names: Iterable[str]) -> list[BlobReference]:
    return [BlobReference(name) for name in names]


def get_external_blob_names(net: Net, lexical_scope: Collection[str]) -> tuple[set[str], set[str]]:
    """The blobs that an inner net reads and writes outside. Caffe2: control_ops_util.

    Args:
        net: The inner net.
        lexical_scope: The blobs that there are around it.

    Raises:
        GraphError: It reads a blob that is not there.
    """
    ssa, _ = get_ssa(net.message)
    reads = get_undefined_blobs(ssa)
    for blob in sorted(reads):
        if blob not in lexical_scope:
            reader = next(each for each in net.operators if blob in each.input)
            raise GraphError(
                f"net {net.Name()!r} reads blob {blob!r}, which nothing around it has made so far."
                f"{did_you_mean(blob, lexical_scope)} A blob that is in the workspace from "
                f"elsewhere is named in NetBuilder(initial_scope=[...]).{wanted_by(reader)}"
            )
    written = {blob for operator in net.operators for blob in operator.output}
    return reads, written & set(lexical_scope)


_WRAPPED = {
    "if_then": "do_then_net",
    "if_else": "do_else_net",
    "loop_body": "do_loop_body_net",
    "loop_cond": "do_loop_condition_net",
}
"""What an inner net is -> what the net that wraps it is called."""


@dataclass
class _Inner:
    """An inner net, and the net with the Do operator that runs it."""

    reads: list[str]
    writes: list[str]
    workspace: BlobReference
    """The blob that holds its workspace."""
    runs: NetDef


def _inner(
    outer: Net,
    name: str,
    net: Net,
    lexical_scope: Collection[str],
    result: str | None = None,
    keeps: bool = False,
) -> _Inner:
    """Wrap an inner net.

    Args:
        outer: The net that gets the operator.
        name: What it is; a key of `_WRAPPED`.
        net: The inner net.
        lexical_scope: The blobs around it.
        result: A blob that is to be seen outside, in scope or not.
        keeps: The body of a loop, which may not run at all: what it writes has to be there
            before. In each round blobs from outside are copied in.
    """
    found, written = get_external_blob_names(net, lexical_scope)
    if result is not None:
        written.add(result)
    if keeps:
        found |= written
    reads, writes = sorted(found), sorted(written)
    workspace = outer.NextScopedBlob(f"{outer.Name()}/workspace_{name}")
    wrapping = type(outer)(_WRAPPED[name])
    blobs = reads + writes
    visible = list(dict.fromkeys(blobs))
    options: dict[str, Any] = {"copy_external_blobs": True} if keeps else {}
    outputs = [*_references(writes), workspace]
    wrapping.Do(
        [*_references(reads), workspace],
        outputs,
        net=net.Proto(),
        inner_blobs=visible,
        outer_blobs_idx=[blobs.index(blob) for blob in visible],
        **options,
    )
    wrapping.AddExternalOutput(*outputs)
    return _Inner(reads, writes, workspace, wrapping.Proto())


def _around(
    inners: list[_Inner], condition: Any, outer: Net
) -> tuple[list[BlobReference], list[BlobReference]]:
    """Make the inner nets' workspaces; returns what the operator reads and writes."""
    for inner in inners:
        outer.CreateScope([], [inner.workspace])
    reads = dict.fromkeys(blob for inner in inners for blob in inner.reads)
    writes = dict.fromkeys(blob for inner in inners for blob in inner.writes)
    workspaces = [inner.workspace for inner in inners]
    first = condition if isinstance(condition, BlobReference) else BlobReference(condition)
    return [first, *_references(reads), *workspaces], [*_references(writes), *workspaces]


def add_if_op(
    if_net: Net,
    cond_blob: Any,
    lexical_scope: Collection[str],
    then_net: Net,
    else_net: Net | None = None,
) -> None:
    """Add an If operator with these branches. Caffe2: control_ops_util.add_if_op.

    Args:
        if_net: The net that gets the operator.
        cond_blob: One truth value.
        lexical_scope: The names of the blobs around.
        then_net: What runs if it is true.
        else_net: What runs if it is not.

    Raises:
        GraphError: A branch reads a blob that is not there.
    """
    inners = [_inner(if_net, "if_then", then_net, lexical_scope)]
    branches = {"then_net": inners[0].runs}
    if else_net is not None:
        inners.append(_inner(if_net, "if_else", else_net, lexical_scope))
        branches["else_net"] = inners[1].runs
    reads, writes = _around(inners, cond_blob, if_net)
    if_net.If(reads, writes, **branches)
    if_net.AddExternalOutput(*writes)


def add_while_op(
    while_net: Net,
    cond_blob: Any,
    lexical_scope: Collection[str],
    loop_body_net: Net,
    condition_body_net: Net | None = None,
) -> None:
    """Add a While operator with this body. Caffe2: control_ops_util.add_while_op.

    Args:
        while_net: The net that gets the operator.
        cond_blob: One truth value; the body runs as long as it is true.
        lexical_scope: The names of the blobs around.
        loop_body_net: What runs in each round.
        condition_body_net: What computes the condition before each round.

    Raises:
        GraphError: A net reads a blob that is not there; or the one for the condition does not
            write it.
    """
    inners = [_inner(while_net, "loop_body", loop_body_net, lexical_scope, keeps=True)]
    nets = {"loop_net": inners[0].runs}
    if condition_body_net is not None:
        name = str(cond_blob)
        if not any(name in operator.output for operator in condition_body_net.operators):
            raise GraphError(
                f"net {condition_body_net.Name()!r} does not write the condition, blob {name!r}"
            )
        inners.append(
            _inner(while_net, "loop_cond", condition_body_net, lexical_scope, result=name)
        )
        nets["cond_net"] = inners[1].runs
        if name not in lexical_scope:
            while_net.ConstantFill([], cond_blob, dtype=int(DataType.BOOL), value=False)
    reads, writes = _around(inners, cond_blob, while_net)
    while_net.While(reads, writes, **nets)
    while_net.AddExternalOutput(*writes)
