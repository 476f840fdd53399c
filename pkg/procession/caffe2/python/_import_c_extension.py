"""Caffe2's `C`: workspaces by name, one of them the current one.

Functions take what Caffe2's take, the bytes of messages, and the messages themselves as well.
"""

from __future__ import annotations

import threading
from abc import ABCMeta
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from procession.caffe2 import mode
from procession.caffe2.place import Blob, Net, Place, TensorCPU
from procession.caffe2.translate import caffe2_errors
from procession.errors import WorkspaceError, nearest
from procession.graph.proto import DeviceOption, NetDef, OperatorDef, PlanDef
from procession.operators import REGISTRY
from procession.session import benchmark, inference, serialize
from procession.session.background import BackgroundRun as BackgroundPlan
from procession.session.observers import NetObserver, make_observer

__all__ = ["BackgroundPlan", "Blob", "Net", "TensorCPU", "Workspace"]

has_cuda_support = False
has_hip_support = False
has_gpu_support = False
has_mkldnn = False
use_mkldnn = False
use_rocm = False
use_trt = False
is_asan = False
define_caffe2_no_operator_schema = False


class _HasCurrent(ABCMeta):
    @property
    def current(cls) -> Workspace:
        """The current workspace."""
        return _current()


class Workspace(Place, metaclass=_HasCurrent):
    """Blobs by name. `Workspace.current` is the one that the functions of `workspace` use."""


class _Named(Workspace):
    """A workspace with a name; with `--processes` it lives in a worker once it runs something."""

    def __init__(self, name: str, root_folder: str = ".") -> None:
        super().__init__()
        self.place = f"workspace {name!r}"
        self.root_folder = root_folder

    def child(self, exported: frozenset[str] = frozenset()) -> Workspace:
        # A child has no name.
        made = Workspace(self)
        made.exported = exported
        return made

    def session(self) -> Any:
        return self.move() if mode.processes else super().session()


_lock = threading.RLock()
_named: dict[str, _Named] = {}
_name = "default"
_chosen: Workspace | None = None
"""A workspace without a name that was switched to."""


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _current() -> Workspace:
    with _lock:
        if _chosen is not None:
            return _chosen
        if _name not in _named:
            _named[_name] = _Named(_name)
        return _named[_name]


def switch_workspace(name: Any, create_if_missing: bool | None = None) -> None:
    """Make the workspace of that name, or that very workspace, the current one."""
    global _name, _chosen
    with _lock:
        if isinstance(name, Workspace):
            _chosen = name
            return
        name = _text(name)
        _current()
        if name not in _named:
            if not create_if_missing:
                with caffe2_errors():
                    raise WorkspaceError(
                        f"there is no workspace {name!r}: SwitchWorkspace(name, True) makes one. "
                        f"There are: {', '.join(sorted(_named))}."
                    )
            _named[name] = _Named(name)
        _name, _chosen = name, None


@contextmanager
def switched(name: Any) -> Iterator[None]:
    """Have that workspace, made if need be, be the current one inside."""
    global _name, _chosen
    before = _name, _chosen
    switch_workspace(name, True)
    try:
        yield
    finally:
        _name, _chosen = before


def current_workspace() -> str:
    """The name of the current workspace, or of the last that had one."""
    return _name


def workspaces() -> list[str]:
    """The names of all workspaces."""
    _current()
    return sorted(_named)


def reset_workspace(root_folder: Any = None) -> bool:
    """Give the current workspace up for a new one; returns True."""
    global _chosen
    with _lock:
        if _chosen is not None:
            _chosen = Workspace()
        else:
            kept = getattr(_current(), "root_folder", ".")
            _named[_name] = _Named(_name, kept if root_folder is None else _text(root_folder))
    return True


def root_folder() -> str:
    """The folder that was given to the last reset."""
    return getattr(_current(), "root_folder", ".")


def nets() -> list[str]:
    """The names of the current workspace's nets."""
    return list(_current().nets)


def blobs() -> list[str]:
    """The names of the current workspace's blobs, sorted."""
    return _current().names()


local_blobs = blobs


def has_blob(name: Any) -> bool:
    """Whether the current workspace has that blob."""
    return _current().has_blob(_text(name))


def create_blob(name: Any) -> bool:
    """Make a blob without a value; returns True."""
    _current().create_blob(_text(name))
    return True


def reset_blob(name: Any) -> None:
    """Take its value from a blob."""
    _current().reset_blob(_text(name))


def fetch_blob(name: Any) -> Any:
    """A blob's value, as the script's own."""
    return _current().fetch_blob(_text(name))


def feed_blob(name: Any, arr: Any, device_option: DeviceOption | bytes | None = None) -> bool:
    """Give a blob a value; returns True."""
    return _current().feed_blob(_text(name), arr, device_option)


def serialize_blob(name: Any) -> bytes:
    """A blob as the bytes of a `BlobProto`."""
    with caffe2_errors():
        return serialize.dump(_text(name), _current().peek(_text(name)))


def deserialize_blob(name: Any, content: bytes) -> None:
    """Give a blob the value in the bytes of a `BlobProto`."""
    with caffe2_errors():
        _current().feed_blob(_text(name), serialize.load(content))


@caffe2_errors()
def get_blob_size_bytes(name: Any) -> int:
    """How many bytes a blob has: those of an array, or a string's."""
    return serialize.size_bytes(_current().peek(_text(name)))


def get_blob_numa_node(name: Any) -> int:
    """-1: memory is not placed by NUMA node."""
    return -1


def is_numa_enabled() -> bool:
    """False: memory is not placed by NUMA node."""
    return False


def get_num_numa_nodes() -> int:
    """-1: memory is not placed by NUMA node."""
    return -1


