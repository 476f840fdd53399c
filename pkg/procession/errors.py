"""Every exception that Procession raises on purpose.

    ProcessionError
     |-- GraphError                also ValueError      a graph that makes no sense
     |    |-- GradientError        also RuntimeError    no gradient, or one that would be wrong
     |    |-- ContextError         also AssertionError  outside the `with` block that it belongs in
     |    |    |-- NoBuilderError        also AttributeError  ops.Relu(x) outside any builder
     |    |-- SchemaError          also AssertionError  fields or records that do not fit
     |    |    |-- DuplicateFieldError   also TypeError  two fields of one name
     |    |-- DeviceError                               a device that is no CPU
     |-- SchemaTypeError           also TypeError       an int32 where a record wants a string
     |-- FieldNotFoundError        also KeyError        record["lenghts"]
     |-- UnknownOperatorError      also AttributeError  net.Rleu(...)
     |-- OperatorExistsError       also ValueError       @operator("Relu")
     |-- UnknownArgumentError      also TypeError       net.Relu(x, slope=1)
     |-- OperatorSignatureError    also TypeError       too few inputs, or something that is no blob
     |-- RunnableTypeError         also TypeError       session.run(42)
     |-- WorkspaceError           also RuntimeError    that net is there already, no tensor here
     |-- BlobNotFoundError         also KeyError        nobody wrote that blob
     |-- TornBlobError             also RuntimeError    it was being written when its node died
     |-- BlobIsolationError        also RuntimeError    another node has it, this one may not see it
     |-- OutputNotReadyError       also RuntimeError    fetch before run
     |-- OperatorError             also RuntimeError    a kernel raised
     |-- CollectiveError           also RuntimeError    members of a common world that do not agree
     |    |-- CollectiveTimeoutError  also TimeoutError   one of them did not come in time
     |-- SerializationError        also TypeError       something that cannot travel to a worker
     |-- DataTypeError             also TypeError       an array of a type that is not NumPy's own
     |-- NodePropertyError         also ValueError      Node("n1", cpus=[64]) on a machine of two
     |-- OutOfSharedMemoryError    also MemoryError     /dev/shm or a memory_limit is full
     |-- OutOfFilesError           also OSError         too many nodes for `ulimit -n`
     |-- NestedSessionError        also RuntimeError    ProcessSession() inside a worker of another
     |-- NodeDiedError             also RuntimeError    a worker process ended unasked
     |    |-- BrokenPoolError      also BrokenProcessPool  that, to a ProcessExecutor
     |-- RunTimeoutError           also TimeoutError    a run took longer than it was given
     |-- RunCancelledError         also RuntimeError    `Session.cancel` called the run off
     |-- SessionClosedError        also RuntimeError    run after close
     |-- SessionBusyError          also RuntimeError    asked while the same thread waits in it

Catch `ProcessionError` for all of them, or the builtin that you would have caught
anyway. What an error knows beyond its message stands in its attributes, which are
`None` where they do not apply. All of them can be pickled: they cross from a worker
to the coordinator as they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError


class ProcessionError(Exception):
    """The root of the tree above; `str(error)` is always the whole message."""

    message: str

    def __init__(self, message: str = "", **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.__dict__.update(details)

    def __str__(self) -> str:
        # KeyError would show the repr of the message, OSError its errno.
        return self.message


class GraphError(ProcessionError, ValueError, AssertionError):
    """A net, step, plan or task that was put together in a way that has no meaning.

    Also an AssertionError, which is what scripts for Caffe2 catch.
    """


class GradientError(GraphError, RuntimeError):
    """An operator on the way back has no gradient, or a blob it needs was overwritten."""


class ContextError(GraphError):
    """What belongs in a `with` block is outside it, or the block was left out of order.

    It is an AssertionError as well, which is what Caffe2's scripts catch there.
    """


class NoBuilderError(ContextError, AttributeError):
    """`ops` is used outside any builder.

    It is an AttributeError as well, so that `hasattr(ops, name)` has an answer.
    """


class SchemaError(GraphError, AssertionError):
    """Fields that make no record, or a record that does not fit what it is used for.

    It is an AssertionError as well, which is what Caffe2's scripts catch there.
    """


class DuplicateFieldError(SchemaError, TypeError):
    """Two fields have one name, and are not structs, which could be merged. `field`.

    Caffe2 has ValueError when a Struct is made, and TypeError when two are added.
    """

    field: str | None = None


class DeviceError(GraphError):
    """Something was placed on a device that is not there: all there is are CPUs. `device_type`."""

    device_type: int | None = None


class SchemaTypeError(ProcessionError, TypeError, AssertionError):
    """A field, a record or a value is of another type than it has to be.

    It is an AssertionError as well, which is what Caffe2's scripts catch there.
    """


class FieldNotFoundError(ProcessionError, KeyError, IndexError, AttributeError):
    """A record has no such field, be it asked for by name, by number or as attribute. `field`."""

    field: str | int | None = None


class UnknownOperatorError(ProcessionError, AttributeError):
    """No operator of that name is registered. `operator`, `suggestions`."""

    operator: str | None = None
    suggestions: tuple[str, ...] = ()


class OperatorExistsError(ProcessionError, ValueError):
    """Another function is registered as an operator of that name. `operator`."""

    operator: str | None = None


class UnknownArgumentError(ProcessionError, TypeError):
    """The operator has no such argument. `operator`, `argument`."""

    operator: str | None = None
    argument: str | None = None


class OperatorSignatureError(ProcessionError, TypeError):
    """Inputs, outputs or arguments that the operator cannot be called with. `operator`."""

    operator: str | None = None


class RunnableTypeError(ProcessionError, TypeError):
    """A session was given something that it cannot run."""


class WorkspaceError(ProcessionError, RuntimeError):
    """A workspace cannot do what it is asked: a net is there already, a blob holds no tensor."""


class BlobNotFoundError(ProcessionError, KeyError):
    """No such blob in the workspace. `blob`, `node`, `task`, `elsewhere` (nodes that have one)."""

    blob: str | None = None
    node: str | None = None
    task: str | None = None
    elsewhere: tuple[str, ...] = ()


class TornBlobError(ProcessionError, RuntimeError):
    """The value of a blob is lost, and it has had no new one since.

    Its node died while an operator was writing it, or what it held died with the process, or the
    feeding of it was interrupted. `blob`, `node`, `operator` (the type of the one that was writing
    it), `task` (the one that wants it).
    """

    blob: str | None = None
    node: str | None = None
    operator: str | None = None
    task: str | None = None


class BlobIsolationError(ProcessionError, RuntimeError):
    """A task reads a blob of another node. `blob`, `task`, `reader`, `owner` (node names)."""

    blob: str | None = None
    task: str | None = None
    reader: str | None = None
    owner: str | None = None


class OutputNotReadyError(ProcessionError, RuntimeError):
    """A task output was asked for its value before any run gave it one."""


class OperatorError(ProcessionError, RuntimeError):
    """A kernel raised; the original exception is the `__cause__`.

    `net`, `operator` (its type), `node`, `task`, `source` (the line of the user's script
    that added it), `remote_traceback` (the traceback as text, from the process where
    it happened).
    """

    net: str | None = None
    operator: str | None = None
    node: str | None = None
    task: str | None = None
    source: str | None = None
    remote_traceback: str | None = None


class CollectiveError(ProcessionError, RuntimeError):
    """A call of all members of a common world came to nothing.

    A member makes another call, or fewer of them; it has left, died, or given up before. `world`
    (its name), `rank` and `node` (of the member that raises this), `others` (nodes of the members
    that are to blame, as far as that can be told). An operator's error has it as `__cause__`.
    """

    world: str | None = None
    rank: int | None = None
    node: str | None = None
    others: tuple[str, ...] = ()


class CollectiveTimeoutError(CollectiveError, TimeoutError):
    """A member of a common world did not come within `timeout_sec`."""


class SerializationError(ProcessionError, TypeError, PicklingError):
    """Something could not be pickled here, or not be unpickled there. `what` names it.

    Those are the errors that `pickle` itself raises for most objects that it cannot take.
    """

    what: str | None = None


class DataTypeError(ProcessionError, TypeError):
    """A blob cannot hold arrays of that dtype. `dtype`, its name."""

    dtype: str | None = None


class NodePropertyError(ProcessionError, ValueError):
    """A node cannot have what it is to have here. `node`, `property`, `asked`, `possible`."""

    node: str | None = None
    property: str | None = None
    asked: object = None
    possible: object = None


class OutOfSharedMemoryError(ProcessionError, MemoryError):
    """Shared memory could not be had. `needed`, `available`, `limit` in bytes, `node`."""

    needed: int | None = None
    available: int | None = None
    limit: int | None = None
    node: str | None = None


class OutOfFilesError(ProcessionError, OSError):
    """Nodes need more open files than this process may have. `limit`, `node`, `errno`."""

    limit: int | None = None
    node: str | None = None


class NodeDiedError(ProcessionError, RuntimeError):
    """A worker process is gone, and with it the blobs of its node, unless it is restarted.

    `node`, `pid`, `exitcode` (as in `subprocess`: negative for a signal), `signal` (its
    name), `task` and `operator` (what it was doing, if it was doing anything), `printed` (the last
    lines that it wrote, if the session passes them on), `restarts` (whether the session brings
    the node back when it is used next), `torn` (then: its blobs that are lost half written).
    """

    node: str | None = None
    pid: int | None = None
    exitcode: int | None = None
    signal: str | None = None
    task: str | None = None
    operator: str | None = None
    printed: tuple[str, ...] = ()
    restarts: bool = False
    torn: tuple[str, ...] = ()


class BrokenPoolError(NodeDiedError, BrokenProcessPool):
    """A worker of a `ProcessExecutor` died, or could not be initialized; it can do nothing more.

    It is `concurrent.futures.process.BrokenProcessPool` as well, and so a `BrokenExecutor`.
    """


class RunTimeoutError(ProcessionError, TimeoutError):
    """The run did not end in time. `timeout` in seconds, `killed` (nodes lost by it)."""

    timeout: float | None = None
    killed: tuple[str, ...] = ()


class RunCancelledError(ProcessionError, RuntimeError):
    """The run was called off by `Session.cancel`. `killed` (nodes that would not stop)."""

    killed: tuple[str, ...] = ()


class SessionClosedError(ProcessionError, RuntimeError):
    """The session was closed before."""


class NestedSessionError(ProcessionError, RuntimeError):
    """A worker process, or what it runs, asked for worker processes of its own. `node`."""

    node: str | None = None


class SessionBusyError(ProcessionError, RuntimeError):
    """A signal handler, say, used a session in whose run its own thread was waiting."""


class RemoteError(Exception):
    """Stands in for an exception of a worker that could not be brought here as it was.

    Its text is the original's type and message.
    """


class RemoteTraceback(Exception):  # noqa: N818 - it carries one, it is none
    """Carries a worker's traceback, as text, into the chain that Python prints."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def nearest(name: str, candidates: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The candidates that `name` was most likely meant to be, best first."""
    by_fold: dict[str, str] = {}
    for candidate in candidates:
        by_fold.setdefault(candidate.casefold(), candidate)
    # Short names are like anything in parts of it.
    most_apart = max(1, len(name) // 3)
    like = [fold for fold in by_fold if abs(len(fold) - len(name)) <= most_apart]
    close = difflib.get_close_matches(name.casefold(), like, n=most, cutoff=0.6)
    return tuple(by_fold[fold] for fold in close)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """' Did you mean ...?' with the nearest names, or nothing when none is near."""
    close = nearest(name, candidates)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
