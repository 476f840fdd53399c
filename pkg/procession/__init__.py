"""Procession: declare work as nets of operators, run it in worker processes.

General layout, in the order in which data passes through:

    graph/      what you declare: Net, ExecutionStep, Plan, Node, Task, TaskGroup
    compiler/   a runnable becomes one checked program per node
    session/    LocalSession, ProcessSession: where programs run, and what comes back
    cluster/    worker processes: starting them, talking to them, seeing them die
    runtime/    a program against a workspace
    operators/  what each operator means: kernel, gradient, arguments, side by side
    blobs/      where the bytes live: heap or shared memory, and who still looks at them
    errors.py   every exception, as a tree
    data/       readers, queues, datasets, pipes: they stand on the names below; imported on demand
    train/      models, layers, optimizers, regularizers: they stand on the names below, too
    testing/    the gradient check, the session contract, the leak check: for us and for you
    core.py     Caffe2's `core`: the same names under one roof
    caffe2/     Caffe2's modules under Caffe2's names, for its scripts; imported on demand

Imports run downward only, errors excepted; docs/architecture.md follows one net all the way.
"""

from procession import core
from procession.compiler.compiled import CompiledRunnable
from procession.errors import (
    BlobIsolationError,
    BlobNotFoundError,
    BrokenPoolError,
    CollectiveError,
    CollectiveTimeoutError,
    ContextError,
    DataTypeError,
    DeviceError,
    DuplicateFieldError,
    FieldNotFoundError,
    GradientError,
    GraphError,
    NestedSessionError,
    NoBuilderError,
    NodeDiedError,
    NodePropertyError,
    OperatorError,
    OperatorExistsError,
    OperatorSignatureError,
    OutOfFilesError,
    OutOfSharedMemoryError,
    OutputNotReadyError,
    ProcessionError,
    RunCancelledError,
    RunnableTypeError,
    RunTimeoutError,
    SchemaError,
    SchemaTypeError,
    SerializationError,
    SessionBusyError,
    SessionClosedError,
    TornBlobError,
    UnknownArgumentError,
    UnknownOperatorError,
    WorkspaceError,
)
from procession.graph import control, printing, schema
from procession.graph.blob import BlobReference
from procession.graph.builder import NetBuilder
from procession.graph.iteration import count_runs
from procession.graph.job import Job
from procession.graph.net import Net
from procession.graph.ops import ops
from procession.graph.scope import NameScope
from procession.graph.step import ExecutionStep, Plan, execution_step
from procession.graph.task import (
    Cluster,
    Node,
    SetupNets,
    Task,
    TaskGroup,
    TaskOutput,
    WorkspaceType,
    final_output,
)
from procession.operators import operator
from procession.session.base import Session
from procession.session.executor import ProcessExecutor
from procession.session.inference import infer_shapes_and_types
from procession.session.local import LocalSession
from procession.session.process import ProcessSession
from procession.session.stats import NodeStats
from procession.session.workspace import Workspace
from procession.version import __version__

__all__ = [
    "BlobIsolationError",
    "BlobNotFoundError",
    "BlobReference",
    "BrokenPoolError",
    "Cluster",
    "CollectiveError",
    "CollectiveTimeoutError",
    "CompiledRunnable",
    "ContextError",
    "DataTypeError",
    "DeviceError",
    "DuplicateFieldError",
    "ExecutionStep",
    "FieldNotFoundError",
    "GradientError",
    "GraphError",
    "Job",
    "LocalSession",
    "NameScope",
    "NestedSessionError",
    "Net",
    "NetBuilder",
    "NoBuilderError",
    "Node",
    "NodeDiedError",
    "NodePropertyError",
    "NodeStats",
    "OperatorError",
    "OperatorExistsError",
    "OperatorSignatureError",
    "OutOfFilesError",
    "OutOfSharedMemoryError",
    "OutputNotReadyError",
    "Plan",
    "ProcessExecutor",
    "ProcessSession",
    "ProcessionError",
    "RunCancelledError",
    "RunTimeoutError",
    "RunnableTypeError",
    "SchemaError",
    "SchemaTypeError",
    "SerializationError",
    "Session",
    "SessionBusyError",
    "SessionClosedError",
    "SetupNets",
    "Task",
    "TaskGroup",
    "TaskOutput",
    "TornBlobError",
    "UnknownArgumentError",
    "UnknownOperatorError",
    "Workspace",
    "WorkspaceError",
    "WorkspaceType",
    "__version__",
    "control",
    "core",
    "count_runs",
    "execution_step",
    "final_output",
    "infer_shapes_and_types",
    "operator",
    "ops",
    "printing",
    "schema",
]
