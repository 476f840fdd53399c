"""`caffe2.python.rnn_cell`: long short-term memories, as loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from procession.caffe2.python import core
from procession.caffe2.python.model_helper import ModelHelper
from procession.caffe2.python.modeling.initializers import Initializer
from procession.errors import GraphError
from procession.train.layers.recurrent import lstm

__all__ = ["LSTM"]


def LSTM(
    model: ModelHelper,
    input_blob: Any,
    seq_lengths: Any,
    initial_states: Sequence[Any] | None,
    dim_in: int,
    dim_out: int | Sequence[int],
    scope: str | None = None,
    outputs_with_grads: Sequence[int] = (0,),
    return_params: bool = False,
    memory_optimization: bool = False,
    forget_bias: float = 0.0,
    forward_only: bool = False,
    drop_states: bool = False,
    return_last_layer_only: bool = True,
    static_rnn_unroll_size: int | None = None,
) -> tuple[Any, ...]:
    """One layer or more of long short-term memory; see `procession.train.brew.lstm`.

    Args:
        model: Where it is added.
        input_blob: The series, (T, N, dim_in).
        seq_lengths: How long each is, integers (N,); None: T.
        initial_states: Hidden state and cell of each layer before the first step; None: they are
            parameters, which begin with zeros.
        dim_in: How long the rows of the input are.
        dim_out: How much a layer holds; a list for several layers.
        scope: The name scope of what is added.
        outputs_with_grads: Which outputs of the last layer may have gradients: 0 to 3. Here all
            may.
        return_params: Also return how the parameters are called.
        memory_optimization: False: what a step computes is kept for the way back.
        forget_bias: What is added to the gate of forgetting.
        forward_only: There will be no gradients. Here nothing is prepared for them.
        drop_states: The states of a series that is at its end are zeros.
        return_last_layer_only: Return the outputs of the last layer alone.
        static_rnn_unroll_size: T, for so many operators instead of a loop.

    Returns:
        For each layer the hidden states of all steps and of the last, and the cells of all and of
        the last.

    Raises:
        GraphError: Something is not as it should be, or does not exist here.
    """
    widths = [dim_out] if isinstance(dim_out, int) else list(dim_out)
    if memory_optimization:
        raise GraphError("memory_optimization does not exist here: leave it out")
    if any(index not in range(4) for index in outputs_with_grads):
        raise GraphError(f"the outputs of a layer are 0 to 3, not {list(outputs_with_grads)}")
    if initial_states is not None and len(initial_states) != 2 * len(widths):
        raise GraphError(
            f"{len(widths)} layers have {2 * len(widths)} initial states, not {initial_states}"
        )
    base = scope or ""
    names = [base] if len(widths) == 1 else [_part(base, f"layer_{i}") for i in range(len(widths))]
    results: list[Any] = []
    series, length = input_blob, dim_in
    begins = [
        _begin(model, name, width) if initial_states is None else initial_states[2 * i : 2 * i + 2]
        for i, (name, width) in enumerate(zip(names, widths, strict=True))
    ]
    for index, (name, width) in enumerate(zip(names, widths, strict=True)):
        made = lstm(
            model,
            series,
            name,
            length,
            width,
            seq_lengths,
            begins[index],
            forget_bias,
            drop_states,
            static_rnn_unroll_size,
            input_params=_part(base if index == 0 else name, "i2h"),
        )
        results.extend(made)
        series, length = made.hidden_all, width
    if return_last_layer_only:
        results = results[-4:]
    if return_params:
        results.append(
            {
                kind: {"weights": f"{each}_w", "biases": f"{each}_b"}
                for kind, each in (
                    ("input", _part(base, "i2h")),
                    ("recurrent", _part(names[0], "gates_t")),
                )
            }
        )
    return tuple(results)


def _part(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope else name


def _begin(model: ModelHelper, scope: str, width: int) -> list[Any]:
    """Initial states that are learned."""
    zeros = Initializer("ConstantFill", value=0.0)
    with core.NameScope(scope):
        return [
            model.create_param(f"initial_{state}_state", [width], zeros)
            for state in ("hidden", "cell")
        ]
