"""Workspace as Caffe2 has it: its values, its return values, its errors."""

from __future__ import annotations

from typing import Any

import numpy as np

import procession
from procession.caffe2.translate import caffe2_errors
from procession.errors import BlobNotFoundError, WorkspaceError
from procession.graph.device import check_device
from procession.graph.proto import DeviceOption, TensorProto
from procession.runtime.workspace import name_of
from procession.session import serialize
from procession.session.movable import MovableWorkspace
from procession.session.workspace import (
    BlobHandle,
    Tensor,
    WorkspaceNet,
    as_message,
    nets_run_in_place,
)


def fed(value: Any) -> Any:
    """What a fed value is kept as: strings are bytes.

    Raises:
        WorkspaceError: Neither an array of a type that Caffe2 has, nor a string.
    """
    if isinstance(value, TensorProto):
        return serialize.tensor_value(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if not isinstance(value, np.ndarray):
        raise WorkspaceError(
            f"only NumPy arrays and strings can be fed, not {value!r} of type "
            f"{type(value).__name__}: feed numpy.array(...)"
        )
    if value.dtype.kind in "OSU":
        strings = np.empty(value.shape, object)
        strings.reshape(-1)[:] = [serialize.as_bytes(each) for each in value.flat]
        return strings
    serialize.data_type(value)
    return value


def fetched(name: str, value: Any) -> Any:
    """What a script gets for a value: an array that it may write to, or bytes."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "OSU":
            return np.array(value)
        strings = np.empty(value.shape, object)
        flat = strings.reshape(-1)
        for index, each in enumerate(value.flat):
            flat[index] = each.encode() if isinstance(each, str) else each
        return strings
    if isinstance(value, (str, bytes)):
        return serialize.as_bytes(value)
    what = "nothing (uninitialized)" if value is None else f"Python type {type(value).__name__}"
    return f"{name}, an object of {what}.".encode()


def check_placed(option: DeviceOption | bytes | None) -> None:
    """Refuse to feed to another device than the CPU."""
    if isinstance(option, bytes):
        option = DeviceOption.FromString(option)
    check_device(option, "what is fed")


class TensorCPU(Tensor):
    """A tensor of a workspace, in place. Caffe2: C.TensorCPU."""

    _reshape = Tensor.reshape

    def feed(self, value: Any) -> None:
        """Make it a copy of an array.

        Raises:
            WorkspaceError: It is no array.
        """
        if not isinstance(value, np.ndarray):
            with caffe2_errors():
                raise WorkspaceError(f"only an array can be fed to a tensor, not {value!r}")
        super().feed(value)


class Blob(BlobHandle):
    """One blob of a workspace, by name. Caffe2: C.Blob."""

    _workspace: Place

    def fetch(self) -> Any:
        """A copy of its value.

        Raises:
            WorkspaceError: It has none, or one that cannot be fetched, as a counter.
        """
        value = self._workspace.peek(self.name)
        if isinstance(value, (np.ndarray, str, bytes)):
            return super().fetch()
        with caffe2_errors():
            kind = "nothing (uninitialized)" if value is None else f"a {type(value).__name__}"
            raise WorkspaceError(f"blob {self.name!r} holds {kind}, which cannot be fetched")

    def as_tensor(self) -> TensorCPU:
        """The tensor in it; see `BlobHandle.as_tensor`."""
        with caffe2_errors():
            super().as_tensor()
        return TensorCPU(self._workspace, self.name)

    def feed(self, arg: Any, device_option: DeviceOption | bytes | None = None) -> bool:  # type: ignore[override]
        """Give it a value; returns True."""
        return self._workspace.feed_blob(self.name, arg, device_option)

    _feed = feed

    def deserialize(self, content: bytes) -> None:
        """Give it the value that `serialize` wrote."""
        with caffe2_errors():
            super().deserialize(content)


class Net:
    """A net made by `create_net`. Caffe2: C.Net."""

    def __init__(self, net: WorkspaceNet, place: Place) -> None:
        self._net = net
        self._place = place

    @property
    def name(self) -> str:
        """Its name."""
        return self._net.name

    def run(self) -> None:
        """Run it."""
        with caffe2_errors():
            self._place.run_created(self._net)


class Place(MovableWorkspace):
    """A workspace for scripts.

    In the mode `--processes` it moves to a worker process once a session uses it.
    """

    # Blobs.

    def handle(self, name: str) -> Blob:
        return Blob(self, name)

    def fetch_blob(self, name: Any) -> Any:
        with caffe2_errors():
            return fetched(name_of(name), self.peek(name))

    def feed_blob(  # type: ignore[override]
        self, name: Any, arr: Any, device_option: DeviceOption | bytes | None = None
    ) -> bool:
        """Give a blob a value; returns True."""
        with caffe2_errors():
            check_placed(device_option)
            super().feed_blob(name, fed(arr))
        return True

    def remove_blob(self, blob: Any) -> None:
        self._remove_blob(blob)

    def _remove_blob(self, name: Any) -> bool:
        try:
            super().remove_blob(name)
        except BlobNotFoundError:
            return False
        return True

    def reset_blob(self, name: Any) -> None:
        """Take its value from a blob."""
        with caffe2_errors():
            self.peek(name)
            self._remove_blob(name)
            self.create_blob(name)

    # Nets.

    @property
    def nets(self) -> dict[str, Any]:
        return {name: Net(net, self) for name, net in super().nets.items()}

    def create_net(self, net: Any, overwrite: bool = False) -> Any:
        with caffe2_errors():
            made = super().create_net(net, overwrite)
            return Net(made, self)

    _create_net = create_net

    def run(self, obj: Any) -> None:
        with caffe2_errors():
            for net in nets_run_in_place(as_message(obj)):
                self._nets[net.name] = WorkspaceNet(self, net)
            super().run(obj)

    def _run_net(self, net: bytes) -> None:
        with caffe2_errors():
            super().run_net(_bytes(net))

    def _run_plan(self, plan: bytes) -> None:
        with caffe2_errors():
            super().run_plan(_bytes(plan))

    def _run_operator(self, operator: bytes) -> None:
        with caffe2_errors():
            super().run_operator(_bytes(operator))

    def _last_failed_op_net_position(self) -> int:
        return 0


class _Workers(procession.ProcessSession):
    """In its workers `caffe2.python` can be imported, and workspaces are as they are here."""

    workspace_class = Place

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # What a script prints, it prints as it always did.
        super().__init__(*arguments, **{"log_prefix": False, **options})


Place.session_class = _Workers


def _bytes(message: Any) -> bytes:
    if not isinstance(message, bytes):
        raise TypeError(f"the bytes of a message are wanted, not {message!r}")
    return message
