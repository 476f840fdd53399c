"""Run a kernel outside of any net, and check its gradient against differences.

    run_operator("Relu", np.float32([-1, 2]))
    check_gradient("FC", [x, w, b])

Nothing here knows of nets or sessions: the rules of a gradient are carried out one by one
over a table of the symbols I0, O0, GO0 and GI0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import procession.operators  # noqa: F401  fills the registry
from procession.operators.registry import REGISTRY, Context, Definition

Array = NDArray[Any]


@dataclass
class KernelContext:
    """A `Context` for a kernel that runs on its own."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    workspace: Any = None
    state: dict[str, Any] = field(default_factory=dict)


def run_operator(
    name: str,
    /,
    *inputs: Any,
    rng: np.random.Generator | int | None = None,
    context: Context | None = None,
    n_outputs: int | None = None,
    **arguments: Any,
) -> Any:
    """Call the kernel of a registered operator; arrays in, arrays out.

    Args:
        name: The operator.
        *inputs: Its inputs; numbers become arrays of shape (), so that they are what a net
            would hand over.
        rng: The generator for kernels that ask for one, or a seed; the seed 0 by default.
        context: The context for kernels that ask for one; by default one with inputs "I0",
            "I1", ... and outputs "O0", "O1", ...
        n_outputs: How many outputs, where the operator leaves that open.
        **arguments: The operator's arguments.

    Returns:
        An array (or any other object that the kernel made), a tuple of them when there are
        several outputs, None when there is none.
    """
    definition = REGISTRY[name]
    values = [np.asarray(x) if isinstance(x, (int, float, np.generic)) else x for x in inputs]
    requests: dict[str, Any] = {}
    if "rng" in definition.requests:
        requests["rng"] = np.random.default_rng(0 if rng is None else rng)
    if n_outputs is not None and "n_outputs" in definition.arguments:
        arguments["n_outputs"] = n_outputs
    if "context" in definition.requests:
        count = definition.min_outputs if definition.max_outputs is not None else 1
        count = count if n_outputs is None else n_outputs
        requests["context"] = context or KernelContext(_names("I", len(values)), _names("O", count))
    result = definition.kernel(*values, **arguments, **requests)
    if isinstance(result, tuple):
        return tuple(_as_array(each) for each in result)
    return _as_array(result)


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{index}" for index in range(count))


def _as_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic) else value


