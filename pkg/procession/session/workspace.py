"""Workspace: blobs by name, and running things among them without a session.

A `LocalSession` can be given one, to run in it as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from procession import errors
from procession.blobs import snapshot
from procession.blobs.blob import Blob, Pool, is_tensor
from procession.compiler.compiled import CompiledRunnable
from procession.compiler.lower import RUNNABLES, lower
from procession.compiler.messages import lower_net, lower_plan
from procession.graph.net import Net
from procession.graph.proto import NetDef, OperatorDef, PlanDef
from procession.graph.step import ExecutionStep, Plan
from procession.operators.datatype import numpy_dtype
from procession.runtime import workspace as runtime
from procession.runtime.workspace import name_of
from procession.session import serialize
from procession.session.local import LocalSession
from procession.session.observers import NetObserver, Watch


class Tensor:
    """A tensor of a workspace, in place: what is written here is what nets read next.

    Caffe2: C.TensorCPU.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self._name = name

    def _value(self) -> Any:
        value = self._workspace.peek(self._name)
        if value is None:
            return np.empty((0,), np.float32)
        if isinstance(value, np.ndarray):
            return value
        raise errors.WorkspaceError(
            f"blob {self._name!r} holds a {type(value).__name__}, not a tensor"
        )

    @property
    def data(self) -> Any:
        """The array itself, to read and to write; good until the blob gets its next value.

        What was fetched before does not change with it. For strings it is a copy.
        """
        return self._workspace.writable(self._name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self._value().shape)

    @property
    def _shape(self) -> list[int]:
        return list(self.shape)

    def init(self, shape: Sequence[int], dtype: Any) -> None:
        """Give it this shape and type (a `DataType`, or what NumPy takes), all 0.

        Raises:
            WorkspaceError: The type is that of strings, which can only be fed.
        """
        kind = numpy_dtype(dtype)
        if kind.hasobject:
            raise errors.WorkspaceError("a tensor of strings cannot be made empty: feed it instead")
        self.feed(np.zeros(tuple(int(length) for length in shape), kind))

    def reshape(self, shape: Sequence[int]) -> None:
        """Give it another shape. The values stay if there are as many; otherwise all are 0."""
        dimensions = tuple(int(length) for length in shape)
        value = self._value()
        if value.size == np.prod(dimensions, dtype=np.int64):
            self.feed(value.reshape(dimensions))
        else:
            self.feed(np.zeros(dimensions, value.dtype))

    def feed(self, value: Any) -> None:
        """Make it a copy of an array."""
        self._workspace.feed_blob(self._name, np.asarray(value))

    def fetch(self) -> Any:
        """A copy of the array."""
        return np.array(self._value())

    def __repr__(self) -> str:
        return f"<Tensor {self._name!r}, shape {self.shape}>"


class BlobHandle(runtime.BlobHandle):
    """One blob of a workspace, by name. Caffe2: C.Blob."""

    _workspace: Workspace

    def is_tensor(self) -> bool:
        """Whether it holds a tensor, of strings possibly."""
        return isinstance(self._workspace.peek(self.name), np.ndarray)

    def as_tensor(self) -> Tensor:
        """The tensor in it, to be used in place; an empty one is made of a blob without a value.

        Raises:
            WorkspaceError: It holds something else.
        """
        if self._workspace.peek(self.name) is None:
            self._workspace.feed_blob(self.name, np.empty((0,), np.float32))
        elif not self.is_tensor():
            raise errors.WorkspaceError(f"blob {self.name!r} holds no tensor")
        return Tensor(self._workspace, self.name)

    def tensor(self) -> Tensor:
        """`as_tensor`. Caffe2: the same."""
        return self.as_tensor()

    def serialize(self, name: str | None = None) -> bytes:
        """The blob as the bytes of a `BlobProto`, which Caffe2 can read.

        Args:
            name: The name to write into it; left out, the blob's own.

        Raises:
            WorkspaceError: It holds neither a tensor nor a string.
        """
        value = self._workspace.peek(self.name)
        return serialize.dump(self.name if name is None else name, value)

    def deserialize(self, content: bytes) -> None:
        """Give it the value that `serialize`, or Caffe2, wrote.

        Raises:
            WorkspaceError: The bytes are no `BlobProto` of a tensor or a string.
        """
        self._workspace.feed_blob(self.name, serialize.load(content))


class Blobs(runtime.Blobs):
    """The blobs of a workspace: name -> handle, as they are when asked."""

    _workspace: Workspace

    def __getitem__(self, name: str) -> BlobHandle:
        found = super().__getitem__(name)
        return self._workspace.handle(found.name)


