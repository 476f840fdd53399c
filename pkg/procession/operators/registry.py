"""What an operator is, and the table of all of them.

An operator is declared once, by decorating its kernel:

    @operator("Relu", gradient=[emit("ReluGradient", "O0 GO0", "GI0")])
    def relu(x, *, out=None):
        '''The larger of x and 0, elementwise.'''
        return np.maximum(x, 0, out=out)

The kernel is a plain function of NumPy arrays. Its signature *is* the declaration of
the operator: positional parameters are inputs (with a default of None: optional; `*xs`:
any number), keyword-only parameters are arguments with their defaults, the docstring is the
documentation. `net.Relu(...)`, `dir(net)`, "did you mean" and the reference are made from it.
A kernel with `**part_` takes all arguments, besides, whose names begin with "part_".

Four keyword-only names are not arguments but requests to whoever runs the kernel:

`out`      the kernel can write its one result into a given array. It must be right when
           `out` is one of the inputs, as NumPy's own functions are. The result's shape and dtype
           must follow from the inputs' shapes and dtypes and the arguments alone. A kernel may
           ignore `out` and return something else.
`outs`     the same for a kernel with several results: a tuple that has for each output an array,
           C-contiguous and of the shape and dtype that the result will have, or None where none
           can be given, as for all of them in the first run. So its length is the number of
           outputs. The kernel returns a tuple of results as ever, each of them its own one of
           `outs` or something new. No two of `outs` are the same memory, and none is that of an
           input, but for the pairs that the operator declares as `in_place`.
`rng`      a `numpy.random.Generator`, the operator's own (see `Net.set_rand_seed`).
`context`  a `Context`: the blobs' names, the workspace, a way to run nets that are arguments.
           Only for operators that are about those, such as Print, Python and Do.

A kernel returns one value (a NumPy scalar will do for one without dimensions), a tuple when it
has several outputs, None when it has none. What it returns is given away: never an input, nor a
view of one, unless it is `out` or one of `outs`. It must not write into its inputs. A handle, such
as a counter, is another matter: changing it is what it is for. In the place of an output that the
kernel has stored through the workspace itself, or of all outputs, it returns `WRITTEN`.

The function of a *flow* operator (`flow=True`) is no kernel: it is called once, with the names of
the inputs in the place of their values, and says which nets among the arguments run, and when (see
`procession.operators.control`).

A gradient is a table of rules over the symbols I0, O0 (the forward operator's inputs and
outputs), GO0 (gradients of its outputs) and GI0 (gradients of its inputs, to be made),
or a function of (number of inputs, arguments) that returns such a table; among the arguments
it finds the number of outputs as `n_outputs`.
A rule may read, and write again, a GI0 that an earlier rule of the table wrote; never a GO0.
`~I0` says that only the shape and dtype of an input matter: it does no harm then that the operator
ran in place and the value is gone.
A gradient of some rows is said by `sparse`: which blob has the indices of the rows, and which the
rows. What is made for it is called GI0_indices and GI0_values.
`gradient=STOPS` says that nothing flows back through it; without a `gradient` the operator
cannot be differentiated, and asking for it is an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from procession.errors import (
    OperatorExistsError,
    UnknownOperatorError,
    did_you_mean,
    nearest,
)

RESERVED = ("out", "outs", "rng", "context")
REQUIRED: Any = inspect.Parameter.empty

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


class Context(Protocol):
    """What a kernel that asks for `context` is told about where it runs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    workspace: Any
    state: dict[str, Any]

    def check(self) -> None:
        """Raise if the run was called off: what waits asks now and then. Let it pass."""

    def run(self, net: Any, workspace: Any = None) -> None:
        """Run a net that is an argument, in the operator's workspace or in a child of it.

        What it raises is the operator's own error: let it pass.
        """


@dataclass(frozen=True)
class Rule:
    """One line of a gradient: run `type` on `inputs` to make `outputs` (symbols).

    `arguments` of None hands on those of the forward operator that `type` knows. A `type`
    of None is an alias: the gradient `outputs[0]` simply is the blob `inputs[0]`; or, with two
    inputs, it is sparse, with the indices `inputs[0]` and the values `inputs[1]`.
    """

    type: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: Mapping[str, Any] | None = None
    shapes: frozenset[str] = frozenset()
    """The inputs of which only shape and dtype matter."""
    or_zeros: frozenset[str] = frozenset()
    """The gradients that are zeros where nothing depends on the output."""