def _tuple(result: Any) -> tuple[Any, ...]:
    if result is None:
        return ()
    return result if isinstance(result, tuple) else (result,)


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def check_gradient(
    name: str,
    inputs: Sequence[Any],
    arguments: Mapping[str, Any] | None = None,
    *,
    wrt: Sequence[int] | None = None,
    n_outputs: int | None = None,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> None:
    """Compare the gradient that an operator's rules give with central differences.

    Everything is computed in float64. The function differentiated is the sum of all outputs,
    each times a random cotangent; outputs that are no floats, or that no rule asks the
    gradient of, do not take part. The inputs should be away from kinks: a Relu at 0 has two
    slopes.

    Args:
        name: The operator.
        inputs: Its inputs. Floats of any kind are turned into float64.
        arguments: The operator's arguments.
        wrt: Which inputs' gradients to check; all that the rules make by default.
        n_outputs: How many outputs, where the operator leaves that open.
        eps: How far to go to either side for a difference.
        rtol: How far off a gradient may be, as a part of itself.
        atol: How far off it may be at least.
        seed: Of the random cotangents, and of a kernel that asks for `rng`.

    Raises:
        AssertionError: A gradient is wrong in value, shape or dtype; or there is none to check.
    """
    definition = REGISTRY[name]
    given = dict(arguments or {})
    if n_outputs is not None:
        given["n_outputs"] = n_outputs
    values = [_double(value) for value in inputs]
    rules = definition.rules(len(values), given)
    assert rules is not None, f"{name} has no gradient"
    made = [symbol for rule in rules for symbol in rule.outputs]
    asked = {symbol for rule in rules for symbol in rule.inputs}
    if wrt is None:
        wrt = [i for i, value in enumerate(values) if _is_float(value) and f"GI{i}" in made]
    assert wrt, f"the rules of {name} make no gradient that could be checked: they make {made}"
    for index in wrt:
        assert f"GI{index}" in made, f"no rule of {name} makes GI{index}; they make {made}"

    def forward(values: Sequence[Any]) -> tuple[Any, ...]:
        return _tuple(run_operator(name, *values, rng=seed, **given))

    outputs = forward(values)
    random = np.random.default_rng(seed)
    cotangents = {
        index: random.uniform(0.5, 1.5, output.shape) * random.choice([-1.0, 1.0], output.shape)
        for index, output in enumerate(outputs)
        if _is_float(output) and f"GO{index}" in asked
    }
    table: dict[str, Any] = {f"I{index}": value for index, value in enumerate(values)}
    table.update({f"O{index}": value for index, value in enumerate(outputs)})
    table.update({f"GO{index}": np.asarray(each) for index, each in cotangents.items()})
    _carry_out(definition, rules, given, table, seed)

    def weighed(values: Sequence[Any]) -> float:
        results = forward(values)
        return sum(float(np.sum(results[i] * each)) for i, each in cotangents.items())

    for index in wrt:
        _compare(name, index, values, table[f"GI{index}"], weighed, eps, rtol, atol)


def differences(
    function: Callable[[Array], float],
    value: Array,
    eps: float,
    places: Iterable[int] | None = None,
) -> Array:
    """The gradient of a function of an array, by central differences.

    Args:
        function: Takes arrays like `value`, and returns a number.
        value: Where to differentiate; it is not changed.
        eps: How far to go to either side.
        places: Where, in the flat array, to do so; left out, everywhere.

    Returns:
        An array of the shape and dtype of `value`, 0 where nothing was done.
    """
    made = np.zeros_like(value)
    for place in range(value.size) if places is None else places:
        sides = []
        for step in (eps, -eps):
            moved = value.copy()
            moved.flat[place] += step
            sides.append(function(moved))
        made.flat[place] = (sides[0] - sides[1]) / (2 * eps)
    return made


def _double(value: Any) -> Any:
    array = np.array(value) if isinstance(value, (int, float, np.generic, np.ndarray)) else value
    return array.astype(np.float64) if _is_float(array) else array


def _carry_out(
    definition: Definition,
    rules: Sequence[Any],
    arguments: Mapping[str, Any],
    table: dict[str, Any],
    seed: int,
) -> None:
    """Run the rules, one after the other; what they make is added to the table."""
    for rule in rules:
        where = f"{definition.name}: the rule {rule.type or 'alias'}({', '.join(rule.inputs)})"
        for symbol in rule.inputs:
            assert symbol in table, f"{where} reads {symbol}; there are {sorted(table)}"
        sources = [table[symbol] for symbol in rule.inputs]
        if rule.type is None and len(sources) == 2:
            dense = np.zeros_like(table[f"I{rule.outputs[0][2:]}"])
            np.add.at(dense, sources[0], sources[1])
            results: tuple[Any, ...] = (dense,)
        elif rule.type is None:
            results = (sources[0],)
        else:
            known = REGISTRY[rule.type].arguments
            handed = rule.arguments
            if handed is None:
                handed = {key: value for key, value in arguments.items() if key in known}
            handed = {**handed, "n_outputs": len(rule.outputs)}
            results = _tuple(run_operator(rule.type, *sources, rng=seed, **handed))
        assert len(results) == len(rule.outputs), (
            f"{where} made {len(results)} outputs for {', '.join(rule.outputs)}"
        )
        table.update(zip(rule.outputs, results, strict=True))


def _compare(
    name: str,
    index: int,
    values: Sequence[Any],
    gradient: Array,
    function: Any,
    eps: float,
    rtol: float,
    atol: float,
) -> None:
    """Compare one gradient with the differences of `function` along its input."""
    x = values[index]
    where = f"{name}: the gradient of input {index}"
    assert gradient.shape == x.shape, f"{where} is {gradient.shape}, the input is {x.shape}"
    assert gradient.dtype == x.dtype, f"{where} is {gradient.dtype}, the input is {x.dtype}"
    expected = differences(
        lambda moved: function([*values[:index], moved, *values[index + 1 :]]), x, eps
    )
    off = np.abs(gradient - expected) - (atol + rtol * np.abs(expected))
    wrong = ~(off <= 0)  # so that a NaN is wrong, too
    if wrong.any():
        worst = np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), x.shape)
        raise AssertionError(
            f"{where} is wrong at {int(wrong.sum())} of {x.size} places; at"
            f" {tuple(int(i) for i in worst)} it is {gradient[worst]:.8g}, differences give"
            f" {expected[worst]:.8g}"
        )
