"""One step of a recurrent net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from procession.operators.activation import sigmoid
from procession.operators.arrays import Array, floats
from procession.operators.registry import Rules, emit, operator


def _inputs(blobs: Sequence[Array], sequence_lengths: bool) -> tuple[Array, ...]:
    """h, c, the gates as (4, N, D), and which rows of the batch are not yet at their end."""
    if len(blobs) != 4 + sequence_lengths:
        raise ValueError(
            f"LSTMUnit with sequence_lengths={bool(sequence_lengths)} has {4 + sequence_lengths} "
            f"inputs, not {len(blobs)}"
        )
    h, c, gates, *lengths, step = blobs
    floats("LSTMUnit", h, c, gates)
    if c.ndim != 3 or c.shape[0] != 1 or h.shape != c.shape:
        raise ValueError(f"LSTMUnit: states are (1, N, D), not {h.shape} and {c.shape}")
    _, count, width = c.shape
    if gates.size != 4 * c.size or gates.shape[:2] != (1, count):
        raise ValueError(f"LSTMUnit: gates are {gates.shape}, and wanted {(1, count, 4 * width)}")
    runs = np.ones(count, np.bool_)
    if lengths:
        if lengths[0].shape != (count,):
            raise ValueError(f"LSTMUnit: sequence lengths are {lengths[0].shape}, not {(count,)}")
        runs = step.reshape(-1)[0] < lengths[0]
    return h[0], c[0], gates.reshape(count, 4, width).transpose(1, 0, 2), runs[:, np.newaxis]


def _opened(gates: Array, forget_bias: float) -> Sequence[Array]:
    """How far the gates of input, forgetting and output are open, and what comes in."""
    into, forget, out, new = gates
    forget = forget + gates.dtype.type(forget_bias)
    return sigmoid(into), sigmoid(forget), sigmoid(out), np.tanh(new)


def _rules(inputs: int, arguments: Mapping[str, Any]) -> Rules:
    read = " ".join(f"I{index}" for index in range(inputs))
    return [emit("LSTMUnitGradient", f"{read} O0 O1 ?GO0 ?GO1", "GI0 GI1 GI2")]


@operator("LSTMUnit", outputs=2, gradient=_rules)
def lstm_unit(
    *inputs: Array,
    forget_bias: float = 0.0,
    drop_states: bool = False,
    sequence_lengths: bool = True,
) -> tuple[Array, Array]:
    """One step of a long short-term memory: its next hidden state and its next cell.

    The inputs are the hidden state and the cell, both (1, N, D); the gates (1, N, 4 * D), which
    are those of input, forgetting and output, and the new content, before they are squashed; how
    long each of the N sequences is, integers (N,); and which step this is, one integer. The
    outputs are (1, N, D). A sequence that is at its end keeps its state. Caffe2: LSTMUnit.

    Args:
        forget_bias: What is added to the gate of forgetting.
        drop_states: Whether the state of a sequence that is at its end is zeros instead.
        sequence_lengths: Whether there are lengths; else there are four inputs.

    Raises:
        TypeError: States and gates do not hold floating-point numbers.
        ValueError: The shapes do not match.
    """
    h, c, gates, runs = _inputs(inputs, sequence_lengths)
    into, forget, out, new = _opened(gates, forget_bias)
    cell = forget * c + into * new
    ended = (0, 0) if drop_states else (h, c)
    hidden = np.where(runs, out * np.tanh(cell), ended[0])
    cell = np.where(runs, cell, ended[1])
    return hidden.astype(h.dtype)[np.newaxis], cell.astype(c.dtype)[np.newaxis]


@operator("LSTMUnitGradient", outputs=3)
def lstm_unit_gradient(
    *inputs: Array,
    forget_bias: float = 0.0,
    drop_states: bool = False,
    sequence_lengths: bool = True,
) -> tuple[Array, Array, Array]:
    """The gradients of hidden state, cell and gates.

    The inputs are those of LSTMUnit, its outputs, and their gradients. Caffe2: LSTMUnitGradient.

    Args:
        forget_bias: As for LSTMUnit; so are the others.
        drop_states: See there.
        sequence_lengths: See there.
    """
    *forward, _, cell, dh, dcell = inputs
    h, c, gates, runs = _inputs(forward, sequence_lengths)
    into, forget, out, new = _opened(gates, forget_bias)
    squashed = np.tanh(cell[0])
    dc = dcell[0] + dh[0] * out * (1 - squashed * squashed)
    parts = [
        dc * new * into * (1 - into),
        dc * c * forget * (1 - forget),
        dh[0] * squashed * out * (1 - out),
        dc * into * (1 - new * new),
    ]
    dgates = np.where(runs, np.concatenate(parts, axis=1), 0).astype(gates.dtype)
    kept = (np.zeros_like(h), 0) if drop_states else (dh[0], dcell[0])
    dprevious = np.where(runs, 0, kept[0]).astype(h.dtype)
    dc = np.where(runs, dc * forget, kept[1]).astype(c.dtype)
    # The gates of a row lie side by side.
    return dprevious[np.newaxis], dc[np.newaxis], dgates.reshape(inputs[2].shape)
