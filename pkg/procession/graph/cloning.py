"""Nets made of nets: copies with other blob names, and copies of a part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from procession.errors import GraphError
from procession.graph import ssa
from procession.graph.proto import NetDef, OperatorDef

RemapFunction = Callable[[OperatorDef, str, Mapping[str, str]], None]
"""Renames blobs in the arguments of an operator: (operator, prefix, old name -> new name)."""


def _renamed(blobs: Any, remap: Mapping[str, str]) -> None:
    blobs[:] = [remap.get(blob, blob) for blob in blobs]


def remap_nets_in_arguments(op: OperatorDef, prefix: str, blob_remap: Mapping[str, str]) -> None:
    """Rename blobs in the nets that an operator holds, as If, While and Do do."""
    for argument in op.arg:
        if not isinstance(argument.value, NetDef):
            continue
        inner = argument.value
        name = f"{inner.name}_remapped" if inner.name else "remapped"
        argument.n.CopyFrom(remapped(inner, name, blob_remap))


REMAP_FUNCTIONS: dict[str, RemapFunction] = dict.fromkeys(
    ("If", "While", "AsyncIf"), remap_nets_in_arguments
)
"""Operator type -> what renames blobs in its arguments. Caffe2: core.DEFAULT_REMAP_FUNCS."""


def remapped(
    net: NetDef,
    name: str,
    remap: Mapping[str, str],
    op_ids: Iterable[int] | None = None,
    functions: Mapping[str, RemapFunction] | None = None,
) -> NetDef:
    """A copy of a net's message in which blobs have other names.

    Args:
        net: The original.
        name: The copy's name.
        remap: Old blob name -> new one.
        op_ids: The numbers of the operators to copy; default all.
        functions: Additions to `REMAP_FUNCTIONS`.
    """
    functions = REMAP_FUNCTIONS | dict(functions or {})
    operators = list(net.op)
    copied = NetDef()
    for field, value in net.ListFields():
        if field.name == "op":
            continue
        if field.repeated:
            getattr(copied, field.name).extend(value)
        elif field.is_message:
            getattr(copied, field.name).CopyFrom(value)
        else:
            setattr(copied, field.name, value)
    copied.name = name
    copied.op.extend(operators if op_ids is None else [operators[index] for index in op_ids])
    _renamed(copied.external_input, remap)
    _renamed(copied.external_output, remap)
    for operator in copied.op:
        _renamed(operator.input, remap)
        _renamed(operator.output, remap)
        function = functions.get(operator.type)
        if function is not None:
            function(operator, f"{name}/" if name else "", remap)
    return copied


def list_externals(net: NetDef) -> None:
    """Make the lists of external blobs what the operators show.

    Inputs are what is read before it is written, outputs what is written and not read after.
    """
    written: dict[str, None] = {}
    read: set[str] = set()
    inputs: list[str] = []
    for operator in net.op:
        for blob in operator.input:
            if blob in written:
                read.add(blob)
            else:
                inputs.append(blob)
        written.update(dict.fromkeys(operator.output))
    net.external_input[:] = inputs
    net.external_output[:] = [blob for blob in written if blob not in read]


def partial(
    net: Any, name: str, inputs: Any, outputs: Iterable[Any], functions: Any = None
) -> tuple[NetDef, list[str]]:
    """What `outputs` need of a net, given `inputs`: the message, and the outputs' new names.

    Blobs that are made and used inside only are renamed, so that the part can run beside the
    whole.

    Raises:
        GraphError: An output is not defined, or an operator in the part makes an input.
    """
    if isinstance(inputs, Mapping):
        renamed = {str(old): str(new) for old, new in inputs.items()}
    elif all(isinstance(each, tuple) and len(each) == 2 for each in inputs):
        renamed = {str(old): str(new) for old, new in inputs}
    else:
        renamed = {str(blob): str(blob) for blob in inputs}
    wanted = [str(blob) for blob in outputs]
    for blob in wanted:
        if not net.BlobIsDefined(blob):
            raise GraphError(f"net {net.Name()!r} cannot be cut at {blob!r}: it defines no such")
    single, versions = ssa.get_ssa(net, dict.fromkeys(renamed, 0))
    used = ssa.get_op_ids_in_path(single, versions, renamed, wanted)
    makes_inputs = set(ssa.get_op_ids_in_path(single, versions, [], renamed))
    if makes_inputs & set(used):
        raise GraphError(
            f"net {net.Name()!r} cannot be cut: operators that {wanted} need also make "
            f"{sorted(renamed)}, which are to be given"
        )
    outside = ssa.get_undefined_blobs([single[index] for index in used]) - set(renamed)
    prefix = f"{name}/" if name else ""
    remap = {blob: blob if blob in outside else prefix + blob for blob in versions}
    remap.update(renamed)
    part = remapped(net.Proto(), name, remap, used, functions)
    part.external_input[:] = [*renamed.values(), *sorted(outside)]
    part.external_output[:] = [remap[blob] for blob in wanted]
    return part, [remap[blob] for blob in wanted]


def clone_and_bind_net(
    net: Any,
    name: str,
    prefix: str,
    blob_remap: dict[Any, Any] | None = None,
    inputs: Any = None,
    keep_schema: bool = True,
) -> tuple[Any, dict[Any, Any]]:
    """A copy of a net that reads the blobs of a record. Caffe2: core.clone_and_bind_net.

    Args:
        net: The net; with `inputs`, it must have an input record.
        name: The copy's name.
        prefix: Comes before the names of all blobs that the net makes.
        blob_remap: Further blobs to rename; what was renamed is added to it.
        inputs: A record with at least the fields of the net's input record.
        keep_schema: Whether the copy has the records of the net; otherwise its input record
            is `inputs`.

    Returns:
        The copy, and blob -> its name in the copy.

    Raises:
        GraphError: `inputs` lacks fields of the net's input record, or it has none.
    """
    remap = {} if blob_remap is None else blob_remap
    if inputs is not None:
        original = net.input_record()
        if original is None:
            raise GraphError(f"net {net.Name()!r} has no input record to bind {inputs!r} to")
        names = inputs.field_names()
        lacking = [field for field in original.field_names() if field not in names]
        if lacking:
            raise GraphError(
                f"net {net.Name()!r} has the inputs {original.field_names()}; those given lack "
                f"{lacking} and have {names}"
            )
        given = dict(zip(names, inputs.field_blobs(), strict=True))
        for field, blob in zip(original.field_names(), original.field_blobs(), strict=True):
            remap[str(blob)] = str(given[field])
    single, versions = ssa.get_ssa(net)
    outside = ssa.get_undefined_blobs(single)
    for blob in versions:
        if blob not in remap:
            remap[blob] = blob if blob in outside else prefix + blob
    copied = net.Clone(name, remap, keep_schema=keep_schema)
    if not keep_schema and inputs is not None:
        copied.set_input_record(inputs)
    return copied, remap


def remap_input(op: OperatorDef, blob_name_remapping: Mapping[str, str]) -> None:
    """Let an operator read other blobs. Caffe2: core.remap_input."""
    _renamed(op.input, blob_name_remapping)