class _Written(Enum):
    WRITTEN = "written"


Rules = Sequence[Rule]
GradientFunction = Callable[[int, Mapping[str, Any]], Rules | None]
Look = tuple[tuple[int, ...], Any]
"""The shape and the dtype of a tensor."""
Specialize = Callable[..., Callable[..., object] | None]
"""See `operator`."""

STOPS: Rules = ()
"""A gradient for operators through which nothing flows back."""

WRITTEN: Any = _Written.WRITTEN
"""What a kernel returns for what it stored itself: one output, or all."""

_SYMBOL = re.compile(r"(?:(?:I|O|GO|GI)\d+|GI\d+_(?:indices|values))\Z")


def _symbols(text: str) -> tuple[str, ...]:
    symbols = tuple(text.split())
    for symbol in symbols:
        if not _SYMBOL.match(symbol):
            raise ValueError(
                f"{symbol!r} is not a symbol of a gradient's rules; those are I0, O0, GO0 and "
                "GI0, with the number of an input or output"
            )
    return symbols


def emit(type: str, inputs: str, outputs: str, **arguments: Any) -> Rule:
    """A rule that runs one operator, e.g. `emit("ReluGradient", "O0 GO0", "GI0")`.

    Without `arguments` the forward operator's own are handed on, as far as `type` has them.
    `~I0` among the inputs: only its shape and dtype matter. `?GO1`: zeros if nothing that is
    differentiated depends on that output.
    """
    shapes = frozenset(each[1:] for each in inputs.split() if each.startswith("~"))
    or_zeros = frozenset(each[1:] for each in inputs.split() if each.startswith("?GO"))
    read = _symbols(inputs.replace("~", "").replace("?GO", "GO"))
    return Rule(type, read, _symbols(outputs), arguments or None, shapes, or_zeros)


def alias(source: str, target: str) -> Rule:
    """A rule that runs nothing: the gradient `target` is the blob `source`."""
    return Rule(None, _symbols(source), _symbols(target))


def sparse(indices: str, values: str, target: str) -> Rule:
    """A rule that runs nothing: the gradient `target` is some rows, and 0 in all others.

    E.g. `sparse("I1", "GO0", "GI0")` after a gather. An index may occur more than once: its rows
    are to be added up. Caffe2: a GradientSlice.
    """
    return Rule(None, _symbols(f"{indices} {values}"), _symbols(target))


@dataclass(frozen=True)
class Definition:
    """An operator as registered. Made by `operator`, never by hand."""

    name: str
    kernel: Callable[..., Any]
    min_inputs: int
    max_inputs: int | None
    """None: any number."""
    input_names: tuple[str, ...]
    min_outputs: int
    max_outputs: int | None
    arguments: Mapping[str, Any]
    """Argument -> default; `REQUIRED` where it has none."""
    gradient: Rules | GradientFunction | None
    documentation: str
    requests: frozenset[str] = field(default_factory=frozenset)
    """Which of `RESERVED` the kernel wants."""
    ufunc: Callable[..., Any] | None = None
    """What may be called in the kernel's place: see `operator`."""
    constant: bool = False
    """Whether the result is always the same: see `operator`."""
    flow: bool = False
    """Whether `kernel` says which nets run, instead of computing anything: see `operator`."""
    in_place: frozenset[tuple[int, int]] = frozenset()
    """(input, output) pairs that may be the same memory, of a kernel that takes `outs`."""
    spare_last: bool = False
    """Whether the last output may be left out where nobody wants it: see `operator`."""
    specialize: Specialize | None = None
    """Makes what may be called in the kernel's place for arrays of one kind: see `operator`."""
    prefix: str = ""
    """How the names of arguments begin of which there is any number, "" if there are none such."""

    def takes(self, argument: str) -> bool:
        """Whether there is an argument of that name."""
        return argument in self.arguments or bool(self.prefix and argument.startswith(self.prefix))

    def rules(
        self, inputs: int, arguments: Mapping[str, Any], outputs: int | None = None
    ) -> Rules | None:
        """The gradient's table for a use of this operator, None if it has no gradient.

        A gradient that is a function finds the number of outputs as `n_outputs` among the
        arguments, if it is given here.
        """
        if callable(self.gradient):
            counted = {} if outputs is None else {"n_outputs": outputs}
            return self.gradient(inputs, {**self.arguments, **counted, **arguments})
        return self.gradient

    @property
    def own(self) -> bool:
        """Whether it is one of Procession's, which workers know without being told."""
        return self.kernel.__module__.startswith("procession.operators.")

    def __reduce__(self) -> tuple[Any, ...]:
        if self.own and REGISTRY.get(self.name) is self:
            return _registered, (self.name,)
        # Arguments are a mapping proxy, which does not pickle.
        state = {**self.__dict__, "arguments": dict(self.arguments)}
        return _rebuild, (state,)


