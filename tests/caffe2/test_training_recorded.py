"""Models are built, and trained step by step, as Caffe2 does it: see `training_cases.py`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
try:
    import training_cases as cases
finally:
    sys.path.remove(str(HERE))

RECORDED = HERE / "recorded"


@pytest.fixture(scope="module")
def told() -> Any:
    return json.loads((RECORDED / "training.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def arrays() -> Any:
    with np.load(RECORDED / "training.npz", allow_pickle=False) as stored:
        return dict(stored)


# What Caffe2 gives to operators that have no such argument.
STRAY = {
    "ConstantFill": "values",
    "DepthSplit": "dimensions",
    "FC": "freeze_bias",
    "Moments": "order",
}


def tidy(operators: list[Any]) -> list[Any]:
    found = []
    for kind, inputs, outputs, arguments in operators:
        kept = {key: value for key, value in arguments.items() if STRAY.get(kind) != key}
        if kind == "ConstantFill" and kept.get("value") == 0:
            del kept["value"]
        found.append([kind, inputs, outputs, kept])
    return found


def same(made: Any, expected: Any) -> None:
    made = json.loads(json.dumps(made))
    for net in ("net", "init"):
        assert tidy(made.pop(net)) == tidy(expected[net])
    assert made == {key: value for key, value in expected.items() if key not in ("net", "init")}


@pytest.mark.parametrize("name", cases.LAYERS)
def test_layers(name: str, told: Any) -> None:
    same(cases.layer(name), told["layers"][name])


@pytest.mark.parametrize("name", cases.WHOLE)
def test_whole_models(name: str, told: Any) -> None:
    same(cases.WHOLE[name](), told["whole"][name])


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_what_optimizers_add(name: str, told: Any) -> None:
    same(cases.updates(name), told["optimizers"][name])


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_optimizers_step_by_step(name: str, arrays: Any) -> None:
    trained = cases.trained(name)
    assert trained
    for param, values in trained.items():
        expected = arrays[f"trained/{name}/{param}"]
        assert len(values) == len(expected) == cases.STEPS
        steps = 1 if name in cases.FIRST_STEP_ONLY else cases.STEPS
        np.testing.assert_allclose(values[:steps], expected[:steps], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", cases.REGULARIZERS)
def test_regularizers_on_the_loss(name: str, told: Any, arrays: Any) -> None:
    added, value, gradient = cases.penalty(name)
    same(added, told["penalties"][name])
    np.testing.assert_allclose(value, arrays[f"penalty/{name}"], rtol=1e-5)
    np.testing.assert_allclose(gradient, arrays[f"penalty_grad/{name}"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", cases.PROJECTIONS)
def test_regularizers_after_the_optimizer(name: str, told: Any, arrays: Any) -> None:
    added, param = cases.projection(name)
    same(added, told["projections"][name])
    np.testing.assert_allclose(param, arrays[f"projection/{name}"], rtol=1e-5, atol=1e-7)


# What docs/caffe2.md says is missing, or differs; and what GPUs alone have a use for.
OTHER = re.compile(r".*\.(get_gpu_blob_name|CreateDB|TensorProtosDBInput|relu|tanh|build_ftrl)")


def test_signatures(told: Any) -> None:
    ours = cases.signatures()
    wrong = {
        name: (ours.get(name), expected)
        for name, expected in told["signatures"].items()
        if not OTHER.fullmatch(name) and ours.get(name, [])[: len(expected)] != expected
    }
    assert not wrong, wrong
