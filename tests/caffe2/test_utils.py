"""caffe2.python.utils, and the modules that are names for what the rooms below have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from caffe2.python import (
    core,
    gradient_checker,
    hypothesis_test_util,
    net_printer,
    utils,
)

from procession.graph import arguments, iteration, printing
from procession.session import serialize
from procession.testing import gradients, strategies


def test_enumerations_are_texts_in_capitals() -> None:
    class Color:
        RED = "red"
        BLUE = "blue"
        COUNT = 2
        small = "small"

    assert utils.EnumClassKeyVals(Color) == {"RED": "red", "BLUE": "blue"}

    class Twice:
        ONE = "same"
        TWO = "same"

    with pytest.raises(AssertionError, match="ONE and TWO"):
        utils.EnumClassKeyVals(Twice)


def test_operators_that_differ_in_a_field() -> None:
    one = core.CreateOperator("Relu", "x", "y", name="one")
    other = core.CreateOperator("Relu", "x", "y", name="other")
    assert not utils.OpAlmostEqual(one, other)
    assert utils.OpAlmostEqual(one, other, "name")


@pytest.mark.parametrize(
    ("name", "below"),
    [
        (utils.MakeArgument, arguments.make_argument),
        (utils.ArgsToDict, arguments.arguments_by_name),
        (utils.BuildUniqueMutexIter, iteration.count_runs),
        (utils.NumpyArrayToCaffe2Tensor, serialize.tensor_proto),
        (utils.Caffe2TensorToNumpyArray, serialize.listed_value),
        (net_printer.to_string, printing.to_string),
        (net_printer.debug_net, printing.debug_net),
        (gradient_checker.getGradientForOp, gradients.gradient_of),
        (hypothesis_test_util.sparse_lengths_tensor, strategies.sparse_lengths_tensor),
    ],
)
def test_what_the_rooms_below_have(name: Callable[..., Any], below: Callable[..., Any]) -> None:
    assert name is below


def test_the_functions_of_the_printer_are_its_own() -> None:
    operator = core.CreateOperator("Relu", "x", "y")
    printer = net_printer.Printer(c2_syntax=False)
    net_printer.print_op(printer, operator)
    assert str(printer) == net_printer.to_string(operator) == "y = Relu(x)"
    analyzer = net_printer.Analyzer()
    analyzer.define_blob("x")
    net_printer.analyze_op(analyzer, operator)
    analyzer.need_blob("y")


def test_channels_go_last_or_second() -> None:
    images = np.zeros((1, 2, 3, 4))
    assert utils.NHWC2NCHW(images).shape == (1, 4, 2, 3)
    assert utils.NCHW2NHWC(images).shape == (1, 3, 4, 2)
