"""`caffe2.python.device_checker`: whether devices agree. There is one here: the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from procession.caffe2.python import _import_c_extension as C
from procession.caffe2.python import workspace
from procession.testing import devices

__all__ = ["DeviceChecker"]


class DeviceChecker:
    """Runs operators and nets with several device options, and compares what they make.

    What differs is printed.

    Args:
        threshold: How far results may be apart, relatively and absolutely.
        device_options: The options.
    """

    def __init__(self, threshold: float, device_options: Sequence[Any]) -> None:
        self._threshold = threshold
        self._device_options = device_options

    def CheckSimple(
        self,
        op: Any,
        inputs: Sequence[Any],
        outputs_to_check: Sequence[int],
        input_device_options: Mapping[str, Any] | None = None,
    ) -> bool:
        """Whether an operator makes the same of inputs with all options.

        Args:
            op: The operator.
            inputs: Arrays.
            outputs_to_check: Which outputs to compare.
            input_device_options: Where inputs are to be fed.
        """
        with workspace.WorkspaceGuard("_device_check_"):
            found = devices.compare_operator(
                C.Workspace.current,
                op,
                inputs,
                outputs_to_check,
                self._device_options,
                threshold=self._threshold,
                input_device_options=input_device_options,
            )
            workspace.ResetWorkspace()
        print(*found, sep="\n", end="\n" if found else "")
        return not found

    def CheckNet(
        self,
        net: Any,
        inputs: Mapping[str, Any] | None = None,
        blobs_to_check: Sequence[str] | None = None,
        ignore: Any = None,
    ) -> bool:
        """Whether a net's message makes the same of inputs with all options.

        Args:
            net: The message.
            inputs: Blob -> array.
            blobs_to_check: What to compare; left out, all that the net makes.
            ignore: What not to compare.
        """
        with workspace.WorkspaceGuard("_device_check_"):
            found = devices.compare_net(
                C.Workspace.current,
                net,
                self._device_options,
                threshold=self._threshold,
                inputs=inputs,
                blobs_to_check=blobs_to_check,
                ignore=ignore,
            )
            workspace.ResetWorkspace()
        print(*found, sep="\n", end="\n" if found else "")
        return not found
