"""Where operators are to run: device options, and the scope that sets them. Here that is the CPU.

Options for other devices can be made, compared and put in force, as scripts do that decide later.
What is to run on one is refused where it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Any

from procession.errors import DeviceError, GraphError
from procession.graph import proto

_device_scope: ContextVar[proto.DeviceOption | None] = ContextVar(
    "procession device scope", default=None
)


class DeviceType(IntEnum):
    """Caffe2's numbers for kinds of devices. There is the CPU only."""

    CPU = 0
    CUDA = 1
    MKLDNN = 2
    OPENGL = 3
    OPENCL = 4
    IDEEP = 5
    HIP = 6
    FPGA = 7
    MSNPU = 8
    XLA = 9


def _named(device_type: int) -> str:
    try:
        return f"{DeviceType(device_type).name} (device type {device_type})"
    except ValueError:
        return f"device type {device_type}"


def IsGPUDeviceType(device_type: int) -> bool:
    """Whether that is the number of a kind of GPU. Caffe2: the same."""
    return device_type in (DeviceType.CUDA, DeviceType.HIP)


def DeviceOption(
    device_type: int,
    device_id: int = 0,
    random_seed: int | None = None,
    node_name: str | None = None,
    numa_node_id: int | None = None,
    extra_info: Iterable[str] | None = None,
) -> proto.DeviceOption:
    """Say on which device operators are to run. Caffe2: the same.

    Args:
        device_type: A `DeviceType`, or its number.
        device_id: Which of the devices of that kind.
        random_seed: The seed of an operator that draws random numbers.
        node_name: A name for where it is; nothing here reads it.
        numa_node_id: Which part of the memory to use; for CPUs only. Nothing here reads it.
        extra_info: More texts to keep; nothing here reads them.

    Raises:
        DeviceError: Another device than a CPU has no `numa_node_id`.
    """
    option = proto.DeviceOption(device_type=device_type, device_id=device_id)
    if numa_node_id is not None:
        if device_type != DeviceType.CPU:
            raise DeviceError(
                f"numa_node_id={numa_node_id} is for CPUs, not for {_named(device_type)}",
                device_type=device_type,
            )
        option.numa_node_id = numa_node_id
    if random_seed is not None:
        option.random_seed = random_seed
    if node_name is not None:
        option.node_name = node_name
    if extra_info is not None:
        option.extra_info.extend(extra_info)
    return option


def device_option_equal(
    opt1: proto.DeviceOption | None,
    opt2: proto.DeviceOption | None,
    ignore_node_name: bool = True,
    ignore_random_seed: bool = True,
) -> bool:
    """Whether two options mean the same device; of CPUs there is but one. Caffe2: the same.

    Args:
        opt1: An option; None equals None only.
        opt2: The other.
        ignore_node_name: Whether their `node_name` may differ.
        ignore_random_seed: Whether their `random_seed` may differ.
    """
    if opt1 is None or opt2 is None:
        return opt1 is opt2
    return (
        opt1.device_type == opt2.device_type
        and (opt1.device_type == DeviceType.CPU or opt1.device_id == opt2.device_id)
        and (ignore_node_name or opt1.node_name == opt2.node_name)
        and (ignore_random_seed or opt1.random_seed == opt2.random_seed)
    )


def device_equal(src: proto.DeviceOption, dst: proto.DeviceOption) -> bool:
    """Whether two options have the same device type and number. Caffe2: core.device_equal."""
    return bool(src.device_type == dst.device_type and src.device_id == dst.device_id)


def CurrentDeviceScope() -> proto.DeviceOption | None:
    """The device option that operators made here get, None outside any scope. Caffe2: the same."""
    return _device_scope.get()


@contextmanager
def _in_force(option: proto.DeviceOption | None) -> Iterator[proto.DeviceOption | None]:
    token = _device_scope.set(option)
    try:
        yield option
    finally:
        _device_scope.reset(token)


@contextmanager
def DeviceScope(
    scope: proto.DeviceOption | None, node_name: str | None = None
) -> Iterator[proto.DeviceOption]:
    """Give operators made inside a copy of a device option, unless they have their own.

    The `node_name` of the scope around is taken over if there is no other, and so are its
    `extra_info`. Options of other devices than CPUs can be in force, but an operator that would
    get one is refused. Caffe2: the same.

    Args:
        scope: The device option; None or 0: a new one.
        node_name: Its `node_name`, if given. It has to be if there is no option.
    """
    option = proto.DeviceOption()
    if isinstance(scope, proto.DeviceOption):
        option.CopyFrom(scope)
    elif scope:
        raise TypeError(f"DeviceScope takes a DeviceOption, not {scope!r}")
    elif not node_name:
        raise TypeError("DeviceScope takes a DeviceOption, a node_name, or both")
    if node_name:
        option.node_name = node_name
    around = _device_scope.get()
    if around is not None:
        if around.HasField("node_name") and not option.HasField("node_name"):
            option.node_name = around.node_name
        option.extra_info.extend(around.extra_info)
    option.extra_info.sort()
    with _in_force(option):
        yield option


