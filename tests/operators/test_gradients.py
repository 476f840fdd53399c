"""Every differentiable operator against central differences, one line each."""

import numpy as np
import pytest
from tests.operators.array_gradients import ARRAY_GRADIENTS
from tests.operators.numeric_gradients import NUMERIC_GRADIENTS
from tests.operators.samples import SAMPLES, f32, ints, positive, probabilities
from tests.operators.train_gradients import TRAIN_GRADIENTS
from tests.operators.window_gradients import WINDOW_GRADIENTS

from procession import LocalSession, Net
from procession.operators import REGISTRY
from procession.operators.python import Tensor
from procession.testing.gradcheck import check_gradient

LABELS = ints(2, 0, 1, 2)
P = probabilities(4, 3)


def product(inputs: list[Tensor], outputs: list[Tensor]) -> None:
    outputs[0].feed(inputs[0].data * inputs[1].data)
    outputs[1].feed(inputs[0].data + inputs[1].data)


def product_gradient(inputs: list[Tensor], outputs: list[Tensor]) -> None:
    x, y, _, _, product, total = (each.data for each in inputs)
    outputs[0].feed(product * y + total)
    outputs[1].feed(product * x + total)


def product_gradient_of_x(inputs: list[Tensor], outputs: list[Tensor]) -> None:
    _, y, _, _, product = (each.data for each in inputs)
    outputs[0].feed(product * y)


PYTHON = {"func": product, "grad_func": product_gradient, "n_outputs": 2}
PYTHON_PART = {
    "func": product,
    "grad_func": product_gradient_of_x,
    "grad_output_indices": [0],
    "grad_input_indices": [0],
    "n_outputs": 2,
}

TABLE = [
    ("Abs", [f32(3, 4)], {}),
    ("Add", [f32(3, 4), f32(3, 4)], {}),
    ("Add", [f32(3, 4), f32(4)], {}),
    ("Add", [f32(4), f32(3, 4)], {}),
    ("Add", [f32(3, 1), f32(1, 4)], {}),
    ("Add", [f32(2, 3, 4), f32(3)], {"broadcast": 1, "axis": 1}),
    ("Add", [f32(2, 3, 4), f32(3, 4)], {"broadcast": 1}),
    ("AveragedLoss", [f32(3, 4)], {}),
    ("AveragedLoss", [f32()], {}),
    ("Cast", [f32(3)], {"to": "double"}),
    ("Clip", [f32(4, 4)], {"min": -1.0, "max": 1.2}),
    ("Clip", [f32(4, 4)], {"min": 0.8}),
    ("Copy", [f32(3)], {}),
    ("CrossEntropy", [P, probabilities(4, 3)], {}),
    ("Div", [f32(3, 4), f32(3, 4)], {}),
    ("Div", [f32(3, 4), f32(4)], {}),
    ("Div", [f32(), f32(3, 4)], {}),
    ("Div", [f32(2, 3, 4), f32(2)], {"broadcast": 1, "axis": 0}),
    ("Exp", [f32(3)], {}),
    ("FC", [f32(2, 3), f32(4, 3), f32(4)], {}),
    ("FC", [f32(2, 3, 4), f32(5, 12), f32(5)], {}),
    ("FC", [f32(2, 3, 4), f32(5, 4), f32(5)], {"axis": 2}),
    ("FC", [f32(2, 3), f32(2, 2, 3), f32(4)], {"axis_w": 2}),
    ("FCTransposed", [f32(2, 3), f32(3, 4), f32(4)], {}),
    ("FCTransposed", [f32(2, 3, 4), f32(4, 5), f32(5)], {"axis": -1}),
    ("LabelCrossEntropy", [P, LABELS], {}),
    ("LabelCrossEntropy", [P, LABELS.astype(np.int32).reshape(4, 1)], {}),
    ("LeakyRelu", [f32(3, 4)], {"alpha": 0.3}),
    ("Log", [positive(3)], {}),
    ("MatMul", [f32(2, 3), f32(3, 4)], {}),
    ("MatMul", [f32(3, 2), f32(3, 4)], {"trans_a": 1}),
    ("MatMul", [f32(2, 3), f32(4, 3)], {"trans_b": 1}),
    ("MatMul", [f32(3, 2), f32(4, 3)], {"trans_a": 1, "trans_b": 1}),
    ("MatMul", [f32(2, 3, 4), f32(4, 2, 2)], {"axis_a": 2}),
    ("MatMul", [f32(2, 2, 3), f32(5, 2, 2)], {"axis_a": 2, "trans_a": 1, "trans_b": 1}),
    ("MatMul", [f32(2, 3), f32(2, 2, 3)], {"axis_b": 2, "trans_b": 1}),
    ("Mul", [f32(3, 4), f32(3, 4)], {}),
    ("Mul", [f32(3, 4), f32()], {}),
    ("Mul", [f32(2, 3, 4), f32(3)], {"broadcast": 1, "axis": 1}),
    ("Negative", [f32(3)], {}),
    ("Pow", [positive(3)], {"exponent": 2.5}),
    ("Pow", [f32(3)], {"exponent": 3.0}),
    ("Pow", [positive(3, 4), f32(4)], {}),
    ("Python", [f32(3), f32(3)], PYTHON),
    ("Python", [f32(3), f32(3)], PYTHON_PART),
    ("ReduceBackMean", [f32(2, 3, 4)], {"num_reduce_dim": 2}),
    ("ReduceBackSum", [f32(2, 3, 4)], {}),
    ("ReduceFrontMean", [f32(2, 3, 4)], {}),
    ("ReduceFrontSum", [f32(2, 3, 4)], {"num_reduce_dim": 2}),
    ("Relu", [f32(3, 4)], {}),
    ("Scale", [f32(3)], {"scale": -2.5}),
    ("Sigmoid", [f32(3, 4)], {}),
    ("Softmax", [f32(3, 4)], {}),
    ("Softmax", [f32(2, 3, 4)], {"axis": 2}),
    ("Softmax", [f32(2, 3, 4)], {}),
    ("SoftmaxWithLoss", [f32(4, 3), LABELS], {"scale": 2.5}),
    ("SoftmaxWithLoss", [f32(4, 3), LABELS, positive(4)], {}),
    ("SoftmaxWithLoss", [f32(4, 3), P], {"label_prob": 1}),
    ("SoftmaxWithLoss", [f32(2, 2, 3), LABELS.reshape(2, 2)], {"axis": 2}),
    ("Sqr", [f32(3)], {}),
    ("Sqrt", [positive(3)], {}),
    ("Sub", [f32(3, 4), f32(4)], {}),
    ("Sub", [f32(1, 4), f32(3, 1)], {}),
    ("Sum", [f32(3)], {}),
    ("Sum", [f32(3), f32(3), f32(3)], {}),
    ("SumElements", [f32(3, 4)], {"average": True}),
    ("SumElements", [f32(3, 4)], {}),
    ("SumSqrElements", [f32(3, 4)], {"average": True}),
    ("SumSqrElements", [f32(3, 4)], {}),
    ("Tanh", [f32(3, 4)], {}),
    ("WeightedSum", [f32(3), f32(1), f32(3), f32()], {}),
    *NUMERIC_GRADIENTS,
    *ARRAY_GRADIENTS,
    *TRAIN_GRADIENTS,
    *WINDOW_GRADIENTS,
]


