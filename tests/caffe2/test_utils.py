"""caffe2.python.utils: arguments, and what else small helpers do."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, utils


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


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (3, 3),
        (2.5, 2.5),
        ("text", b"text"),
        (np.array([1, 2]), [1, 2]),
        (np.float32(0.5), 0.5),
        ([b"a", b"b"], [b"a", b"b"]),
    ],
)
def test_arguments_there_and_back(value: object, found: object) -> None:
    assert utils.ArgsToDict([utils.MakeArgument("name", value)]) == {"name": found}


@pytest.mark.parametrize("value", [None, [None], [1, "a"], [[1]], 1j, object()], ids=repr)
def test_what_no_argument_can_be(value: object) -> None:
    with pytest.raises(ValueError, match="'name'"):
        utils.MakeArgument("name", value)


def test_operators_that_differ_in_a_field() -> None:
    one = core.CreateOperator("Relu", "x", "y", name="one")
    other = core.CreateOperator("Relu", "x", "y", name="other")
    assert not utils.OpAlmostEqual(one, other)
    assert utils.OpAlmostEqual(one, other, "name")
