"""Long short-term memories: what Caffe2's recurrent operator makes, see `recurrent_cases.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe2.python import rnn_cell, workspace
from caffe2.python.model_helper import ModelHelper

from procession.errors import GraphError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
try:
    import recurrent_cases as cases
finally:
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def told() -> Any:
    return json.loads((HERE / "recorded" / "recurrent.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def arrays() -> Any:
    with np.load(HERE / "recorded" / "recurrent.npz", allow_pickle=False) as stored:
        return dict(stored)


@pytest.mark.parametrize("name", cases.CASES)
def test_trained_step_by_step(name: str, told: Any, arrays: Any) -> None:
    made, values = cases.trained(name)
    assert made == told["cases"][name]
    assert values
    for blob, found in values.items():
        assert len(found) == cases.TRAINED
        np.testing.assert_allclose(found, arrays[f"{name}/{blob}"], rtol=2e-4, atol=2e-6)


def test_signature(told: Any) -> None:
    assert cases.signature() == told["signature"]


def test_steps_may_be_operators(arrays: Any) -> None:
    cases.trained("one")
    expected = workspace.FetchBlob("top/lstm/hidden_state_all")
    model = ModelHelper(name="unrolled")
    made = rnn_cell.LSTM(
        model,
        "top/x",
        "top/lengths",
        ["top/h0", "top/c0"],
        2,
        4,
        "unrolled",
        static_rnn_unroll_size=cases.STEPS,
    )
    assert [each.type for each in model.net.Proto().op].count("LSTMUnit") == cases.STEPS
    for part in ("i2h_w", "i2h_b", "gates_t_w", "gates_t_b"):
        workspace.FeedBlob(f"unrolled/{part}", arrays[f"one/top/lstm/{part}"][-2])
    workspace.RunNetOnce(model.net)
    np.testing.assert_allclose(workspace.FetchBlob(made[0]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_optimization": True}, "memory_optimization does not exist"),
        ({"outputs_with_grads": (4,)}, "the outputs of a layer are 0 to 3"),
        ({"initial_states": ["h0"]}, "1 layers have 2 initial states"),
        ({"dim_out": [4, 3]}, "2 layers have 4 initial states"),
        ({"static_rnn_unroll_size": 0}, "at least one step"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "model": ModelHelper(name="model"),
        "input_blob": "x",
        "seq_lengths": "lengths",
        "initial_states": ["h0", "c0"],
        "dim_in": 2,
        "dim_out": 4,
        **arguments,
    }
    with pytest.raises(GraphError, match=message):
        rnn_cell.LSTM(**given)
