"""Long short-term memories, alike by Caffe2's recurrent operator and by loops here.

Everything is taken from `caffe2.python`, and runs on Python 3.8 as well: `record/recurrent.py`
keeps what Caffe2 makes of it, `test_rnn_cell.py` compares.
"""

import inspect

import numpy as np
from caffe2.python import core, optimizer, rnn_cell, workspace
from caffe2.python.model_helper import ModelHelper

STEPS, SERIES = 5, 3
TRAINED = 3
STATES = {"h0": 4, "c0": 4, "h1": 3, "c1": 3}
GIVEN = ("h0", "c0")

CASES = {
    "one": {"dim_out": 4, "scope": "lstm", "initial_states": GIVEN},
    "learned": {"dim_out": 4, "scope": "lstm", "initial_states": None},
    "no_scope": {"dim_out": 4, "initial_states": GIVEN, "return_params": True},
    "no_lengths": {"dim_out": 4, "scope": "s", "initial_states": GIVEN, "seq_lengths": None},
    "dropped": {
        "dim_out": 4,
        "scope": "lstm",
        "initial_states": GIVEN,
        "drop_states": True,
        "forget_bias": 0.5,
    },
    "two": {"dim_out": [4, 3], "scope": "lstm", "initial_states": tuple(STATES)},
    "two_learned": {
        "dim_out": (4, 3),
        "scope": "lstm",
        "initial_states": None,
        "return_last_layer_only": False,
        "outputs_with_grads": (0, 1, 3),
        "asked": (4, 5, 7),
    },
}


def fed(name, shape):
    """Values that are the same wherever this runs."""
    random = np.random.RandomState(sum(map(ord, name)))
    workspace.FeedBlob(name, random.randn(*shape).astype(np.float32) / 2)


def trained(name):
    """(what the outputs and parameters are called, their values after some steps)."""
    workspace.ResetWorkspace()
    arguments = {"seq_lengths": "lengths", **CASES[name]}
    asked = arguments.pop("asked", (0,))
    fed("top/x", (STEPS, SERIES, 2))
    workspace.FeedBlob("top/lengths", np.array([5, 3, 4], np.int32))
    for state, width in STATES.items():
        fed("top/" + state, (1, SERIES, width))
    model = ModelHelper(name="model")
    with core.NameScope("top"):
        made = rnn_cell.LSTM(model, "x", dim_in=2, **arguments)
        terms = [model.net.SumElements(model.net.Sqr(made[index])) for index in asked]
        loss = model.net.Sum(terms, "loss") if len(terms) > 1 else terms[0]
    model.AddGradientOperators([loss])
    optimizer.build_sgd(model, 0.1)
    workspace.RunNetOnce(model.param_init_net)
    params = sorted(map(str, model.params))
    for param in params:
        fed(param, workspace.FetchBlob(param).shape)
    workspace.CreateNet(model.net)
    blobs = [str(blob) for blob in made if not isinstance(blob, dict)]
    values = {blob: [] for blob in (*blobs, *params)}
    for _ in range(TRAINED):
        workspace.RunNet(model.net)
        for blob, found in values.items():
            found.append(workspace.FetchBlob(blob))
    named = [blob if isinstance(blob, dict) else str(blob) for blob in made]
    return {"made": named, "params": params}, values


def signature():
    """The parameters of LSTM and their defaults, as text."""
    return [
        [each.name, "" if each.default is each.empty else repr(each.default)]
        for each in inspect.signature(rnn_cell.LSTM).parameters.values()
        if each.kind is not each.VAR_KEYWORD
    ]
