"""`caffe2.python.net_printer`: what is built, as text, and whether its blobs are defined."""

from __future__ import annotations

from procession.graph.printing import (
    Analyzer,
    Printer,
    Text,
    Visitor,
    analyze,
    call,
    commonprefix,
    debug_net,
    factor_prefix,
    format_device_option,
    format_value,
    to_string,
)

analyze_op = Analyzer.analyze_op
analyze_net = Analyzer.analyze_net
analyze_step = Analyzer.analyze_step
analyze_task = Analyzer.analyze_task
analyze_task_group = Analyzer.analyze_task_group
analyze_job = Analyzer.analyze_job

print_op = Printer.print_op
print_net_def = Printer.print_net_def
print_net = Printer.print_net
print_step = Printer.print_step
print_task = Printer.print_task
print_task_group = Printer.print_task_group
print_job = Printer.print_job

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