class WorkspaceNet:
    """A net made ready in a workspace by `create_net`. Caffe2: C.Net.

    Args:
        workspace: Where it runs.
        net: The net compiled, or its message, which is compiled when it is first asked for.
    """

    def __init__(self, workspace: Workspace, net: CompiledRunnable | NetDef) -> None:
        self._workspace = workspace
        self._net = net
        self._session: Any = None
        self._observers: list[NetObserver] = []
        self._watch: Watch | None = None

    @property
    def name(self) -> str:
        """The net's name."""
        return self._net.name

    @property
    def compiled(self) -> CompiledRunnable:
        """What a session can run."""
        if isinstance(self._net, NetDef):
            self._net = lower_net(self._net)
        return self._net

    def run(self) -> None:
        """Run the net. What operators keep, such as random states, they keep from run to run.

        Raises:
            OperatorError, BlobNotFoundError: See `Session.run`.
        """
        if self._session is None:
            self._session = LocalSession(self._workspace)
        if self._observers:
            if self._watch is None:
                self._watch = Watch(self.compiled)
            self._watch.run(self._session.run, self.observers)
        else:
            self._session.run(self.compiled)

    @property
    def observers(self) -> tuple[NetObserver, ...]:
        """What is told of its runs."""
        return tuple(self._observers)

    def add_observer(self, observer: NetObserver) -> None:
        """Tell an observer of each `run` from here on. What operators keep begins anew.

        Runs of the net in steps and plans are not among them. Caffe2: Net.AddObserver.
        """
        self._observers.append(observer)

    def remove_observer(self, observer: NetObserver) -> None:
        """Tell it no more; one that is not told does no harm. Caffe2: Net.RemoveObserver."""
        self._observers = [each for each in self._observers if each is not observer]

    def __repr__(self) -> str:
        return f"<WorkspaceNet {self.name!r}>"


def as_message(obj: Any) -> Any:
    """What a runnable or a message of one is as a message; `None` when it is none.

    A step becomes a plan of that step alone.
    """
    if isinstance(obj, (NetDef, OperatorDef, PlanDef)):
        return obj
    if isinstance(obj, Net):
        return obj.message
    if isinstance(obj, ExecutionStep):
        obj = Plan(obj)
    return obj.Proto() if isinstance(obj, Plan) else None


def nets_run_in_place(plan: Any) -> Iterator[NetDef]:
    """The nets that a plan's message runs in the very workspace that it is given to.

    Those of steps with a workspace of their own are not among them. What is no plan has none.
    """
    if not isinstance(plan, PlanDef):
        return
    named = {net.name: net for net in plan.network}
    steps = list(plan.execution_step)
    while steps:
        step = steps.pop()
        if not step.create_workspace:
            steps.extend(step.substep)
            yield from (named[name] for name in step.network if name in named)