def _registered(name: str) -> Definition:
    return REGISTRY[name]


def _rebuild(state: dict[str, Any]) -> Definition:
    return Definition(**{**state, "arguments": MappingProxyType(state["arguments"])})


def define(
    name: str,
    kernel: Callable[..., Any],
    *,
    outputs: int | tuple[int, int | None] = 1,
    gradient: Rules | GradientFunction | None = None,
    ufunc: Callable[..., Any] | None = None,
    constant: bool = False,
    flow: bool = False,
    in_place: Iterable[tuple[int, int]] = (),
    spare_last: bool = False,
    specialize: Specialize | None = None,
) -> Definition:
    """Read a kernel's signature into a `Definition`, without registering it."""
    least, most, names = 0, 0, []
    arguments: dict[str, Any] = {}
    requests = set()
    unbounded = False
    prefix = ""
    for parameter in inspect.signature(kernel).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            unbounded = True
            names.append(f"*{parameter.name}")
        elif parameter.kind is parameter.VAR_KEYWORD:
            if not parameter.name.endswith("_"):
                raise TypeError(
                    f"operator {name}: name the arguments one by one, not **{parameter.name}"
                )
            prefix = parameter.name
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            most += 1
            least += parameter.default is parameter.empty
            names.append(parameter.name)
        elif parameter.name in RESERVED:
            requests.add(parameter.name)
        else:
            arguments[parameter.name] = parameter.default
    fewest, many = (outputs, outputs) if isinstance(outputs, int) else outputs
    if "out" in requests and (fewest, many) != (1, 1):
        raise TypeError(
            f"operator {name}: `out` is for operators with exactly one output, `outs` for others"
        )
    if {"out", "outs"} <= requests:
        raise TypeError(f"operator {name}: `out` or `outs`, not both")
    pairs = frozenset(in_place)
    if pairs and "outs" not in requests:
        raise TypeError(f"operator {name}: `in_place` is for kernels that take `outs`")
    for read, written in pairs:
        if not (unbounded or 0 <= read < most) or not (many is None or 0 <= written < many):
            raise TypeError(
                f"operator {name}: `in_place` speaks of input {read} and output {written}, and "
                "there is no such pair"
            )
    if ufunc is not None and "out" not in requests:
        raise TypeError(f"operator {name}: `ufunc` is for kernels that take `out`")
    if specialize is not None and not requests & {"out", "outs"}:
        raise TypeError(f"operator {name}: `specialize` is for kernels that take `out` or `outs`")
    if spare_last and fewest == many:
        raise TypeError(f"operator {name}: `spare_last` is for a number of outputs that may differ")
    if constant and ((fewest, many) != (1, 1) or requests & {"rng", "context"}):
        raise TypeError(f"operator {name}: `constant` is for what has one output, which is fixed")
    if flow and requests:
        raise TypeError(f"operator {name}: `flow` is for what runs nets, and asks for nothing")
    return Definition(
        name=name,
        kernel=kernel,
        min_inputs=least,
        max_inputs=None if unbounded else most,
        input_names=tuple(names),
        min_outputs=fewest,
        max_outputs=many,
        arguments=MappingProxyType(arguments),
        gradient=gradient,
        documentation=inspect.getdoc(kernel) or "",
        requests=frozenset(requests),
        ufunc=ufunc,
        constant=constant,
        flow=flow,
        in_place=pairs,
        spare_last=spare_last,
        specialize=specialize,
        prefix=prefix,
    )


def signature(
    type: str, inputs: Sequence[str], outputs: Sequence[str], arguments: Mapping[str, Any]
) -> str:
    """`FC(x, w, b) -> y`; with the function's name where the operator calls one."""
    function = arguments.get("func")
    if isinstance(function, (tuple, list)) and function:
        function = function[0]
    called = getattr(function, "__name__", None)
    text = f"{type}[{called}]" if called else type
    text += f"({', '.join(inputs)})"
    return text + (f" -> {', '.join(outputs)}" if outputs else "")


