"""A blob that counts how often a net has run, once for all who ask for it."""

from __future__ import annotations

from typing import Any

from procession.graph.device import DeviceOption, DeviceType
from procession.graph.net import Net
from procession.operators.datatype import DataType

OPTIMIZER_ITERATION_NAME = "optimizer_iteration"
ITERATION_MUTEX_NAME = "iteration_mutex"


def count_runs(
    init_net: Net, net: Net, iter: Any = None, iter_mutex: Any = None, iter_val: int = 0
) -> Any:
    """Have a net count its runs in one blob, under a mutex, unless that blob is there already.

    Args:
        init_net: The net that makes counter and mutex.
        net: The net that counts.
        iter: The counter; left out, `OPTIMIZER_ITERATION_NAME`.
        iter_mutex: The mutex; left out, `ITERATION_MUTEX_NAME`.
        iter_val: Where the counter begins.

    Returns:
        The counter: an int64 tensor of shape (1,).

    Caffe2: utils.BuildUniqueMutexIter.
    """
    counter = OPTIMIZER_ITERATION_NAME if iter is None else iter
    mutex = ITERATION_MUTEX_NAME if iter_mutex is None else iter_mutex
    if init_net.BlobIsDefined(counter):
        return init_net.GetBlobRef(counter)
    option = DeviceOption(DeviceType.CPU)
    kind = int(DataType.INT64)
    counter = init_net.ConstantFill(
        [], counter, shape=[1], value=iter_val, dtype=kind, device_option=option
    )
    mutex = init_net.CreateMutex([], [mutex], device_option=option)
    net.AtomicIter([mutex, counter], [counter])
    return counter
