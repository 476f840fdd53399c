"""Recurrent layers: what a step makes of the next input, and of what it made before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from procession import BlobReference, GraphError, NetBuilder, ops
from procession.core import DataType, ScopedBlobReference
from procession.train.initializers import Fill
from procession.train.layers.common import XAVIER, ZEROS, named, parameter
from procession.train.model import ModelHelper
from procession.train.parameter import ParameterTags


class States(NamedTuple):
    """What a recurrent layer makes: of all steps (T, N, D), and of the last one (1, N, D)."""

    hidden_all: Any
    hidden_last: Any
    cell_all: Any
    cell_last: Any


Step = Callable[..., Any]

_OUTPUTS = (("hidden", "all"), ("hidden", "last"), ("cell", "all"), ("cell", "last"))


def lstm(
    model: ModelHelper,
    blob_in: Any,
    blob_out: Any,
    dim_in: int,
    dim_out: int,
    seq_lengths: Any = None,
    initial_states: Sequence[Any] | None = None,
    forget_bias: float = 0.0,
    drop_states: bool = False,
    steps: int | None = None,
    weight_init: Fill | None = None,
    bias_init: Fill | None = None,
    input_params: Any = None,
) -> States:
    """A long short-term memory over the steps of series: LSTMUnit.

    Its parameters are `blob_out`/i2h_w and _b, for the input, and `blob_out`/gates_t_w and _b, for
    what it made before; the rows of all are for the gates of input, forgetting and output, and
    the new content.

    Args:
        model: Where it is added.
        blob_in: The series, (T, N, dim_in): T steps of N series.
        blob_out: What the outputs and the parameters are called after.
        dim_in: How long the rows of the input are.
        dim_out: How much it holds, D.
        seq_lengths: How long each series is, integers (N,); left out, T.
        initial_states: Hidden state and cell before the first step, (1, N, dim_out) or what
            broadcasts to that; left out, zeros.
        forget_bias: What is added to the gate of forgetting.
        drop_states: The states of a series that is at its end are zeros; else they stay.
        steps: T, if it is always the same: then there are so many operators. Left out, the
            steps are a loop.
        weight_init: What fills the weights: ("XavierFill", {}).
        bias_init: What fills the biases: ("ConstantFill", {}).
        input_params: What the parameters for the input are called after; left out, `blob_out`/i2h.

    Returns:
        The hidden states of all steps and of the last one, and the cells of all and of the last.

    Raises:
        GraphError: There are not two initial states, or less than one step.
    """
    out = blob_out if isinstance(blob_out, str) else named(model, blob_out)
    if initial_states is not None and len(initial_states) != 2:
        raise GraphError(
            f"{str(out)!r}: initial states are a hidden state and a cell, not {initial_states}"
        )
    if steps is not None and steps < 1:
        raise GraphError(f"{str(out)!r}: a recurrent layer has at least one step, not {steps}")
    weights = [
        parameter(model, part + suffix, [4 * dim_out, *more], tag, default, fill)
        for part, width in (
            (input_params or _part(out, "i2h"), dim_in),
            (_part(out, "gates_t"), dim_out),
        )
        for suffix, more, tag, default, fill in (
            ("_w", [width], ParameterTags.WEIGHT, XAVIER, weight_init),
            ("_b", [], ParameterTags.BIAS, ZEROS, bias_init),
        )
    ]
    unit = {
        "forget_bias": float(forget_bias),
        "drop_states": bool(drop_states),
        "sequence_lengths": seq_lengths is not None,
    }
    x = _blob(blob_in)
    lengths = [] if seq_lengths is None else [_blob(seq_lengths)]

    def step(net: Any, new: Any, hidden: Any, cell: Any, number: Any) -> Any:
        """The next hidden state and the next cell, by what the input says to the gates."""
        gates = net.Add([new, net.FC([hidden, *weights[2:]], axis=2)])
        return net.LSTMUnit([hidden, cell, gates, *lengths, number], 2, **unit)

    begin = _begin(model, x, dim_out, initial_states)
    outputs = States(*(_blob(_part(out, f"{name}_state_{which}")) for name, which in _OUTPUTS))
    if steps is None:
        _loop(model, [x, *weights, *lengths], begin, outputs, step)
    else:
        new = model.net.FC([x, *weights[:2]], axis=2)
        _unroll(model, new, steps, begin, outputs, step)
    return States(*(BlobReference(each, model.net) for each in outputs))


def _part(out: Any, name: str) -> Any:
    """A name after the layer's, if it has one: a text, or a blob as that is one."""
    return out + f"/{name}" if str(out) else name


def _blob(name: Any) -> BlobReference:
    """A blob, which is in the name scope in force if it is given by name."""
    return ScopedBlobReference(name) if isinstance(name, str) else name


def _begin(
    model: ModelHelper, x: Any, width: int, given: Sequence[Any] | None
) -> tuple[Any, Any, Any]:
    """What there is before the first step: states, and those of no steps."""
    net = model.net

    def number(value: int) -> Any:
        return net.ConstantFill([], shape=[1], value=value, dtype=int(DataType.INT64))

    count = net.Shape(x, axes=[1])
    wide = number(width)
    zeros = [
        net.ConstantFill(
            net.Concat([number(steps), count, wide], 2, axis=0)[0], input_as_shape=1, value=0.0
        )
        for steps in (1, 0)
    ]
    hidden, cell = (
        (net.Add([zeros[0], _blob(each)]) for each in given) if given else (zeros[0], zeros[0])
    )
    return hidden, cell, zeros[1]


def _loop(
    model: ModelHelper,
    read: Sequence[Any],
    begin: tuple[Any, Any, Any],
    outputs: States,
    step: Step,
) -> None:
    hidden, cell, none = begin
    known = [*read, *dict.fromkeys(begin)]
    x, weight, bias = read[:3]
    with NetBuilder("lstm", initial_scope=known, _use_control_ops=True) as builder:
        for start, kept in zip((none, hidden, none, cell), outputs, strict=True):
            ops.Copy(start, [kept])
        now, count = ops.Const([0]), ops.Shape(x, axes=[0])
        with ops.WhileNet():
            with ops.Condition():
                ops.LT([now, count])
            # What a step overwrites, its gradient needs as it was.
            number, *before = (ops.Copy(each) for each in (now, *outputs))
            row = ops.Gather([x, number], dense_gradient=True)
            new = ops.FC([row, weight, bias], axis=2)
            made = step(ops, new, before[1], before[3], number)
            for index, state in enumerate(made):
                together, _ = ops.Concat([before[2 * index], state], 2, axis=0)
                ops.Copy(together, [outputs[2 * index]])
                ops.Copy(state, [outputs[2 * index + 1]])
            ops.Add([now, ops.Const([1])], [now])
    model.net.AppendNet(builder.get()[0])


def _unroll(
    model: ModelHelper,
    new: Any,
    steps: int,
    begin: tuple[Any, Any, Any],
    outputs: States,
    step: Step,
) -> None:
    net = model.net
    states: list[Any] = [begin[:2]]
    rows = net.Split(new, steps, axis=0) if steps > 1 else [new]
    for index, row in enumerate(rows):
        number = net.ConstantFill([], shape=[1], value=index, dtype=int(DataType.INT64))
        states.append(step(net, row, *states[-1], number))
    for index, series in enumerate(zip(*states[1:], strict=True)):
        whole = outputs[2 * index]
        net.Concat(list(series), [whole, f"{whole}_split"], axis=0)
        net.Copy(series[-1], outputs[2 * index + 1])
