"""`caffe2.python.device_checker`: whether devices agree. There is one here: the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from procession.caffe2.python import workspace
from procession.graph.device import check_device


class DeviceChecker:
    """Runs operators and nets with several device options, and compares what they make.

    Args:
        threshold: How far results may be apart, relatively and absolutely.
        device_options: The options.
    """

    def __init__(self, threshold: float, device_options: Sequence[Any]) -> None:
        self._threshold = threshold
        self._device_options = device_options

    def _agree(self, names: Sequence[str], run: Callable[[Any], list[Any]]) -> bool:
        with workspace.WorkspaceGuard("_device_check_"):
            results = []
            for option in self._device_options:
                check_device(option, "a check of devices")
                workspace.ResetWorkspace()
                results.append(run(option))
            workspace.ResetWorkspace()
        good = True
        for option, values in zip(self._device_options, results, strict=True):
            for name, value, wanted in zip(names, values, results[0], strict=True):
                if not np.allclose(value, wanted, atol=self._threshold, rtol=self._threshold):
                    print(f"{name} differs with {option}: {value} is not {wanted}")
                    good = False
        return good

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
        names = [op.output[index] for index in outputs_to_check]

        def run(option: Any) -> list[Any]:
            placed = copy.deepcopy(op)
            placed.device_option.CopyFrom(option)
            for name, value in zip(op.input, inputs, strict=False):
                place = (input_device_options or {}).get(name, option)
                workspace.FeedBlob(name, np.array(value), place)
            workspace.RunOperatorOnce(placed)
            return workspace.FetchBlobs(names)

        return self._agree(names, run)

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
        if blobs_to_check is None:
            blobs_to_check = [blob for op in net.op for blob in op.output]
        names = [blob for blob in blobs_to_check if blob not in (ignore or ())]

        def run(option: Any) -> list[Any]:
            for name, value in (inputs or {}).items():
                workspace.FeedBlob(name, value, option)
            for op in net.op:
                op.device_option.CopyFrom(option)
            workspace.RunNetOnce(net)
            return workspace.FetchBlobs(names)

        return self._agree(names, run)
