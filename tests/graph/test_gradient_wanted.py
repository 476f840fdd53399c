"""Gradients of some blobs only: what is left out, and that the rest is as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import BlobReference, GradientError, LocalSession, Net
from procession.graph import names
from procession.graph.operator import signature_of


def layers() -> Net:
    net = Net("g")
    net.FC(["x", "w", "b"], "h")
    net.Tanh("h", "h")
    net.FC(["h", "w2", "b2"], "o")
    net.Mul(["o", "scale"], "s")
    net.Sub(["s", "target"], "d")
    net.Mul(["d", "d"], "loss")
    return net


PARAMETERS = ["w", "b", "w2", "b2"]


def added(net: Net, wanted: Any) -> tuple[list[str], dict[str, str]]:
    before = len(net.operators)
    gradients = net.AddGradientOperators(["loss"], wanted=wanted)
    lines = [signature_of(each) for each in net.operators[before:]]
    return lines, {str(blob): str(gradient) for blob, gradient in gradients.items()}


def run(net: Net) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    fed = {"x": (4, 3), "w": (5, 3), "b": 5, "w2": (2, 5), "b2": 2, "scale": 1, "target": (4, 2)}
    with LocalSession() as session:
        for name, shape in fed.items():
            session.workspace().feed_blob(name, rng.normal(size=shape))
        for _ in range(3):
            session.run(net)
        return {name: handle.fetch() for name, handle in session.workspace().blobs.items()}


def test_the_first_layer_does_without_the_gradient_of_the_data() -> None:
    lines, gradients = added(layers(), PARAMETERS)
    assert lines[-1] == "FCGradient(x, w, h_grad) -> w_grad, b_grad"
    assert "FCGradient(h, w2, o_grad) -> w2_grad, b2_grad, h_grad" in lines
    assert "x" not in gradients
    everything, _ = added(layers(), None)
    assert everything[-1] == "FCGradient(x, w, h_grad) -> w_grad, b_grad, x_grad"


@pytest.mark.parametrize(
    "wanted", [PARAMETERS, ["w2"], ["x"], ["o", "b"], ["scale"], ["loss"], ["target", "w"]]
)
def test_what_is_wanted_is_as_it_was(wanted: list[str]) -> None:
    whole, some = layers(), layers()
    _, all_gradients = added(whole, None)
    lines, gradients = added(some, wanted)
    expected, actual = run(whole), run(some)
    assert set(wanted) <= set(gradients) <= set(all_gradients)
    # All that there is is right, not only what was asked for.
    for blob, gradient in gradients.items():
        np.testing.assert_array_equal(actual[gradient], expected[all_gradients[blob]])
    assert set(gradients) <= {blob.removesuffix("_grad") for blob in actual} | {"loss"}
    assert len(lines) <= len(whole.operators)


def test_nothing_that_is_not_needed_runs() -> None:
    lines, gradients = added(layers(), ["w2"])
    assert lines[-1] == "FCGradient(h, w2, o_grad) -> w2_grad, b2_grad"
    assert not any(line.startswith("Tanh") for line in lines)
    assert "w" not in gradients


def test_references_serve_as_names() -> None:
    net = Net("g")
    w = net.AddExternalInput("w")
    y = net.Tanh(net.Tanh([w], "a"), "y")
    gradients = net.AddGradientOperators([y], wanted=[w])
    assert {str(blob) for blob in gradients} == {"y", "a", "w"}


@pytest.mark.parametrize("one", ["w", BlobReference("w")])
def test_one_is_a_list_of_one(one: Any) -> None:
    found = []
    for wanted in (one, ["w"]):
        with names.fresh():
            net = Net("g")
            net.Mul(["x", "w"], "y")
            gradients = net.AddGradientOperators(["y"], wanted=wanted)
            operators = [signature_of(each) for each in net.operators]
            found.append((operators, {str(blob) for blob in gradients}))
    assert found[0] == found[1]
    assert "w" in found[0][1]


def test_a_sum_of_several_readers() -> None:
    with names.fresh():
        net = Net("g")
        net.Mul(["x", "w"], "a")
        net.Mul(["a", "w"], "b")
        net.Mul(["b", "x"], "y")
        gradients = net.AddGradientOperators(["y"], wanted=["w"])
    with LocalSession() as session:
        for name, value in (("x", 3.0), ("w", 5.0)):
            session.workspace().feed_blob(name, np.float64([value]))
        session.run(net)
        # y = x x w w
        assert session.workspace().fetch_blob(str(gradients["w"])).tolist() == [90.0]


def test_what_is_not_there_cannot_be_wanted() -> None:
    with pytest.raises(GradientError, match="the gradient of 'label' is wanted, and there is none"):
        layers().AddGradientOperators(["loss"], wanted=["w", "label"])


def test_what_reads_the_data_needs_no_gradient() -> None:
    def read(inputs: Any, outputs: Any) -> None:
        outputs[0].feed(np.ones((4, 3)))

    net = Net("g")
    net.Python(read)([], ["raw"])
    net.Tanh("raw", "x")
    net.FC(["x", "w", "b"], "h")
    net.Tanh("h", "raw")  # where the data was
    net.Mul(["raw", "raw"], "loss")
    before = len(net.operators)
    net.AddGradientOperators(["loss"], wanted=["w", "b"])
    lines = [signature_of(each) for each in net.operators[before:]]
    assert lines[-1].endswith("-> w_grad, b_grad")
    assert not any("x_grad" in line for line in lines)
