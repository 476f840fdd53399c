"""Python functions as operators.

The function is called with two lists of `Tensor`s, inputs and outputs, as in Caffe2:

    def double(inputs, outputs):
        outputs[0].feed(inputs[0].data * 2)

    net.Python(double)(["x"], ["y"])
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from procession.operators.arrays import Shape
from procession.operators.datatype import numpy_dtype
from procession.operators.registry import REQUIRED, Context, Rules, emit, operator

_NOTHING: Any = object()


class Tensor:
    """A blob as a Python operator's function sees it."""

    def __init__(self, name: str, value: Any = _NOTHING, *, writable: bool) -> None:
        self._name = name
        self._value = value
        self._writable = writable
        # What an output shares with an input is copied when it is first touched, if ever.
        self._borrowed = writable and value is not _NOTHING

    def __repr__(self) -> str:
        if self._value is _NOTHING:
            return f"<Tensor {self._name}, not written>"
        return f"<Tensor {self._name}: {self._value!r}>"

    @property
    def data(self) -> Any:
        """The array itself (or whatever object the blob holds); an input's is read-only.

        Raises:
            ValueError: It is an output that has no value yet: `feed` or `reshape` it first.
        """
        if self._value is _NOTHING:
            raise ValueError(f"output {self._name!r} has no value yet: feed or reshape it first")
        if self._borrowed:
            self._value = _private(self._value)
            self._borrowed = False
        return self._value

    @property
    def shape(self) -> Shape:
        """The shape; (0,) for an output that has no value yet.

        Raises:
            TypeError: The blob holds an object that is not an array.
        """
        if self._value is _NOTHING:
            return (0,)
        if not isinstance(self._value, np.ndarray):
            raise TypeError(f"{self._name!r} holds a {type(self._value).__name__}, not an array")
        return tuple(self._value.shape)

    def reshape(self, shape: Sequence[int]) -> None:
        """Give an output this shape; it keeps its values if there are as many as before.

        Otherwise all its values are 0, of the type it had, float32 if it had none.
        """
        self._check_writable()
        dimensions = tuple(int(length) for length in shape)
        if not isinstance(self._value, np.ndarray):
            self._set(np.zeros(dimensions, np.float32))
        elif self._value.size == np.prod(dimensions, dtype=np.int64):
            self._set(self.data.reshape(dimensions))
        else:
            self._set(np.zeros(dimensions, self._value.dtype))

    def init(self, shape: Sequence[int], dtype: Any) -> None:
        """Give an output this shape and type (a `DataType`, or what NumPy takes), all 0."""
        self._check_writable()
        self._set(np.zeros(tuple(int(length) for length in shape), numpy_dtype(dtype)))

    def feed(self, value: Any) -> None:
        """Make an output a copy of an array, or of a number; or let it hold any other object."""
        self._check_writable()
        self._set(_private(value) if _is_tensor(value) else value)

    def fetch(self) -> Any:
        """A copy of the array."""
        return _private(self.data)

    def _set(self, value: Any) -> None:
        self._value = value
        self._borrowed = False

    def _check_writable(self) -> None:
        if not self._writable:
            raise TypeError(f"{self._name!r} is an input, which cannot be changed")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, bool, int, float))


def _private(value: Any) -> Any:
    return np.array(value) if _is_tensor(value) else copy.deepcopy(value)


def _input(name: str, value: Any) -> Tensor:
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return Tensor(name, value, writable=False)


def _built(func: tuple[Any, ...], context: Context) -> Any:
    """What the builder made for the workspace that this runs in.

    Instances of a task, each in a workspace of its own, run at once: each has its own function.
    """
    # A kernel that runs on its own has no workspace.
    empty: Any = {} if context.workspace is None else WeakKeyDictionary()
    made = context.state.setdefault("functions", empty)
    function = made.get(context.workspace)
    if function is None:
        builder, arguments, *keywords = func
        function = builder(*arguments, **(keywords[0] if keywords else {}))
        if not callable(function):
            name = getattr(builder, "__qualname__", repr(builder))
            raise TypeError(
                f"in (builder, args, kwargs) the builder returns the function that is called: "
                f"{name} has returned {function!r}"
            )
        made[context.workspace] = function
    return function


