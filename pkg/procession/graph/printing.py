"""What is built, as text; and whether its blobs are defined before they are read.

    print(to_string(group))  # nets as calls, steps as `with` blocks, tasks with their outputs
    analyze(group)           # GraphError: Blob undefined: x (wanted by operator ... of net ...)

Both walk through nets, steps, plans, tasks, groups, jobs and the messages of nets and operators,
in the order in which they run. Nothing is run and nothing is changed, except that a task or a group
that is walked through is used from then on: it can no longer be added to. Further classes can be
taught to them with `register`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, ClassVar, TypeVar

import numpy as np

from procession.errors import GraphError
from procession.graph.job import Job
from procession.graph.net import Net
from procession.graph.operator import wanted_by
from procession.graph.output import TaskOutput
from procession.graph.proto import Argument, DeviceOption, NetDef, OperatorDef
from procession.graph.step import ExecutionStep, Plan
from procession.graph.task import Task, TaskGroup, WorkspaceType

_LONGEST = 64

_Method = TypeVar("_Method", bound=Callable[..., None])


class Visitor:
    """Calls, for what it is given, the function that is registered for its class, or a base."""

    visitors: ClassVar[dict[type, Callable[..., None]]] = {}
    """Class -> function of visitor and object."""

    def __init_subclass__(cls) -> None:
        cls.visitors = dict(cls.visitors)

    @classmethod
    def register(cls, Type: type) -> Callable[[_Method], _Method]:  # noqa: N803
        """Have a function of visitor and object, and further arguments, deal with a class."""

        def decorate(function: _Method) -> _Method:
            cls.visitors[Type] = function
            return function

        return decorate

    def __call__(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        """Deal with something; None is nothing.

        Raises:
            TypeError: No function is registered for it.
        """
        if obj is None:
            return
        for kind in type(obj).__mro__:
            if kind in self.visitors:
                self.visitors[kind](self, obj, *args, **kwargs)
                return
        raise TypeError(
            f"{type(self).__name__} takes nets, steps, plans, tasks, groups of tasks and jobs, "
            f"not {obj!r}"
        )


# Whether blobs are defined.


class Analyzer(Visitor):
    """Walks through what runs, and keeps account of which blobs there are, per node.

    A call raises a GraphError for a blob that is not defined when it is read, and for one that
    several steps define that run at once.
    """

    PREFIXES_TO_IGNORE: ClassVar[Iterable[str]] = ("distributed_ctx_init",)
    """How the names of blobs begin that need not be defined."""

    def __init__(self) -> None:
        self.workspaces: dict[str, Counter[str]] = {}
        """Node -> blob -> how many times it was defined."""
        self.workspace: Counter[str] = Counter()
        """The same of where one is."""
        self._private: set[ExecutionStep] = set()
        """Those of tasks whose blobs are seen by nobody else."""
        self._net: str | None = None
        """The net that one is in."""

    @contextmanager
    def set_workspace(
        self, node: Any = None, ws: Counter[str] | None = None, do_copy: bool = False
    ) -> Iterator[Counter[str]]:
        """Go on among other blobs inside: those of a node, or given ones.

        Args:
            node: The node.
            ws: The blobs; without either, those that there are.
            do_copy: What is defined inside is not seen outside.
        """
        around = self.workspace
        if ws is None:
            ws = around if node is None else self.workspaces.setdefault(str(node), Counter())
        self.workspace = Counter(ws) if do_copy else ws
        try:
            yield self.workspace
        finally:
            self.workspace = around

    def need_blob(self, blob: str, reader: OperatorDef | ExecutionStep | None = None) -> None:
        """Refuse a blob that nothing has defined.

        Args:
            blob: The blob.
            reader: What reads it, for the message.
        """
        if blob not in self.workspace and not blob.startswith(tuple(self.PREFIXES_TO_IGNORE)):
            raise GraphError(f"Blob undefined: {blob}{self.wanted_by(reader)}")

    def wanted_by(self, reader: OperatorDef | ExecutionStep | None) -> str:
        """Further lines of the message about a blob that is not defined."""
        if isinstance(reader, OperatorDef):
            return wanted_by(reader, self._net)
        return "" if reader is None else f"\n  step {str(reader)!r} stops by it"

    def define_blob(self, blob: str) -> None:
        """Note that a blob is there from here on."""
        self.workspace[blob] += 1

    def analyze_op(self, op: OperatorDef) -> None:
        """An operator: it needs its inputs and defines its outputs."""
        for blob in op.input:
            self.need_blob(blob, op)
        for blob in op.output:
            self.define_blob(blob)

    def analyze_net(self, net: Net | NetDef) -> None:
        """The operators of a net, in order."""
        message = net if isinstance(net, NetDef) else net.message
        around, self._net = self._net, message.name
        for operator in message.op:
            self(operator)
        self._net = around

    def analyze_step(self, step: ExecutionStep) -> None:
        """The parts of a step, each among the same blobs when they run at once."""
        alone = step.create_workspace or step in self._private
        made: set[str] = set()
        with self.set_workspace(do_copy=alone) as blobs:
            if step.report is not None:
                with self.set_workspace(do_copy=True):
                    self(step.report[0])
            for part in step.body:
                with self.set_workspace(do_copy=step.concurrent) as inside:
                    self(part)
                    if step.should_stop is not None:
                        self.need_blob(str(step.should_stop), step)
                if step.concurrent:
                    new = set(inside) - set(blobs)
                    if made & new:
                        both = ", ".join(sorted(made & new))
                        raise GraphError(f"Blobs that several steps write at once: {both}")
                    made |= new
        for blob in made:
            self.define_blob(blob)

    def analyze_plan(self, plan: Plan) -> None:
        """The steps of a plan, in order."""
        for step in plan.Steps():
            self(step)

    def analyze_task(self, task: Task) -> None:
        """The step of a task; what a private task defines is its own."""
        private = task.workspace_type() != WorkspaceType.GLOBAL
        with self.set_workspace(do_copy=private):
            self(task.get_step())

    def analyze_task_group(self, tg: TaskGroup) -> None:
        """The tasks of a group, each among the blobs of its node."""
        if tg.workspace_type() != WorkspaceType.GLOBAL:
            self._private.update(task.get_step() for task in tg.tasks())
        for task in tg.tasks_by_node().tasks():
            with self.set_workspace(node=task.node):
                self(task)

    def analyze_job(self, job: Job) -> None:
        """What a job runs first, and in an epoch."""
        self(job.init_group)
        self(job.epoch_group)


Analyzer.visitors.update(
    {
        OperatorDef: Analyzer.analyze_op,
        NetDef: Analyzer.analyze_net,
        Net: Analyzer.analyze_net,
        ExecutionStep: Analyzer.analyze_step,
        Plan: Analyzer.analyze_plan,
        Task: Analyzer.analyze_task,
        TaskGroup: Analyzer.analyze_task_group,
        Job: Analyzer.analyze_job,
    }
)


def analyze(obj: Any) -> None:
    """Check that blobs are defined before they are read, and by one of several concurrent steps.

    Args:
        obj: A net, a step, a plan, a task, a group of tasks, a job; or a message of a net or an
            operator.

    Raises:
        GraphError: They are not.
        TypeError: It is nothing that runs.

    Caffe2: net_printer.analyze.
    """
    Analyzer()(obj)


# As text.


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


def commonprefix(m: Sequence[str]) -> str:
    """What all texts begin with."""
    if not m:
        return ""
    first, last = min(m), max(m)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return first[: sum(1 for _ in same)]


def format_value(val: Any) -> str:
    """A value as an argument: the names in a list are quoted."""
    if isinstance(val, list):
        return f"[{', '.join(repr(str(each)) for each in val)}]"
    return str(val)


def factor_prefix(vals: Iterable[Any], do_it: bool) -> str:
    """Values, separated by commas; `prefix[a, b]` for several that begin alike, if wanted."""
    shown = [format_value(each) for each in vals]
    cut = len(commonprefix(shown)) if do_it and len(shown) > 1 else 0
    joined = ", ".join(text[cut:] for text in shown)
    return f"{shown[0][:cut]}[{joined}]" if cut else joined


def call(
    op: str,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    factor_prefixes: bool = False,
) -> str:
    """`outputs = op(inputs)`.

    Args:
        op: What is called.
        inputs: Values, and (name, value) for named ones.
        outputs: What is assigned to, if anything.
        factor_prefixes: See `factor_prefix`.
    """
    given = list(inputs or ())
    plain = factor_prefix([x for x in given if not isinstance(x, tuple)], factor_prefixes)
    named = [f"{x[0]}={x[1]}" for x in given if isinstance(x, tuple)]
    text = f"{op}({', '.join([plain, *named] if plain else named)})"
    return f"{factor_prefix(outputs, factor_prefixes)} = {text}" if outputs else text


def format_device_option(dev_opt: DeviceOption | None) -> str | None:
    """A device option as a call; None when it says nothing."""
    if dev_opt is None:
        return None
    parts = [dev_opt.device_type, dev_opt.device_id, dev_opt.node_name]
    return call("DeviceOption", [*parts[:2], repr(parts[2])]) if any(parts) else None


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


def _output(output: TaskOutput) -> str:
    return f"Output[{', '.join(map(str, output.names))}]"


class Printer(Visitor, Text):
    """Writes down what runs; `str` of it is the text.

    Args:
        factor_prefixes: Write `prefix[a, b]` for names that begin alike.
        c2_syntax: Write operators as calls of the net's methods.
        sources: Write behind each operator, as a comment, the line that added it, as far as it is
            known: `ops.If` and its like are loops in what is built.
    """

    def __init__(
        self, factor_prefixes: bool = False, c2_syntax: bool = True, *, sources: bool = False
    ) -> None:
        super().__init__()
        self.sources = sources
        self.factor_prefixes = factor_prefixes
        self.c2_syntax = c2_syntax
        self.c2_net_name: str | None = None
        """The net that operators are written as calls of."""

    def print_op(self, op: OperatorDef) -> None:
        """An operator: a line, and the nets among its arguments below."""
        named = [(each.name, _value(each)) for each in op.arg]
        option = format_device_option(op.device_option)
        if option is not None:
            named.append(("device_option", option))
        inputs, outputs = list(op.input), list(op.output)
        if self.c2_net_name is not None:
            text = call(f"{self.c2_net_name}.{op.type}", [inputs, outputs, *named])
        else:
            text = call(op.type, [*inputs, *named], outputs, self.factor_prefixes)
        if self.sources and op.source is not None:
            text += f"  # {op.source[0]}:{op.source[1]}"
        self.add(text)
        for each in op.arg:
            if isinstance(each.value, NetDef):
                with self.context(f"arg: {each.name}"):
                    self(each.value)

    def print_net_def(self, net_def: NetDef) -> None:
        """A net's message: its name, and its operators below."""
        around = self.c2_net_name
        if self.c2_syntax:
            self.add(call("core.Net", [repr(net_def.name)], [net_def.name]))
            self.c2_net_name = net_def.name
        else:
            self.add(f"# net: {net_def.name}")
        for operator in net_def.op:
            self(operator)
        self.c2_net_name = around

    def print_net(self, net: Net) -> None:
        """A net."""
        self(net.message)

    def print_step(self, step: ExecutionStep) -> None:
        """A step: its parts, indented if they run several times or at once."""
        heading, titled = _heading(step)
        with self.context(heading):
            if step.report is not None:
                with self.context(call("report_net", [f"{step.report[1]:g}"])):
                    self(step.report[0])
            for part in step.body:
                with self.context(_title(part, titled)):
                    self(part)
                    if step.should_stop is not None:
                        self.add(call("yield stop_if", [step.should_stop]))

    def print_plan(self, plan: Plan) -> None:
        """The steps of a plan, in order."""
        for step in plan.Steps():
            self(step)

    def print_task(self, task: Task) -> None:
        """A task: node, name and outputs, and its step below."""
        outputs = ", ".join(map(_output, task.outputs()))
        said = [("node", task.node), ("name", task.name), ("outputs", outputs)]
        with self.context(call("Task", said)):
            self(task.get_step())

    def print_task_group(self, tg: TaskGroup, header: str | None = None) -> None:
        """The tasks of a group, those of a node together."""
        with self.context(header or call("TaskGroup")):
            for task in tg.tasks_by_node().tasks():
                self(task)

    def print_job(self, job: Job) -> None:
        """The groups of a job, and what stops it."""
        self(job.init_group, "Job.current().init_group")
        self(job.epoch_group, "Job.current().epoch_group")
        with self.context("Job.current().stop_conditions"):
            for output in job.stop_conditions:
                self.add(_output(output))
        self(job.download_group, "Job.current().download_group")
        self(job.exit_group, "Job.current().exit_group")