@contextmanager
def EmptyDeviceScope() -> Iterator[None]:
    """Give operators made inside no device option. Caffe2: the same."""
    with _in_force(None):
        yield


def check_device(option: proto.DeviceOption | None, what: str) -> None:
    """Refuse what is to run elsewhere than on the CPU.

    Args:
        option: Where it is to run; None: anywhere.
        what: Says in the error what it is.

    Raises:
        DeviceError: The option names another device.
    """
    if option is not None and option.device_type != DeviceType.CPU:
        raise DeviceError(
            f"{what} is to run on {_named(option.device_type)}, and there is only the CPU (0)",
            device_type=option.device_type,
        )


# Which blobs are where. With CPUs only, nothing has to be copied from one device to another.


def InferBlobDevices(net: Any) -> dict[str, proto.DeviceOption]:
    """Blob -> the device option of the operator that writes it last. Caffe2: the same."""
    return {blob: op.device_option for op in net.Proto().op for blob in op.output}


def InferOpDeviceAsBlobDevices(
    op: proto.OperatorDef,
) -> tuple[list[proto.DeviceOption], list[proto.DeviceOption]]:
    """The operator's device option, for each of its inputs and each output. Caffe2: the same."""
    return [op.device_option] * len(op.input), [op.device_option] * len(op.output)


def InferOpBlobDevices(
    op: proto.OperatorDef,
) -> tuple[list[proto.DeviceOption], list[proto.DeviceOption]]:
    """Where the operator wants each of its inputs, and where it writes each output.

    That is its own device, also for one that cannot be run here. Caffe2: the same.
    """
    return InferOpDeviceAsBlobDevices(op)


def InferOpBlobDevicesAsDict(
    op: proto.OperatorDef,
) -> tuple[dict[str, proto.DeviceOption], dict[str, proto.DeviceOption]]:
    """As `InferOpBlobDevices`, by the names of the blobs. Caffe2: the same."""
    inputs, outputs = InferOpBlobDevices(op)
    return dict(zip(op.input, inputs, strict=True)), dict(zip(op.output, outputs, strict=True))


def copy_func_between_devices(src: proto.DeviceOption, dst: proto.DeviceOption) -> None:
    """What copies a blob from one device to another: None, as nothing has to. Caffe2: the same.

    Raises:
        DeviceError: One of them is not the CPU.
    """
    check_device(src, "what is to be copied from")
    check_device(dst, "what is to be copied to")


def InjectCrossDeviceCopies(
    net: Any,
    blob_to_device: dict[str, proto.DeviceOption] | None = None,
    blob_remap: dict[Any, str] | None = None,
    placeHolderOps: Iterable[str] | None = None,  # noqa: N803
) -> tuple[Any, dict[str, proto.DeviceOption]]:
    """A copy of a net in which each operator finds its inputs on its device. Caffe2: the same.

    Args:
        net: The net. The copy is called as it, with `_cross_device` at the end.
        blob_to_device: Where the net's external inputs are, as returned for the nets before it.
            Those of this net are added. What is not in it is where the net says.
        blob_remap: What the copies of blobs are called that were made for the nets before it. On
            CPUs there are none.
        placeHolderOps: Types of operators that need not be registered. On CPUs none have to.

    Returns:
        The copy, and where each of its blobs is.

    Raises:
        DeviceError: A blob or an operator is elsewhere than on the CPU.
        GraphError: An operator reads a blob that the net does not define.
    """
    devices = {} if blob_to_device is None else blob_to_device
    for blob, device in devices.items():
        check_device(device, f"blob {blob!r} of net {net.Name()!r}")
    for op in net.Proto().op:
        check_device(op.device_option, f"operator {op.type}")
        _, outputs = InferOpBlobDevices(op)
        for blob in op.input:
            if not net.BlobIsDefined(blob):
                raise GraphError(
                    f"operator {op.type} of net {net.Name()!r} reads {blob!r}, which is no "
                    f"external input, and no operator of the net writes it"
                )
            devices.setdefault(blob, net.Proto().device_option)
        devices.update(zip(op.output, outputs, strict=True))
    return net.Clone(f"{net.Name()}_cross_device", keep_schema=True), devices


def InjectDeviceCopiesAmongNets(
    nets: Sequence[Any], blob_to_device_init: dict[str, proto.DeviceOption] | None = None
) -> tuple[list[Any], dict[str, proto.DeviceOption]]:
    """`InjectCrossDeviceCopies` of nets in the order in which they run. Caffe2: the same.

    Args:
        nets: The nets.
        blob_to_device_init: Where blobs are before the first of them runs.

    Returns:
        The copies, and where each of their blobs is.
    """
    devices = {} if blob_to_device_init is None else blob_to_device_init
    return [InjectCrossDeviceCopies(net, devices)[0] for net in nets], devices


def InjectDeviceCopiesAmongNetsWithoutB2D(
    nets: Sequence[Any], blob_to_device_init: dict[str, proto.DeviceOption] | None = None
) -> list[Any]:
    """The copies that `InjectDeviceCopiesAmongNets` makes. Caffe2: the same."""
    return InjectDeviceCopiesAmongNets(nets, blob_to_device_init)[0]