class Workspace(runtime.Workspace):
    """Blobs by name, in this process, and running nets, plans and operators among them.

    A child workspace sees its parent's blobs under their names; writing such a blob writes the
    parent's. A blob that is new is the child's own, and goes with it.

    Args:
        parent: The workspace to look into for blobs that are not here.
        node: The node it belongs to, for messages; left out, none.
        pool: Where large tensors live; left out, this process's heap.

    Caffe2: workspace.C.Workspace.
    """

    def __init__(
        self,
        parent: runtime.Workspace | None = None,
        *,
        node: str | None = None,
        pool: Pool | None = None,
    ) -> None:
        if parent is not None and not isinstance(parent, runtime.Workspace):
            raise TypeError(f"a workspace's parent is a Workspace, not {parent!r}")
        super().__init__(parent, node=node, pool=pool)
        self._nets: dict[str, WorkspaceNet] = {}

    def child(self, exported: frozenset[str] = frozenset()) -> Workspace:
        """A new workspace inside this one, which can do as much."""
        workspace = type(self)(self)
        workspace.exported = exported
        return workspace

    def scope(self, forward: Mapping[str, str]) -> runtime.Scope:
        """A new workspace inside this one that sees only some blobs; see the parent's."""
        return _Scope(self, forward)

    # Blobs.

    @property
    def blobs(self) -> Blobs:
        """The blobs: a mapping of name to `BlobHandle`."""
        return Blobs(self)

    def handle(self, name: str) -> BlobHandle:
        """A handle of a blob, be it there or not."""
        return BlobHandle(self, name)

    def create_blob(self, name: Any) -> BlobHandle:
        """Make a blob without a value, unless it is there; returns its handle."""
        name = name_of(name)
        self.keep(name, self.make(name))
        return self.handle(name)

    def peek(self, name: Any) -> Any:
        """The value itself, not to be changed; None when there is none.

        Raises:
            BlobNotFoundError: There is no such blob.
        """
        return self._existing(name_of(name)).value

    def _existing(self, name: str) -> Blob:
        blob = self.find(name)
        if blob is None:
            raise self.not_found(name)
        return blob

    def writable(self, name: Any) -> Any:
        """The array of a blob, to write into; see `Tensor.data`.

        Raises:
            BlobNotFoundError: There is no such blob.
            WorkspaceError: It holds no tensor.
        """
        name = name_of(name)
        blob = self._existing(name)
        value = blob.value
        if not isinstance(value, np.ndarray):
            raise errors.WorkspaceError(f"blob {name!r} holds no tensor")
        if not is_tensor(value):
            return value.copy()
        # Not the present memory when a snapshot of that is alive.
        array = blob.target(value.shape, value.dtype)
        if not np.may_share_memory(array, value) or not value.size:
            np.copyto(array, value)
        blob.store(array)
        blob.expose()
        return array

    def fetch_blob(self, name: Any) -> Any:
        blob = self.find(name_of(name))
        if blob is not None and blob.exposed and is_tensor(blob.value):
            return snapshot.of_copy(blob.value)
        return super().fetch_blob(name)

    # Nets.

    @property
    def nets(self) -> Mapping[str, WorkspaceNet]:
        """The nets that `create_net` made: name -> net."""
        return MappingProxyType(self._nets)

    def create_net(self, net: Net | NetDef | bytes, overwrite: bool = False) -> WorkspaceNet:
        """Make a net ready to run again and again. Its outputs become blobs without a value.

        Args:
            net: A net, its message, or the message's bytes.
            overwrite: Replace one of the same name.

        Raises:
            TypeError: It is no net.
            WorkspaceError: There is a net of that name, or the bytes are no message.
            BlobNotFoundError: A blob that the net reads is not there.
            UnknownOperatorError, OperatorSignatureError: An operator that makes no sense.
        """
        message = self._parsed(net, NetDef) if isinstance(net, bytes) else as_message(net)
        if not isinstance(message, NetDef):
            raise TypeError(f"create_net takes a Net, a NetDef or its bytes, not {net!r}")
        if message.name in self._nets and not overwrite:
            raise errors.WorkspaceError(
                f"this workspace has a net {message.name!r}: create_net(net, overwrite=True) "
                f"replaces it"
            )
        compiled = lower(net, isolated=False) if isinstance(net, Net) else lower_net(message)
        for blob in compiled.merged.reads:
            if not self.has_blob(blob):
                error = self.not_found(blob)
                error.message += f" Net {message.name!r} reads it."
                raise error
        for operator in message.op:
            for blob in operator.output:
                self.create_blob(blob)
        made = self._nets[message.name] = WorkspaceNet(self, compiled)
        return made

    def delete_net(self, name: str) -> None:
        """Forget a net.

        Raises:
            WorkspaceError: There is none of that name.
        """
        self.net(name)
        del self._nets[name]

    def net(self, name: str) -> WorkspaceNet:
        """The net of that name.

        Raises:
            WorkspaceError: There is none.
        """
        if name not in self._nets:
            raise errors.WorkspaceError(
                f"this workspace has no net {name!r}: create_net makes one."
                f"{errors.did_you_mean(name, self._nets)}"
            )
        return self._nets[name]

    # Running.

    @staticmethod
    def _parsed(data: bytes, kind: type[Any]) -> Any:
        try:
            return kind.FromString(data)
        except (ValueError, IndexError) as error:
            raise errors.WorkspaceError(
                f"these {len(data)} bytes are no {kind.__name__}: {error}"
            ) from error

    def run(self, obj: Any) -> None:
        """Run a net, a step, a plan or an operator, once, here.

        Args:
            obj: A `Net`, `ExecutionStep` or `Plan`; a `NetDef`, `PlanDef` or `OperatorDef`; or a
                Task, a TaskGroup, or what `Session.compile` returned.

        Raises:
            ValueError: It is something else.
            OperatorError, BlobNotFoundError: See `Session.run`.
        """
        self._run_compiled(self.compiled(obj))

    def compiled(self, obj: Any) -> CompiledRunnable:
        """What `run` runs.

        Raises:
            ValueError: It is nothing that could be run.
        """
        if isinstance(obj, CompiledRunnable):
            return obj
        if isinstance(obj, RUNNABLES) and not (isinstance(obj, Plan) and not obj.Steps()):
            return lower(obj, isolated=False)
        message = as_message(obj)
        if isinstance(message, OperatorDef):
            message = NetDef(name=message.name or message.type, op=[message])
        if isinstance(message, NetDef):
            return lower_net(message)
        if isinstance(message, PlanDef):
            return lower_plan(message)
        raise ValueError(
            f"a workspace runs nets, steps, plans and operators, or messages of them, not {obj!r} "
            f"of type {type(obj).__name__}"
        )

    def _run_compiled(self, compiled: CompiledRunnable) -> None:
        # A session of its own: a plan that runs in the background keeps nobody waiting.
        LocalSession(self).run(compiled)

    def run_net(self, net: bytes) -> None:
        """Run a net given as the bytes of its message, once. Caffe2: C.Workspace._run_net."""
        self.run(self._parsed(net, NetDef))

    def run_plan(self, plan: bytes) -> None:
        """Run a plan given as the bytes of its message. Caffe2: C.Workspace._run_plan."""
        self.run(self._parsed(plan, PlanDef))

    def run_operator(self, operator: bytes) -> None:
        """Run an operator given as bytes, once. Caffe2: C.Workspace._run_operator."""
        self.run(self._parsed(operator, OperatorDef))


class _Scope(runtime.Scope, Workspace):
    """A scope in which nets can be run, too."""

    def child(self, exported: frozenset[str] = frozenset()) -> Workspace:
        workspace = Workspace(self)
        workspace.exported = exported
        return workspace