def _origin(definition: Definition) -> tuple[str, str]:
    return definition.kernel.__module__, definition.kernel.__qualname__


class Registry(Mapping[str, Definition]):
    """Operator name -> `Definition`."""

    def __init__(self) -> None:
        self._definitions: dict[str, Definition] = {}

    def add(self, definition: Definition) -> None:
        """Register an operator.

        A name can be taken only once, but a function that is defined again, as when a cell of
        a notebook is run again, takes its own place. Procession's own modules run only once: what
        is there twice is a mistake.

        Raises:
            OperatorExistsError: The name is taken.
        """
        known = self._definitions.get(definition.name)
        if known is not None and (known.own or _origin(known) != _origin(definition)):
            way_out = (
                "Procession's own cannot be replaced: give yours another name"
                if known.own
                else f"REGISTRY.remove({definition.name!r}), of procession.operators, forgets that"
            )
            raise OperatorExistsError(
                f"operator {definition.name!r} is registered already, by "
                f"{'.'.join(_origin(known))}. {way_out}.",
                operator=definition.name,
            )
        self._definitions[definition.name] = definition

    def remove(self, name: str) -> None:
        """Forget an operator, e.g. one that a test or a notebook cell registered."""
        del self._definitions[name]

    def __getitem__(self, name: str) -> Definition:
        try:
            return self._definitions[name]
        except KeyError:
            raise UnknownOperatorError(
                f"{name!r} is not a registered operator.{did_you_mean(name, self._definitions)}"
                " How to add one: docs/adding_an_operator.md.",
                operator=name,
                suggestions=nearest(name, self._definitions),
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)


REGISTRY = Registry()
"""All operators of this process. Filled by importing `procession.operators`."""


def operator(
    name: str,
    *,
    outputs: int | tuple[int, int | None] = 1,
    gradient: Rules | GradientFunction | None = None,
    ufunc: Callable[..., Any] | None = None,
    constant: bool = False,
    flow: bool = False,
    in_place: Iterable[tuple[int, int]] = (),
    spare_last: bool = False,
    specialize: Specialize | None = None,
) -> Callable[[Kernel], Kernel]:
    """Register the decorated kernel as an operator; the kernel itself is returned unchanged.

    Args:
        name: What it is called on a net, e.g. "Relu".
        outputs: How many blobs it writes: a number, or (least, most), with None for no limit.
        gradient: A table of rules (`emit`, `alias`), a function that makes one, or `STOPS`.
        ufunc: The NumPy function that does all the work when the inputs are of one type, its
            result is of the type of the kernel's, and all arguments are at their defaults. It is
            then called with the inputs and `out`, instead of the kernel.
        constant: Without inputs, the result follows from the arguments alone. It is then computed
            once and copied from there on.
        flow: The function computes nothing: given the inputs' names, it says which nets run.
        in_place: (input, output) pairs, for a kernel that takes `outs`: it is right when the two
            are the same memory, for any of the pairs and for all at once. The output always has
            the shape and dtype of the input.
        spare_last: The last output is one that the kernel does not compute when it is left out,
            such as the gradient of a layer's data, which the first layer needs not have.
        specialize: Called with what the inputs and the outputs look like, two lists of (shape,
            dtype), and with all arguments by name, before a net is run with such tensors many
            times. It returns a function that does the kernel's work for such tensors alone, to
            the last bit, and saves looking at them; or None. That function is called with the
            arrays of all inputs, then those of all outputs. They may be the same memory where the
            kernel's may be. It may keep arrays of its own from call to call.

    Raises:
        OperatorExistsError: The name is taken by another function.
        TypeError: The kernel's signature cannot be read as an operator's.
    """

    def register(kernel: Kernel) -> Kernel:
        definition = define(
            name,
            kernel,
            outputs=outputs,
            gradient=gradient,
            ufunc=ufunc,
            constant=constant,
            flow=flow,
            in_place=in_place,
            spare_last=spare_last,
            specialize=specialize,
        )
        REGISTRY.add(definition)
        return kernel

    return register


def described(name: str, documentation: str) -> Callable[[Kernel], Kernel]:
    """Give a kernel that a function made its own name, and the text that tells it from the others.

    For families whose members differ in a value only, e.g. a NumPy function. It stands below
    `operator`, which reads the text.
    """

    def describe(kernel: Kernel) -> Kernel:
        kernel.__name__ = kernel.__qualname__ = name
        kernel.__doc__ = documentation
        return kernel

    return describe
