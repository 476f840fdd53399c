"""`caffe2.python.net_printer`: what is built, as text, and whether its blobs are defined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from procession.caffe2.python import core
from procession.caffe2.python.checkpoint import Job
from procession.errors import GraphError
from procession.graph.net import Net
from procession.graph.proto import Argument, NetDef, OperatorDef
from procession.graph.step import ExecutionStep, Plan
from procession.graph.task import Task, TaskGroup, WorkspaceType

__all__ = ["Analyzer", "Printer", "Text", "analyze", "debug_net", "to_string"]

_LONGEST = 64


def _unsupported(what: str, obj: Any) -> TypeError:
    return TypeError(f"{what} takes a net, a step, a task, a group of tasks or a Job, not {obj!r}")


class Analyzer:
    """Walks through what runs, and keeps account of which blobs there are, per node."""

    IGNORED = ("distributed_ctx_init",)
    """How the names of blobs begin that need not be defined."""

    def __init__(self) -> None:
        self._nodes: dict[str, Counter[str]] = {}
        self._blobs: Counter[str] = Counter()
        self._private: set[ExecutionStep] = set()
        """Those of tasks whose blobs are seen by nobody else."""

    @contextmanager
    def _among(self, blobs: Counter[str]) -> Iterator[None]:
        around, self._blobs = self._blobs, blobs
        try:
            yield
        finally:
            self._blobs = around

    def need_blob(self, blob: str) -> None:
        """Refuse a blob that nothing has defined."""
        if blob not in self._blobs and not blob.startswith(self.IGNORED):
            raise GraphError(f"Blob undefined: {blob}")

    def define_blob(self, blob: str) -> None:
        """Note that a blob is there from here on."""
        self._blobs[blob] += 1

    def __call__(self, obj: Any) -> None:
        """Walk through something.

        Raises:
            GraphError: A blob is not defined, or by several steps that run at once.
        """
        if obj is None:
            return
        if isinstance(obj, OperatorDef):
            for blob in obj.input:
                self.need_blob(blob)
            for blob in obj.output:
                self.define_blob(blob)
        elif isinstance(obj, (Net, NetDef)):
            for operator in obj.op if isinstance(obj, NetDef) else obj.operators:
                self(operator)
        elif isinstance(obj, ExecutionStep):
            self._step(obj)
        elif isinstance(obj, Plan):
            for step in obj.Steps():
                self(step)
        elif isinstance(obj, Task):
            private = obj.workspace_type() != WorkspaceType.GLOBAL
            with self._among(Counter(self._blobs) if private else self._blobs):
                self(obj.get_step())
        elif isinstance(obj, TaskGroup):
            if obj.workspace_type() != WorkspaceType.GLOBAL:
                self._private.update(task.get_step() for task in obj.tasks())
            for task in obj.tasks_by_node().tasks():
                with self._among(self._nodes.setdefault(str(task.node), Counter())):
                    self(task)
        elif isinstance(obj, Job):
            self(obj.init_group)
            self(obj.epoch_group)
        else:
            raise _unsupported("analyze", obj)

    def _step(self, step: ExecutionStep) -> None:
        alone = step.create_workspace or step in self._private
        with self._among(Counter(self._blobs) if alone else self._blobs):
            if step.report is not None:
                with self._among(Counter(self._blobs)):
                    self(step.report[0])
            made: set[str] = set()
            for part in step.body:
                inside = Counter(self._blobs) if step.concurrent else self._blobs
                with self._among(inside):
                    self(part)
                    if step.should_stop is not None:
                        self.need_blob(str(step.should_stop))
                if step.concurrent:
                    new = set(inside) - set(self._blobs)
                    if made & new:
                        raise GraphError(
                            "Blobs that several steps write at once: "
                            f"{', '.join(sorted(made & new))}"
                        )
                    made |= new
        for blob in made:
            self.define_blob(blob)


def analyze(obj: Any) -> None:
    """Check that blobs are defined before they are read, and by one of several concurrent steps.

    Args:
        obj: A net, a step, a task, a group of tasks or a `Job`.

    Raises:
        GraphError: They are not.
    """
    Analyzer()(obj)


class Text:
    """Lines of text, which can be indented under a heading."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._indent = 0

    def add(self, text: str) -> None:
        """Add a line."""
        self.lines.append(" " * self._indent + text)

    @contextmanager
    def context(self, text: str | None) -> Iterator[None]:
        """Indent what is added inside under `with text:`; None: do not."""
        if text is None:
            yield
            return
        self.add(f"with {text}:")
        count = len(self.lines)
        self._indent += 4
        yield
        if len(self.lines) == count:
            self.add("pass")
        self._indent -= 4

    def __str__(self) -> str:
        return "\n".join(self.lines)


def call(called: str, /, *arguments: Any, **named: Any) -> str:
    """`called(arguments, named=...)`."""
    listed = [str(each) for each in arguments] + [f"{key}={each}" for key, each in named.items()]
    return f"{called}({', '.join(listed)})"


def _value(argument: Argument) -> str:
    value = argument.value
    if isinstance(value, NetDef):
        return f"<net {value.name}>"
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    known = value is None or isinstance(value, (str, int, float)) or callable(value)
    shown = repr(value if known else list(value))
    if len(shown) <= _LONGEST:
        return shown
    return f"{shown[:_LONGEST]}...<{len(shown) - _LONGEST} more>"


