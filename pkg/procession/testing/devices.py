"""Whether devices agree, that is, whether an operator or a net makes the same with each option.

There is one device here, the CPU: what is found is what differs from run to run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from procession.graph.device import check_device
from procession.graph.proto import DeviceOption, NetDef, OperatorDef
from procession.session.workspace import Workspace
from procession.testing.running import Options, feed_all, placed


def _differences(
    workspace: Workspace,
    names: Sequence[str],
    device_options: Sequence[DeviceOption],
    threshold: float,
    run: Callable[[DeviceOption], None],
) -> list[str]:
    results = []
    for option in device_options:
        check_device(option, "a comparison of devices")
        for name in workspace.names():
            workspace.remove_blob(name)
        run(option)
        results.append([workspace.fetch_blob(name) for name in names])
    return [
        f"{name} differs with {option}: {value} is not {wanted}"
        for option, values in zip(device_options, results, strict=True)
        for name, value, wanted in zip(names, values, results[0], strict=True)
        if not np.allclose(value, wanted, atol=threshold, rtol=threshold)
    ]


def compare_operator(
    workspace: Workspace,
    operator: OperatorDef,
    inputs: Sequence[Any],
    outputs_to_check: Sequence[int],
    device_options: Sequence[DeviceOption],
    *,
    threshold: float,
    input_device_options: Options | None = None,
) -> list[str]:
    """What an operator makes otherwise with one of the options than with the first.

    Args:
        workspace: Where to run; it is emptied before each run.
        operator: The operator.
        inputs: Arrays.
        outputs_to_check: Which outputs to compare.
        device_options: The options.
        threshold: How far results may be apart, relatively and absolutely.
        input_device_options: Where inputs are to be fed.

    Returns:
        A line of text for each output and option; none when all agree.

    Raises:
        DeviceError: An option is not the CPU's.
    """

    def run(option: DeviceOption) -> None:
        made = placed(operator, option)
        feed_all(workspace, made.input, inputs, option, input_device_options)
        workspace.run(made)

    names = [operator.output[index] for index in outputs_to_check]
    return _differences(workspace, names, device_options, threshold, run)


def compare_net(
    workspace: Workspace,
    net: NetDef,
    device_options: Sequence[DeviceOption],
    *,
    threshold: float,
    inputs: Mapping[str, Any] | None = None,
    blobs_to_check: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> list[str]:
    """What a net's message makes otherwise with one of the options than with the first.

    Args:
        workspace: Where to run; it is emptied before each run.
        net: The message; its operators get each option in turn.
        device_options: The options.
        threshold: How far results may be apart, relatively and absolutely.
        inputs: Blob -> array.
        blobs_to_check: What to compare; left out, all that the net makes.
        ignore: What not to compare.

    Returns:
        A line of text for each blob and option; none when all agree.

    Raises:
        DeviceError: An option is not the CPU's.
    """
    if blobs_to_check is None:
        blobs_to_check = [blob for operator in net.op for blob in operator.output]
    names = [blob for blob in blobs_to_check if blob not in (ignore or ())]
    given = inputs or {}

    def run(option: DeviceOption) -> None:
        feed_all(workspace, list(given), list(given.values()), option)
        for operator in net.op:
            operator.device_option.CopyFrom(option)
        workspace.run(net)

    return _differences(workspace, names, device_options, threshold, run)