Printer.visitors.update(
    {
        OperatorDef: Printer.print_op,
        NetDef: Printer.print_net_def,
        Net: Printer.print_net,
        ExecutionStep: Printer.print_step,
        Plan: Printer.print_plan,
        Task: Printer.print_task,
        TaskGroup: Printer.print_task_group,
        Job: Printer.print_job,
    }
)


def _heading(step: ExecutionStep) -> tuple[str | None, bool]:
    """What a step's parts stand under, if anything; and whether each of them has a title."""
    several = len(step.Substeps()) > 1
    if step.should_stop is not None:
        return call("loop"), False
    if step.iterations not in (None, 0, 1):
        return call("loop", [step.iterations]), False
    if step.concurrent_instances > 1:
        return call("parallel", [("num_instances", step.concurrent_instances)]), several
    if step.concurrent and several:
        return call("parallel"), True
    return (None if step.report is None else call("run_once")), False


def _title(part: Any, titled: bool) -> str | None:
    if not isinstance(part, ExecutionStep):
        return None
    if part.every_millis:
        return call("reporter", [part, ("interval_ms", part.every_millis)])
    return call("workspace" if part.create_workspace else "step", [part]) if titled else None


def to_string(obj: Any, **kwargs: Any) -> str:
    """What runs, as text.

    Args:
        obj: A net, a step, a plan, a task, a group of tasks, a job; or a message of a net or an
            operator.
        kwargs: See `Printer`.

    Raises:
        TypeError: It is nothing that runs.

    Caffe2: net_printer.to_string.
    """
    printer = Printer(**kwargs)
    printer(obj)
    return str(printer)


def debug_net(net: Net) -> Net:
    """A net that logs each operator of another before it runs it.

    Caffe2: net_printer.debug_net.
    """
    made = type(net)(str(net))
    for operator in net.operators:
        made.LogInfo(to_string(operator))
        made.extend_ops([operator])
    return made
