"""Operators held against functions, and run one by one."""

from __future__ import annotations

import numpy as np
import pytest

from procession import DeviceError, Net, Workspace, WorkspaceError, core
from procession.graph.proto import OperatorDef
from procession.testing.devices import compare_net, compare_operator
from procession.testing.references import check_reference, check_same, check_validation
from procession.testing.running import benchmark_in, feed_all, placed, run_in

X = np.array([[0.5, -1.0, 2.0], [0.1, 0.7, -0.4]], np.float32)
CPUS = [core.DeviceOption(0), core.DeviceOption(0, 1)]


@pytest.fixture
def workspace() -> Workspace:
    return Workspace()


def product() -> OperatorDef:
    return core.CreateOperator("Mul", ["a", "b"], ["ab"])


def gather() -> OperatorDef:
    return core.CreateOperator("Gather", ["table", "rows"], ["y"])


# Running.


def test_an_operator_is_fed_run_and_fetched(workspace: Workspace) -> None:
    (found,) = run_in(workspace, product(), [X, X + 1], device_option=CPUS[1])
    np.testing.assert_allclose(found, X * (X + 1))
    assert workspace.names() == ["a", "ab", "b"]
    times = benchmark_in(workspace, product(), [X, X], iterations=2)
    assert len(times) == 2
    assert min(times) > 0


def test_an_operator_is_placed_in_a_copy() -> None:
    operator = product()
    assert placed(operator, CPUS[1]).device_option.device_id == 1
    assert operator.device_option.device_id == 0
    assert placed(placed(operator, CPUS[1]), None).device_option.device_id == 1


def test_what_cannot_be_fed(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="2 blobs"):
        run_in(workspace, product(), [X])
    gpu = core.DeviceOption(1)
    with pytest.raises(DeviceError, match="'b'"):
        feed_all(workspace, ["a", "b"], [X, X], None, {"b": gpu})
    feed_all(workspace, ["c"], [X, X], gpu, {"c": CPUS[0]})
    assert workspace.has_blob("c")


# References.


def test_a_right_operator_and_its_gradient(workspace: Workspace) -> None:
    (found,) = check_reference(
        workspace,
        product(),
        [X, X + 1],
        lambda a, b: [a * b],
        output_to_grad="ab",
        grad_reference=lambda grad, outputs, inputs: (grad * inputs[1], outputs[0] * inputs[0]),
        ensure_outputs_are_inferred=True,
    )
    np.testing.assert_allclose(found, X * (X + 1))


def test_a_sparse_gradient(workspace: Workspace) -> None:
    rows = np.array([1, 0, 1])

    def check(values: object, indices: object) -> None:
        check_reference(
            workspace,
            gather(),
            [X, rows],
            lambda table, rows: [table[rows]],
            output_to_grad="y",
            grad_reference=lambda grad, outputs, inputs: ((values, indices), None),
        )

    check(X[rows], rows)
    check(X[rows], None)
    with pytest.raises(AssertionError):
        check(X[rows], rows[::-1] + 1)
    with pytest.raises(AssertionError):
        check(X[rows] + 1, rows)


def test_a_wrong_operator_is_found(workspace: Workspace) -> None:
    def check(reference: object, **more: object) -> None:
        check_reference(workspace, product(), [X, X], reference, **more)

    with pytest.raises(AssertionError, match="ab"):
        check(lambda a, b: [a * b + 0.01])
    check(lambda a, b: [a * b + 0.01], atol=0.02)
    with pytest.raises(AssertionError, match="1 outputs of Mul, and not 2"):
        check(lambda a, b: [a, b])
    with pytest.raises(RuntimeError, match="a tuple or a list"):
        check(lambda a, b: a * b)
    with pytest.raises(AssertionError, match="3 gradients of the reference"):
        check(
            lambda a, b: [a * b],
            output_to_grad="ab",
            grad_reference=lambda grad, outputs, inputs: (grad, grad, grad),
        )
    with pytest.raises(AssertionError, match="needs output_to_grad"):
        check(lambda a, b: [a * b], grad_reference=lambda *given: given)


def test_a_gradient_that_should_not_be_missing(workspace: Workspace) -> None:
    with pytest.raises(AssertionError, match="rows has no gradient"):
        check_reference(
            workspace,
            gather(),
            [X, np.array([0])],
            lambda table, rows: [table[rows]],
            output_to_grad="y",
            grad_reference=lambda grad, outputs, inputs: ((grad, None), grad),
        )


def test_an_output_whose_shape_is_not_inferred(workspace: Workspace) -> None:
    net = Net("python")
    net.Python(lambda inputs, outputs: outputs[0].feed(inputs[0].data))("x", "y")
    operator = net.Proto().op[0]
    check_reference(workspace, operator, [X], lambda x: [x])
    with pytest.raises(AssertionError, match="inferred is None"):
        check_reference(workspace, operator, [X], lambda x: [x], ensure_outputs_are_inferred=True)


def test_some_outputs_are_compared(workspace: Workspace) -> None:
    split = core.CreateOperator("Split", ["x"], ["a", "b", "c"], axis=1)
    found = check_reference(workspace, split, [X], lambda x: [x[:, 2:]], outputs_to_check=[2])
    assert [each.tolist() for each in found] == [X[:, 2:].tolist()]


def test_texts_are_the_same_or_not() -> None:
    texts = np.array([b"a", b"b"], object)
    check_same("texts", texts, texts.copy(), 0.1)
    with pytest.raises(AssertionError):
        check_same("texts", texts, texts[::-1], 0.1)


def test_a_validator_gets_inputs_and_outputs(workspace: Workspace) -> None:
    seen = {}
    check_validation(workspace, product(), [X, X], lambda **given: seen.update(given))
    assert list(seen) == ["a", "b", "ab"]
    init = Net("init")
    init.ConstantFill([], "b", shape=[2, 3], value=2.0)
    in_place = core.CreateOperator("Mul", ["a", "b"], ["a"])
    with pytest.raises(AssertionError, match="as_kwargs"):
        check_validation(workspace, in_place, [X, X], print)
    check_validation(
        workspace,
        in_place,
        [X, X],
        lambda inputs, outputs: np.testing.assert_allclose(outputs[0], inputs[0] * 2),
        as_kwargs=False,
        init_net=init,
    )


# Devices.


def test_devices_agree_on_what_is_not_random(workspace: Workspace) -> None:
    relu = core.CreateOperator("Relu", "x", "y")
    assert compare_operator(workspace, relu, [X], [0], CPUS, threshold=0.01) == []
    random = core.CreateOperator("UniformFill", [], "y", shape=[5])
    (line,) = compare_operator(workspace, random, [], [0], CPUS, threshold=0.0001)
    assert line.startswith("y differs with")
    net = Net("net")
    net.Relu("x", "y")
    net.UniformFill([], "random", shape=[5])

    def differing(**more: object) -> list[str]:
        found = compare_net(workspace, net.Proto(), CPUS, threshold=1e-4, inputs={"x": X}, **more)
        return [line.split()[0] for line in found]

    assert differing() == ["random"]
    assert differing(ignore=["random"]) == []
    assert differing(blobs_to_check=["y"]) == []


def test_each_device_begins_with_nothing(workspace: Workspace) -> None:
    workspace.feed_blob("left", X)
    relu = core.CreateOperator("Relu", "x", "y")
    compare_operator(workspace, relu, [X], [0], CPUS, threshold=0.01)
    assert workspace.names() == ["x", "y"]
    with pytest.raises(DeviceError):
        compare_operator(workspace, relu, [X], [0], [core.DeviceOption(1)], threshold=0.01)