def get_stats() -> dict[str, int]:
    """Counters of operators: there are none."""
    return {}


# Nets.


def _message(message: Any, kind: type[Any]) -> Any:
    if isinstance(message, bytes):
        with caffe2_errors():
            return Workspace._parsed(message, kind)
    if not isinstance(message, kind):
        raise TypeError(f"a {kind.__name__} or its bytes are wanted, not {message!r}")
    return message


def create_net(net: Any, overwrite: bool = False) -> bool:
    """Make a net ready in the current workspace; returns True."""
    _current().create_net(_message(net, NetDef), overwrite)
    return True


def delete_net(name: Any) -> bool:
    """Forget a net; returns whether there was one."""
    known = _text(name) in nets()
    if known:
        _current().delete_net(_text(name))
    return known


def run_net(name: Any, num_iter: int = 1, allow_fail: bool = False) -> bool:
    """Run a net of the current workspace so many times.

    Args:
        name: The net's.
        num_iter: How often.
        allow_fail: Return False for an error of an operator.
    """
    workspace = _current()
    with caffe2_errors():
        workspace.net(_text(name))
    net = workspace.nets[_text(name)]
    try:
        for _ in range(num_iter):
            net.run()
    except Exception:
        if not allow_fail:
            raise
        return False
    return True


@caffe2_errors()
def add_observer_to_net(net_name: Any, observer_type: str) -> NetObserver:
    """Have a net of the current workspace observed by a TimeObserver or a RunCountObserver.

    Raises:
        WorkspaceError: There is no such net or observer.
    """
    net = _current().net(_text(net_name))
    made = make_observer(observer_type)
    net.add_observer(made)
    return made


@caffe2_errors()
def remove_observer_from_net(net_name: Any, observer: NetObserver) -> None:
    """Have a net observed by that observer no more."""
    _current().net(_text(net_name)).remove_observer(observer)


@caffe2_errors()
def num_observers_on_net(net_name: Any) -> int:
    """How many observers a net of the current workspace has."""
    return len(_current().net(_text(net_name)).observers)


def clear_global_net_observer() -> None:
    """Nothing to do: only nets have observers, each its own."""


def run_net_once(net: Any) -> bool:
    """Run a net in the current workspace; returns True."""
    _current().run(_message(net, NetDef))
    return True


def run_operator_once(operator: Any) -> bool:
    """Run an operator in the current workspace; returns True."""
    _current().run(_message(operator, OperatorDef))
    return True


def run_operator_multiple(operator: Any, num_runs: int) -> bool:
    """Run an operator in the current workspace so many times; returns True."""
    compiled = _current().compiled(_message(operator, OperatorDef))
    for _ in range(num_runs):
        _current().run(compiled)
    return True


def run_plan(plan: Any) -> bool:
    """Run a plan in the current workspace; returns True."""
    _current().run(_message(plan, PlanDef))
    return True


def run_plan_in_background(plan: Any) -> BackgroundPlan:
    """Begin to run a plan in the current workspace."""
    return BackgroundPlan(_current(), _message(plan, PlanDef))


@caffe2_errors()
def benchmark_net(
    name: Any, warmup_runs: int, main_runs: int, run_individual: bool = False
) -> list[float]:
    """Milliseconds for a run of a net of the current workspace, and for each operator.

    Args:
        name: The net's.
        warmup_runs: How often to run it before.
        main_runs: How often to run it.
        run_individual: Time each operator by itself, too; otherwise these times are 0.
    """
    return benchmark.benchmark_net(_current(), _text(name), warmup_runs, main_runs, run_individual)


def benchmark_net_once(name: Any) -> float:
    """Milliseconds for one run of a net of the current workspace."""
    return benchmark_net(name, 0, 1)[0]


# What is known of operators.


def registered_operators() -> list[str]:
    """The names of all operators."""
    return sorted(REGISTRY)


def op_registry_key(op_type: str, engine: str) -> str:
    """The name under which Caffe2 keeps an engine's implementation of an operator."""
    return op_type if engine in ("", "DEFAULT") else f"{op_type}_ENGINE_{engine}"


def nearby_opnames(op_type: str) -> list[str]:
    """The operators whose names are most like that."""
    return list(nearest(op_type, REGISTRY))


def _names(message: bytes | OperatorDef) -> OperatorDef:
    made: OperatorDef = _message(message, OperatorDef)
    return made


def infer_op_input_output_device(operator: bytes) -> tuple[list[bytes], list[bytes]]:
    """Where an operator's inputs and outputs are: where the operator is."""
    op = _names(operator)
    option = op.device_option.SerializeToString()
    return [option] * len(op.input), [option] * len(op.output)


def infer_shapes_and_types_from_workspace(nets: Iterable[Any]) -> bytes:
    """Shapes and types of what nets make of the current workspace's tensors."""
    known = inference.of_workspace(_current())
    return inference.infer([_message(net, NetDef) for net in nets], known).SerializeToString()


def infer_shapes_and_types_from_map(
    nets: Iterable[Any],
    blob_dimensions: Mapping[Any, Any],
    blob_types: Mapping[Any, int] | None = None,
) -> bytes:
    """Shapes and types of what nets make of tensors of these shapes."""
    known = inference.of_shapes(blob_dimensions, blob_types or {})
    return inference.infer([_message(net, NetDef) for net in nets], known).SerializeToString()


def global_init(args: Any) -> None:
    """Take note of nothing: there is nothing to set up."""


def set_engine_pref(*args: Any) -> None:
    """Take note of nothing: each operator has one implementation."""


set_global_engine_pref = set_op_engine_pref = set_per_op_engine_pref = set_engine_pref