def _common(names: list[str]) -> str:
    """What all names begin with."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]


class Printer(Text):
    """Writes down what runs.

    Args:
        factor_prefixes: Write `prefix[a, b]` for names that begin alike.
        c2_syntax: Write operators as calls of the net's methods.
    """

    def __init__(self, factor_prefixes: bool = False, c2_syntax: bool = True) -> None:
        super().__init__()
        self.factor_prefixes = factor_prefixes
        self.c2_syntax = c2_syntax
        self._net: str | None = None

    def _listed(self, names: list[str]) -> str:
        prefix = _common(names) if self.factor_prefixes else ""
        joined = ", ".join(name[len(prefix) :] for name in names)
        return f"{prefix}[{joined}]" if prefix else joined

    def __call__(self, obj: Any) -> None:
        """Write something down.

        Raises:
            TypeError: It is nothing that runs.
        """
        if obj is None:
            return
        if isinstance(obj, OperatorDef):
            self._operator(obj)
        elif isinstance(obj, (Net, NetDef)):
            self._net_def(obj if isinstance(obj, NetDef) else obj.message)
        elif isinstance(obj, ExecutionStep):
            self._step(obj)
        elif isinstance(obj, Plan):
            for step in obj.Steps():
                self(step)
        elif isinstance(obj, Task):
            outputs = [f"Output[{', '.join(map(str, each.names))}]" for each in obj.outputs()]
            with self.context(
                call("Task", node=obj.node, name=obj.name, outputs=", ".join(outputs))
            ):
                self(obj.get_step())
        elif isinstance(obj, TaskGroup):
            self._group(obj, call("TaskGroup"))
        elif isinstance(obj, Job):
            self._job(obj)
        else:
            raise _unsupported("to_string", obj)

    def _operator(self, operator: OperatorDef) -> None:
        named = {each.name: _value(each) for each in operator.arg}
        option = operator.device_option
        if option.device_type or option.device_id or option.node_name:
            named["device_option"] = call(
                "DeviceOption", option.device_type, option.device_id, repr(option.node_name)
            )
        inputs, outputs = list(operator.input), list(operator.output)
        if self._net is not None:
            self.add(call(f"{self._net}.{operator.type}", inputs, outputs, **named))
        else:
            text = call(operator.type, *filter(None, [self._listed(inputs)]), **named)
            self.add(f"{self._listed(outputs)} = {text}" if outputs else text)
        for each in operator.arg:
            if isinstance(each.value, NetDef):
                with self.context(f"arg: {each.name}"):
                    self(each.value)

    def _net_def(self, net: NetDef) -> None:
        around = self._net
        if self.c2_syntax:
            self.add(f"{net.name} = {call('core.Net', repr(net.name))}")
            self._net = net.name
        else:
            self.add(f"# net: {net.name}")
        for operator in net.op:
            self(operator)
        self._net = around

    def _step(self, step: ExecutionStep) -> None:
        heading, titled = None, False
        if step.should_stop is not None:
            heading = call("loop")
        elif step.iterations not in (None, 0, 1):
            heading = call("loop", step.iterations)
        elif step.concurrent_instances > 1:
            heading = call("parallel", num_instances=step.concurrent_instances)
            titled = len(step.Substeps()) > 1
        elif step.concurrent and len(step.Substeps()) > 1:
            heading, titled = call("parallel"), True
        elif step.report is not None:
            heading = call("run_once")
        with self.context(heading):
            if step.report is not None:
                with self.context(call("report_net", step.report[1])):
                    self(step.report[0])
            for part in step.body:
                title = None
                if isinstance(part, ExecutionStep) and part.every_millis:
                    title = call("reporter", part, interval_ms=part.every_millis)
                elif isinstance(part, ExecutionStep) and titled:
                    title = call("workspace" if part.create_workspace else "step", part)
                with self.context(title):
                    self(part)
                    if step.should_stop is not None:
                        self.add(call("yield stop_if", step.should_stop))

    def _group(self, group: TaskGroup, heading: str) -> None:
        with self.context(heading):
            for task in group.tasks_by_node().tasks():
                self(task)

    def _job(self, job: Job) -> None:
        self._group(job.init_group, "Job.current().init_group")
        self._group(job.epoch_group, "Job.current().epoch_group")
        with self.context("Job.current().stop_conditions"):
            for output in job.stop_conditions:
                self.add(str(output))
        self._group(job.download_group, "Job.current().download_group")
        self._group(job.exit_group, "Job.current().exit_group")


def to_string(obj: Any, **kwargs: Any) -> str:
    """What runs, as text.

    Args:
        obj: A net, a step, a plan, a task, a group of tasks or a `Job`.
        kwargs: See `Printer`.
    """
    printer = Printer(**kwargs)
    printer(obj)
    return str(printer)


def debug_net(net: Net) -> Net:
    """A net that logs each operator of another before it runs it."""
    made = core.Net(str(net))
    for operator in net.operators:
        made.LogInfo(to_string(operator))
        made.extend_ops([operator])
    return made
