"""One operator in a workspace: fed, run, fetched, timed.

What is read and written is that workspace, and only under the names that the operator has.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from procession.errors import WorkspaceError
from procession.graph.device import check_device
from procession.graph.proto import DeviceOption, NetDef, OperatorDef
from procession.session.benchmark import benchmark_net
from procession.session.workspace import Workspace

Options = Mapping[str, DeviceOption]
"""Blob -> where it is to be fed."""


def placed(operator: OperatorDef, device_option: DeviceOption | None) -> OperatorDef:
    """A copy of an operator, with this device option; None: with its own."""
    made = copy.deepcopy(operator)
    if device_option is not None:
        made.device_option.CopyFrom(device_option)
    return made


def feed_all(
    workspace: Workspace,
    names: Sequence[str],
    values: Sequence[Any],
    device_option: DeviceOption | None = None,
    input_device_options: Options | None = None,
) -> None:
    """Feed blobs, if they are to be on the CPU.

    Args:
        workspace: Where.
        names: The blobs.
        values: Their values; further ones are left out.
        device_option: Where they are to be.
        input_device_options: Where some of them are to be instead.

    Raises:
        DeviceError: A blob is to be elsewhere.
        WorkspaceError: There are more blobs than values.
    """
    if len(names) > len(values):
        raise WorkspaceError(f"{len(names)} blobs are to be fed, and {len(values)} values given")
    for name, value in zip(names, values, strict=False):
        check_device((input_device_options or {}).get(name, device_option), f"blob {name!r}")
        workspace.feed_blob(name, value)


def run_in(
    workspace: Workspace,
    operator: OperatorDef,
    inputs: Sequence[Any],
    device_option: DeviceOption | None = None,
    input_device_options: Options | None = None,
) -> list[Any]:
    """Feed an operator's inputs, run it, and fetch its outputs.

    Raises:
        WorkspaceError: There are fewer values than inputs.
        DeviceError: It is to run elsewhere than on the CPU.
        OperatorError: See `Session.run`.
    """
    made = placed(operator, device_option)
    feed_all(workspace, made.input, inputs, device_option, input_device_options)
    workspace.run(made)
    return [workspace.fetch_blob(name) for name in made.output]


def benchmark_in(
    workspace: Workspace,
    operator: OperatorDef,
    inputs: Sequence[Any],
    device_option: DeviceOption | None = None,
    input_device_options: Options | None = None,
    iterations: int = 10,
) -> list[float]:
    """Milliseconds that an operator takes: as a net, and by itself. See `benchmark_net`."""
    made = placed(operator, device_option)
    feed_all(workspace, made.input, inputs, device_option, input_device_options)
    net = NetDef(name=made.name or "test", op=[made])
    workspace.create_net(net)
    return benchmark_net(workspace, net.name, 1, iterations, True)
