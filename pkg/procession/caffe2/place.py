"""Workspace as Caffe2 has it: its values, its return values, its errors; and where it lives."""

from __future__ import annotations

from typing import Any

import numpy as np

import procession
from procession.blobs.blob import Pool, is_tensor
from procession.caffe2.translate import caffe2_errors
from procession.compiler.compiled import CompiledRunnable
from procession.errors import BlobNotFoundError, WorkspaceError
from procession.graph.device import check_device
from procession.graph.proto import DeviceOption, PlanDef, TensorProto
from procession.runtime import workspace as runtime
from procession.runtime.workspace import name_of
from procession.session import serialize
from procession.session.workspace import BlobHandle, Tensor, WorkspaceNet, as_message


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
            remote = self._place.session()
            if remote is None:
                self._net.run()
            else:
                remote.run(self._net.compiled)


class Place(procession.Workspace):
    """A workspace for scripts.

    In the mode `--processes` it lives in a worker process, once a session uses it: from then on
    everything asked of it is asked of that process.
    """

    def __init__(
        self,
        parent: runtime.Workspace | None = None,
        *,
        node: str = "local",
        pool: Pool | None = None,
    ) -> None:
        super().__init__(parent, node=node, pool=pool)
        self._session: procession.ProcessSession | None = None
        self._empty: set[str] = set()
        """In a worker there are no blobs without a value: these are to be."""

    # Where it lives.

    def move(self) -> procession.ProcessSession:
        """Have it live in a worker process."""
        if self._session is None:
            session = _Workers()
            home = session.workspace()
            for name in super().names():
                value = super().peek(name)
                if value is None:
                    self._empty.add(name)
                else:
                    home.feed_blob(name, value)
            self._session = session
        return self._session

    def session(self) -> procession.ProcessSession | None:
        """The session in whose worker it lives, if it lives in one."""
        return self._session

    # Blobs.

    def handle(self, name: str) -> Blob:
        return Blob(self, name)

    def names(self) -> list[str]:
        if self._session is None:
            return super().names()
        return sorted({*self._session.workspace().names(), *self._empty})

    def has_blob(self, name: Any) -> bool:
        if self._session is None:
            return super().has_blob(name)
        return name_of(name) in self._empty or self._session.workspace().has_blob(name)

    def peek(self, name: Any) -> Any:
        if self._session is None:
            return super().peek(name)
        home = self._session.workspace()
        if name_of(name) in self._empty and not home.has_blob(name):
            return None
        return home.fetch_blob(name)

    def writable(self, name: Any) -> Any:
        if self._session is None:
            return super().writable(name)
        value = self.peek(name)
        return value if is_tensor(value) else fetched(name_of(name), value)

    def create_blob(self, name: Any) -> Blob:
        if self._session is None:
            super().create_blob(name)
        elif not self.has_blob(name):
            self._empty.add(name_of(name))
        return self.handle(name_of(name))

    def fetch_blob(self, name: Any) -> Any:
        with caffe2_errors():
            return fetched(name_of(name), self.peek(name))

    def feed_blob(  # type: ignore[override]
        self, name: Any, arr: Any, device_option: DeviceOption | bytes | None = None
    ) -> bool:
        """Give a blob a value; returns True."""
        with caffe2_errors():
            check_placed(device_option)
            value = fed(arr)
            if self._session is None:
                super().feed_blob(name, value)
            else:
                self._session.workspace().feed_blob(name, value)
        return True

    def remove_blob(self, name: Any) -> None:
        self._remove_blob(name)

    def _remove_blob(self, name: Any) -> bool:
        self._empty.discard(name_of(name))
        try:
            if self._session is None:
                super().remove_blob(name)
            else:
                self._session.workspace().remove_blob(name)
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
            self._keep_nets(as_message(obj))
            super().run(obj)

    def _keep_nets(self, plan: Any) -> None:
        """Have `nets` list the nets that a plan runs in this very workspace."""
        if not isinstance(plan, PlanDef):
            return
        named = {net.name: net for net in plan.network}
        steps = list(plan.execution_step)
        while steps:
            step = steps.pop()
            if not step.create_workspace:
                steps.extend(step.substep)
                for name in step.network:
                    if name in named:
                        self._nets[name] = WorkspaceNet(self, named[name])

    def _run_compiled(self, compiled: CompiledRunnable) -> None:
        remote = self.session()
        if remote is None:
            super()._run_compiled(compiled)
        else:
            remote.run(compiled)

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


def _bytes(message: Any) -> bytes:
    if not isinstance(message, bytes):
        raise TypeError(f"the bytes of a message are wanted, not {message!r}")
    return message
