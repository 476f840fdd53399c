"""Parameters have Caffe2's names, as scripts may use them as keywords."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import numpy as np
import pytest
from caffe2.python import (
    core,
    dataio,
    dataset,
    gradient_checker,
    hypothesis_test_util,
    net_printer,
    pipeline,
    queue_util,
    utils,
    workspace,
)

LIMITS = [
    dataio.CounterReader,
    dataio.ReaderWithDelay,
    dataio.ReaderWithLimit,
    dataio.ReaderWithLimitBase,
    dataio.ReaderWithTimeLimit,
]
IN_MEMORY = [
    dataset._DatasetRandomReader,
    dataset._DatasetReader,
    dataset._DatasetWriter,
    queue_util._QueueReader,
    queue_util._QueueWriter,
]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (core.IR.GetBackwardPass, "self ys"),
        (core.add_nets_in_order, "step net_list"),
        (gradient_checker.getGradientForOp, "op"),
        (net_printer.Analyzer.register, "Type"),
        (net_printer.Analyzer.set_workspace, "self node ws do_copy"),
        (net_printer.analyze_net, "analyzer net"),
        (net_printer.analyze_op, "analyzer op"),
        (net_printer.analyze_task_group, "analyzer tg"),
        (net_printer.print_net_def, "text net_def"),
        (net_printer.print_op, "text op"),
        (net_printer.print_task_group, "text tg header"),
        (pipeline.ProcessingReader.read_ex, "self init_net exit_net"),
        (pipeline.processor_name, "processor"),
        (queue_util._QueueReader.read, "self net"),
        (queue_util._QueueWriter.write_ex, "self fields local_init_net local_finish_net status"),
        (utils.NumpyArrayToCaffe2Tensor, "arr name"),
        (workspace.C.Workspace.remove_blob, "self blob"),
        *((each.setup_ex, "self global_init_net global_finish_net") for each in LIMITS),
        *((each.setup_ex, "self init_net exit_net") for each in IN_MEMORY),
    ],
    ids=lambda each: getattr(each, "__qualname__", ""),
)
def test_parameters(function: Any, names: str) -> None:
    assert list(inspect.signature(function).parameters) == names.split()


def test_a_workspace_for_a_test_has_its_name_in_bytes() -> None:
    parameters = inspect.signature(hypothesis_test_util.temp_workspace).parameters
    assert parameters["name"].default == b"temp_ws"
    with hypothesis_test_util.temp_workspace():
        assert workspace.CurrentWorkspace() == "temp_ws"


def test_functions_of_the_printer_are_those_that_are_registered_for_its_own_classes() -> None:
    net = core.Net("net")
    net.Copy("x", "y")
    for function, thing in [
        (net_printer.print_op, net.Proto().op[0]),
        (net_printer.print_net, net),
        (net_printer.print_net_def, net.Proto()),
        (net_printer.print_step, core.execution_step("s", net, num_iter=2)),
    ]:
        text = net_printer.Printer()
        function(text, thing)
        assert str(text) == net_printer.to_string(thing)
    analyzer = net_printer.Analyzer()
    analyzer.define_blob("x")
    net_printer.analyze_net(analyzer, net)
    assert analyzer.workspace == {"x": 1, "y": 1}


def test_an_analyzer_goes_among_other_blobs() -> None:
    analyzer = net_printer.Analyzer()
    with analyzer.set_workspace(node="a") as ws:
        analyzer.define_blob("x")
        with analyzer.set_workspace(do_copy=True):
            analyzer.define_blob("inner")
    given = Counter({"y": 1})
    with analyzer.set_workspace(ws=given):
        analyzer.need_blob("y")
        with pytest.raises(AssertionError, match="Blob undefined: x"):
            analyzer.need_blob("x")
    with analyzer.set_workspace(node="a"):
        analyzer.need_blob("x")
    assert ws == analyzer.workspaces["a"] == {"x": 1}


def test_a_tensor_by_keyword() -> None:
    made = utils.NumpyArrayToCaffe2Tensor(arr=np.ones(2, np.float32), name="x")
    assert utils.Caffe2TensorToNumpyArray(made).tolist() == [1, 1]
