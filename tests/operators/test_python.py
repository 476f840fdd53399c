"""Python functions as operators."""

import numpy as np
import pytest

from procession.operators.datatype import DataType
from procession.testing.gradcheck import KernelContext, run_operator

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class _Workspace:
    """What the operators are told that they run in."""


WORKSPACE = _Workspace()


def python(func, *inputs, outputs=("y",), names=None, **arguments):
    names = names or tuple(f"x{index}" for index in range(len(inputs)))
    context = KernelContext(names, tuple(outputs), workspace=WORKSPACE)
    return run_operator("Python", *inputs, func=func, context=context, **arguments)


def test_reshape_and_write():
    def double(inputs, outputs):
        assert inputs[0].shape == (2, 3)
        outputs[0].reshape(inputs[0].shape)
        outputs[0].data[...] = inputs[0].data * 2
        return "means nothing"

    y = python(double, X)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, X * 2)


def test_feed_copies():
    def forward(inputs, outputs):
        outputs[0].feed(inputs[0].data)

    y = python(forward, X)
    np.testing.assert_array_equal(y, X)
    assert not np.may_share_memory(y, X)


@pytest.mark.parametrize("value", [2.5, 3, True, np.float32(1.5)])
def test_feed_turns_numbers_into_arrays(value):
    y = python(lambda inputs, outputs: outputs[0].feed(value))
    assert isinstance(y, np.ndarray)
    assert y.shape == ()
    assert y == value


def test_objects_pass_as_they_are():
    blob = {"key": [1]}

    def forward(inputs, outputs):
        assert inputs[0].data is blob
        assert inputs[1].data == "text"
        with pytest.raises(TypeError, match="'x0' holds a dict, not an array"):
            _ = inputs[0].shape
        outputs[0].feed({**inputs[0].data, "text": inputs[1].data})

    assert python(forward, blob, "text") == {"key": [1], "text": "text"}


def test_inputs_are_read_only():
    def overwrite(inputs, outputs):
        inputs[0].data[...] = 1

    with pytest.raises(ValueError, match="read-only"):
        python(overwrite, X.copy())

    for method in ("feed", "reshape"):

        def change(inputs, outputs, method=method):
            getattr(inputs[0], method)([1])

        with pytest.raises(TypeError, match="'x0' is an input, which cannot be changed"):
            python(change, X)


def test_output_that_is_an_input_is_changed_in_place_in_private():
    def increment(inputs, outputs):
        assert outputs[0].shape == (2, 3)
        outputs[0].data[...] += 1
        np.testing.assert_array_equal(inputs[0].data, X)

    y = python(increment, X, names=("x",), outputs=("x",))
    np.testing.assert_array_equal(y, X + 1)
    np.testing.assert_array_equal(X, np.arange(6).reshape(2, 3))


def test_untouched_output_that_is_an_input_is_a_copy():
    y = python(lambda inputs, outputs: None, X, names=("x",), outputs=("x",))
    np.testing.assert_array_equal(y, X)
    assert not np.may_share_memory(y, X)


def test_object_that_is_changed_in_place_is_a_copy():
    blob = [1]
    y = python(
        lambda inputs, outputs: outputs[0].data.append(2), blob, names=("x",), outputs=("x",)
    )
    assert y == [1, 2]
    assert blob == [1]


def test_reshape_keeps_values_if_there_are_as_many():
    def shape(inputs, outputs):
        outputs[0].feed(np.arange(6))
        outputs[0].reshape([3, 2])
        np.testing.assert_array_equal(outputs[0].data, np.arange(6).reshape(3, 2))
        outputs[0].reshape((4, 4))

    y = python(shape)
    assert (y.dtype, y.shape) == (np.int64, (4, 4))
    assert not y.any()


def test_init():
    y = python(lambda inputs, outputs: outputs[0].init([2, 2], DataType.INT32))
    assert (y.dtype, y.shape) == (np.int32, (2, 2))
    assert not y.any()


def test_fetch_is_a_copy():
    def forward(inputs, outputs):
        copy = inputs[0].fetch()
        copy[...] = 7
        outputs[0].feed(copy)

    assert (python(forward, X) == 7).all()
    assert X.max() == 5


def test_several_outputs_and_none():
    def split(inputs, outputs):
        for index, output in enumerate(outputs):
            output.feed(inputs[0].data[index])

    first, second = python(split, X, outputs=("y", "z"))
    np.testing.assert_array_equal(first, X[0])
    np.testing.assert_array_equal(second, X[1])
    assert python(split, X, outputs=()) is None


def test_output_that_was_not_written():
    def forgetful(inputs, outputs):
        assert outputs[0].shape == (0,)
        outputs[0].feed(1)

    with pytest.raises(ValueError, match="forgetful returned without writing its output z, w"):
        python(forgetful, X, outputs=("y", "z", "w"))


def test_output_that_was_not_written_has_no_data():
    with pytest.raises(ValueError, match="output 'y' has no value yet"):
        python(lambda inputs, outputs: outputs[0].data)


def test_workspace():
    def forward(inputs, outputs, workspace):
        outputs[0].feed(workspace)

    assert python(forward, pass_workspace=True) is WORKSPACE


def test_builder_is_called_once_for_an_operator():
    built = []

    def build(start, *, step):
        built.append((start, step))
        count = start

        def function(inputs, outputs):
            nonlocal count
            outputs[0].feed(count)
            count += step

        return function

    contexts = [KernelContext((), ("y",)) for _ in range(2)]
    func = (build, (10,), {"step": 5})
    counts = [run_operator("Python", func=func, context=context) for context in contexts * 2]
    assert counts == [10, 10, 15, 15]
    assert built == [(10, 5), (10, 5)]


def test_builder_without_keywords():
    y = python((lambda value: lambda inputs, outputs: outputs[0].feed(value), (3,)))
    assert y == 3


def test_builder_that_returns_no_function():
    def build():
        pass

    with pytest.raises(TypeError, match=r"the builder returns the function .*build has returned N"):
        python((build, (), {}))


def test_exceptions_pass_through():
    def fail(inputs, outputs):
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"):
        python(fail)