def _call(
    values: tuple[Any, ...], func: Any, pass_workspace: bool, must_write: bool, context: Context
) -> Any:
    function = _built(func, context) if isinstance(func, tuple) else func
    inputs = [_input(name, value) for name, value in zip(context.inputs, values, strict=True)]
    known = dict(zip(context.inputs, values, strict=True))
    outputs = [Tensor(name, known.get(name, _NOTHING), writable=True) for name in context.outputs]
    if pass_workspace:
        function(inputs, outputs, context.workspace)
    else:
        function(inputs, outputs)
    unwritten = [output._name for output in outputs if output._value is _NOTHING]
    if unwritten and must_write:
        name = getattr(function, "__qualname__", repr(function))
        raise ValueError(f"{name} returned without writing its output {', '.join(unwritten)}")
    for output in outputs:
        if output._value is _NOTHING:
            output.reshape((0,))
    results = tuple(output.data for output in outputs)
    if not results:
        return None
    return results[0] if len(results) == 1 else results


def _rules(inputs: int, arguments: Mapping[str, Any]) -> Any:
    if arguments["grad_func"] is None:
        return None
    outputs = arguments["n_outputs"]
    of_outputs, of_inputs = arguments["grad_output_indices"], arguments["grad_input_indices"]
    symbols = [
        *(f"I{index}" for index in range(inputs)),
        *(f"O{index}" for index in range(outputs)),
        *(f"GO{index}" for index in of_outputs or range(outputs)),
    ]
    rules: Rules = [
        emit(
            "PythonGradient",
            " ".join(symbols),
            " ".join(f"GI{index}" for index in of_inputs or range(inputs)),
            func=arguments["grad_func"],
            pass_workspace=arguments["pass_workspace"],
            must_write=arguments["must_write"],
        )
    ]
    return rules


@operator("Python", outputs=(0, None), gradient=_rules)
def python(
    *inputs: Any,
    func: Any = REQUIRED,
    grad_func: Any = None,
    grad_output_indices: Sequence[int] | None = None,
    grad_input_indices: Sequence[int] | None = None,
    n_outputs: int = 1,
    pass_workspace: bool = False,
    must_write: bool = True,
    context: Context,
) -> Any:
    """Call a Python function. Caffe2: Python, made by `net.Python(func)(inputs, outputs)`.

    The function gets a list of inputs and a list of outputs, each with `data`, `shape`,
    `reshape(shape)`, `init(shape, dtype)`, `feed(value)` and `fetch()`. An output that is an
    input as well starts out with a copy of that. What the function returns means nothing.

    Args:
        func: The function; or (builder, args, kwargs), where `builder(*args, **kwargs)` is
            called once for each workspace that the operator runs in, before its first run
            there, and returns it. Each instance of a task has a workspace of its own, and so
            has each run of a private task group.
        grad_func: The same for the gradient, whose inputs are those of `func`, its outputs, and
            the gradients of its outputs; its outputs are the gradients of the inputs. None: not
            differentiable.
        grad_output_indices: The outputs of which it wants the gradients; all by default.
        grad_input_indices: The inputs of which it computes the gradients; all by default.
        n_outputs: How many outputs there are; `net.Python` sees to it.
        pass_workspace: Hand the workspace to the functions as their third argument.
        must_write: Refuse a function that leaves an output unwritten; otherwise the output is
            empty then.

    Raises:
        ValueError: An output was not written, and must be.
        TypeError: The builder has returned no function.
        Exception: Whatever the function raises.
    """
    return _call(inputs, func, pass_workspace, must_write, context)


@operator("PythonGradient", outputs=(0, None))
def python_gradient(
    *inputs: Any,
    func: Any = REQUIRED,
    pass_workspace: bool = False,
    must_write: bool = True,
    context: Context,
) -> Any:
    """Call the `grad_func` of a Python operator. Caffe2: PythonGradient."""
    return _call(inputs, func, pass_workspace, must_write, context)
