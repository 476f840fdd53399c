"""`caffe2.python.net_printer`: what is built, as text, and whether its blobs are defined."""

from __future__ import annotations

from typing import Any

from procession.graph import printing
from procession.graph.job import Job
from procession.graph.net import Net
from procession.graph.printing import (
    Printer,
    Text,
    Visitor,
    call,
    commonprefix,
    debug_net,
    factor_prefix,
    format_device_option,
    format_value,
    to_string,
)
from procession.graph.proto import NetDef, OperatorDef
from procession.graph.step import ExecutionStep
from procession.graph.task import Task, TaskGroup

__all__ = [
    "Analyzer",
    "Printer",
    "Text",
    "Visitor",
    "analyze",
    "analyze_job",
    "analyze_net",
    "analyze_op",
    "analyze_step",
    "analyze_task",
    "analyze_task_group",
    "call",
    "commonprefix",
    "debug_net",
    "factor_prefix",
    "format_device_option",
    "format_value",
    "print_job",
    "print_net",
    "print_net_def",
    "print_op",
    "print_step",
    "print_task",
    "print_task_group",
    "to_string",
]


class Analyzer(printing.Analyzer):
    """Keeps account of which blobs there are; see `printing.Analyzer`."""

    def wanted_by(self, reader: Any) -> str:
        """Nothing: scripts compare the message."""
        return ""


def analyze(obj: Any) -> None:
    """Check that blobs are defined before they are read; see `printing.analyze`."""
    Analyzer()(obj)


def analyze_op(analyzer: Analyzer, op: OperatorDef) -> None:
    """An operator; see `Analyzer.analyze_op`."""
    analyzer.analyze_op(op)


def analyze_net(analyzer: Analyzer, net: Net | NetDef) -> None:
    """A net; see `Analyzer.analyze_net`."""
    analyzer.analyze_net(net)


def analyze_step(analyzer: Analyzer, step: ExecutionStep) -> None:
    """A step; see `Analyzer.analyze_step`."""
    analyzer.analyze_step(step)


def analyze_task(analyzer: Analyzer, task: Task) -> None:
    """A task; see `Analyzer.analyze_task`."""
    analyzer.analyze_task(task)


def analyze_task_group(analyzer: Analyzer, tg: TaskGroup) -> None:
    """A group of tasks; see `Analyzer.analyze_task_group`."""
    analyzer.analyze_task_group(tg)


def analyze_job(analyzer: Analyzer, job: Job) -> None:
    """A job; see `Analyzer.analyze_job`."""
    analyzer.analyze_job(job)


def print_op(text: Printer, op: OperatorDef) -> None:
    """An operator; see `Printer.print_op`."""
    text.print_op(op)


def print_net_def(text: Printer, net_def: NetDef) -> None:
    """The message of a net; see `Printer.print_net_def`."""
    text.print_net_def(net_def)


def print_net(text: Printer, net: Net) -> None:
    """A net; see `Printer.print_net`."""
    text.print_net(net)


def print_step(text: Printer, step: ExecutionStep) -> None:
    """A step; see `Printer.print_step`."""
    text.print_step(step)


def print_task(text: Printer, task: Task) -> None:
    """A task; see `Printer.print_task`."""
    text.print_task(task)


def print_task_group(text: Printer, tg: TaskGroup, header: str | None = None) -> None:
    """A group of tasks; see `Printer.print_task_group`."""
    text.print_task_group(tg, header)


def print_job(text: Printer, job: Job) -> None:
    """A job; see `Printer.print_job`."""
    text.print_job(job)