@pytest.mark.parametrize(
    ("name", "inputs", "arguments"),
    [pytest.param(*line, id=f"{line[0]}-{index}") for index, line in enumerate(TABLE)],
)
def test_gradient(name, inputs, arguments):
    options = dict(arguments)
    n_outputs = options.pop("n_outputs", None)
    check_gradient(name, inputs, options, n_outputs=n_outputs)


def test_table_has_every_differentiable_operator():
    differentiable = {
        name
        for name, definition in REGISTRY.items()
        for sample in SAMPLES.get(name, ())
        if definition.rules(len(sample.inputs), sample.arguments, sample.n_outputs)
    }
    # The zeros of ZeroGradient are float32, as those that one starts from are; and what
    # NegateGradient hands back is no derivative.
    assert differentiable - {"NegateGradient", "ZeroGradient"} <= {name for name, _, _ in TABLE}


def test_a_gradient_is_negated_on_its_way_back():
    net = Net("adversary")
    loss = net.SumSqrElements(net.NegateGradient("x"))
    gradients = net.AddGradientOperators([loss])
    with LocalSession() as session:
        session.workspace().feed_blob("x", np.float32([1, -2]))
        session.run(net)
        dx = session.workspace().fetch_blob(str(gradients["x"]))
    np.testing.assert_array_equal(dx, [-2, 4])


@pytest.mark.parametrize(
    "name", ["StopGradient", "EQ", "Accuracy", "ConstantFill", "LearningRate", "Iter", "Sign"]
)
def test_nothing_flows_back(name):
    assert REGISTRY[name].rules(1, {}) == ()


@pytest.mark.parametrize("to", ["int32", "bool", "string", 10])
def test_nothing_flows_back_through_a_cast_to_integers(to):
    assert REGISTRY["Cast"].rules(1, {"to": to}) == ()


def test_python_without_gradient_is_not_differentiable():
    assert REGISTRY["Python"].rules(1, {"func": product}) is None
