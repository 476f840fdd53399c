"""What stands for a kernel in a net that runs many times does what the kernel does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import LocalSession, Net, OperatorError
from procession.operators import REGISTRY
from procession.operators.registry import define


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _floats(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return _rng().normal(size=shape).astype(dtype)


def _labels(rows: int, classes: int, *more: int, dtype: Any = np.int32) -> np.ndarray:
    return _rng().integers(0, classes, (rows, *more)).astype(dtype)


def _layers() -> Any:
    # The last ones are large enough for rows that are written one by one, or a product across.
    sizes = [(1, 5, 3), (4, 5, 3), (1, 1, 1), (0, 5, 3), (1, 600, 130), (3, 600, 130)]
    for rows, k, n in [*sizes, (8, 600, 130), (64, 300, 200)]:
        for dtype in (np.float32, np.float64):
            x, dy = _floats(rows, k, dtype=dtype), _floats(rows, n, dtype=dtype)
            w, b = _floats(n, k, dtype=dtype), _floats(n, dtype=dtype)
            yield "FC", [x, w, b], {}, 1
            yield "FCTransposed", [x, w.T.copy(), b], {}, 1
            for outputs in (2, 3):
                yield "FCGradient", [x, w, dy], {}, outputs
                yield "FCTransposedGradient", [x, w.T.copy(), dy], {}, outputs


def _losses() -> Any:
    for rows, classes in [(1, 1), (1, 10), (7, 10), (40, 10), (40, 50), (3, 700)]:
        for dtype, kind in [(np.float32, np.int32), (np.float64, np.int64)]:
            x = _floats(rows, classes, dtype=dtype) * 30
            for labels in (_labels(rows, classes, dtype=kind), _labels(rows, classes, 1)):
                for arguments in ({}, {"scale": 0.5}):
                    yield "SoftmaxWithLoss", [x, labels], arguments, 2
                    slope = np.array(0.3, dtype)
                    given = [x, labels, np.abs(_floats(rows, classes, dtype=dtype)), slope]
                    yield "SoftmaxWithLossGradient", given, arguments, 1


def _probabilities() -> Any:
    for rows, classes in [(1, 1), (1, 10), (7, 10), (40, 10), (40, 50)]:
        for dtype in (np.float32, np.float64, np.float16):
            x = _floats(rows, classes, dtype=dtype)
            chances = np.abs(x) + dtype(0.1)
            yield "Softmax", [x * 30], {}, 1
            yield "SoftmaxGradient", [chances, x], {}, 1
            for labels in (_labels(rows, classes), _labels(rows, classes, 1)):
                yield "LabelCrossEntropy", [chances, labels], {}, 1
                dy = _floats(rows, dtype=dtype)
                yield "LabelCrossEntropyGradient", [chances, labels, dy], {}, 1


def _others() -> Any:
    one, rate = np.ones(1, np.float32), np.full(1, -0.01, np.float32)
    for shape in [(3,), (4, 5), (100, 100)]:
        x, dy = _floats(*shape), _floats(*shape)
        for weight in (one, rate):
            yield "WeightedSum", [x, weight, dy, rate], {}, 1
        yield "WeightedSum", [x, one.reshape(()), dy, rate.reshape(())], {}, 1
    for shape in [(), (3,), (2, 3, 4), (0, 2)]:
        x = _floats(*shape)
        x[...] = np.where(np.abs(x) < 0.3, np.nan, x)
        yield "Relu", [x], {}, 1
        yield "ReluGradient", [x, _floats(*shape)], {}, 1
        for arguments in (
            {},
            {"value": 2.5},
            {"value": 3},
            {"value": True},
            {"value": 2, "dtype": 1},
        ):
            yield "ConstantFill", [x], arguments, 1


CASES = [*_layers(), *_losses(), *_probabilities(), *_others()]


def _name(case: Any) -> str:
    name, inputs, arguments, outputs = case
    shapes = "-".join("x".join(map(str, each.shape)) + each.dtype.char for each in inputs)
    return f"{name}-{shapes}-{outputs}-{'-'.join(map(str, arguments.values()))}"


def _looks(arrays: Any) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    return [(each.shape, each.dtype) for each in arrays]


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_it_does_what_the_kernel_does_bit_for_bit(case: Any) -> None:
    name, inputs, arguments, outputs = case
    definition = REGISTRY[name]
    blanks = {"out": None} if "out" in definition.requests else {"outs": (None,) * outputs}
    with np.errstate(all="ignore"):
        wanted = definition.kernel(*inputs, **arguments, **blanks)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    assert definition.specialize is not None
    made = [np.full_like(each, 7) for each in wanted]
    all_arguments = {**definition.arguments, **arguments}
    function = definition.specialize(_looks(inputs), _looks(made), **all_arguments)
    assert function is not None
    before = [each.copy() for each in inputs]
    for _ in range(2):
        # What it keeps from call to call does no harm.
        with np.errstate(all="ignore"):
            function(*inputs, *made)
        for each, other in zip(made, wanted, strict=True):
            np.testing.assert_array_equal(each, other)
    for each, other in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(each, other)


@pytest.mark.parametrize(
    ("name", "inputs", "place"),
    [
        ("Relu", [_floats(4, 5)], 0),
        ("ReluGradient", [_floats(4, 5), _floats(4, 5)], 0),
        ("ReluGradient", [_floats(4, 5), _floats(4, 5)], 1),
        *(
            (name, [np.abs(_floats(rows, 6)) + 1, *more], place)
            for rows in (1, 4)
            for name, more, places in [
                ("Softmax", [], [0]),
                ("SoftmaxGradient", [_floats(rows, 6)], [0, 1]),
                ("LabelCrossEntropyGradient", [_labels(rows, 6), _floats(rows)], [0]),
            ]
            for place in places
        ),
        ("FC", [_floats(1, 6), _floats(6, 6), _floats(6)], 0),
        ("FC", [_floats(6, 6), _floats(6, 6), _floats(6)], 0),
        ("FC", [_floats(6, 6), _floats(6, 6), _floats(6)], 1),
        *(
            ("WeightedSum", [_floats(*shape), np.ones(1, np.float32), *more], place)
            for shape in [(4, 5), (100, 100)]
            for more in [[_floats(*shape) * 2, np.full(1, 0.5, np.float32)]]
            for place in (0, 2)
        ),
        *(
            ("SoftmaxWithLossGradient", [x, label, np.abs(x), np.ones((), np.float32)], place)
            for rows in (1, 6)
            for x, label in [(_floats(rows, 4), _labels(rows, 4))]
            for place in (0, 2)
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_output_may_be_an_input(name: str, inputs: list[np.ndarray], place: int) -> None:
    definition = REGISTRY[name]
    wanted = definition.kernel(*inputs, out=None)
    given = [each.copy() for each in inputs]
    specialize: Any = definition.specialize
    function = specialize(_looks(given), _looks([wanted]), **definition.arguments)
    function(*given, given[place])
    np.testing.assert_array_equal(given[place], wanted)


def test_a_sum_of_a_tensor_and_a_multiple_of_itself() -> None:
    x, one, rate = _floats(100, 100), np.ones(1, np.float32), np.full(1, 0.5, np.float32)
    specialize: Any = REGISTRY["WeightedSum"].specialize
    function = specialize(_looks([x, one, x, rate]), _looks([x]), grad_on_w=False)
    wanted = x * np.float32(1.5)
    function(x, one, x, rate, x)
    np.testing.assert_allclose(x, wanted, rtol=1e-6)


def test_what_moves_is_found_where_it_lies() -> None:
    one, rate = np.ones(1, np.float32), np.full(1, 0.5, np.float32)
    specialize: Any = REGISTRY["WeightedSum"].specialize
    looks = _looks([_floats(100, 100), one, _floats(100, 100), rate])
    function = specialize(looks, looks[:1], grad_on_w=False)
    for factor in range(1, 4):
        x, term = _floats(100, 100), _floats(100, 100) * factor
        wanted = REGISTRY["WeightedSum"].kernel(x, one, term, rate, out=x.copy())
        function(x, one, term, rate, x)
        np.testing.assert_allclose(x, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "inputs", "arguments"),
    [
        ("FC", [_floats(2, 3, 4), _floats(5, 12), _floats(5)], {}),
        ("FC", [_floats(2, 3), _floats(5, 3), _floats(5)], {"axis": 0}),
        ("FC", [_floats(2, 3), _floats(5, 4), _floats(5)], {}),
        ("FC", [_floats(2, 3), _floats(5, 3), _floats(5, dtype=np.float64)], {}),
        ("SoftmaxWithLoss", [_floats(2, 3), _floats(2, 3)], {"label_prob": 1}),
        ("SoftmaxWithLoss", [_floats(2, 3), _labels(2, 3), _floats(2)], {}),
        ("SoftmaxWithLoss", [_floats(2, 3), _labels(2, 3)], {"scale": -1.0}),
        ("SoftmaxWithLoss", [_floats(2, 3, 4), _labels(2, 12)], {}),
        ("WeightedSum", [_floats(3), np.ones(2, np.float32), _floats(3), np.ones(1)], {}),
        ("WeightedSum", [_floats(3), np.ones(1, np.float32)], {}),
        ("Softmax", [_floats(2, 3, 4)], {}),
        ("Softmax", [_floats(2, 3)], {"axis": 0}),
        ("SoftmaxGradient", [_floats(2, 3), _floats(2, 3, dtype=np.float64)], {}),
        ("LabelCrossEntropy", [_floats(2, 3), _labels(2, 3).astype(np.uint8)], {}),
        ("LabelCrossEntropyGradient", [_floats(2, 3), _labels(2, 3), _floats(2, 1)], {}),
        ("Relu", [np.ones(3, np.bool_)], {}),
        ("ReluGradient", [_floats(3), _floats(1)], {}),
        ("ConstantFill", [], {"shape": [2]}),
        ("ConstantFill", [np.array([2])], {"input_as_shape": True}),
    ],
)
def test_the_unusual_is_left_to_the_kernel(
    name: str, inputs: list[np.ndarray], arguments: dict[str, Any]
) -> None:
    definition = REGISTRY[name]
    specialize: Any = definition.specialize
    outputs = [((2, 5), np.dtype(np.float32))] * definition.min_outputs
    assert specialize(_looks(inputs), outputs, **{**definition.arguments, **arguments}) is None


def test_only_a_kernel_with_out_can_be_specialized() -> None:
    with pytest.raises(TypeError, match="`specialize` is for kernels that take `out`"):
        define("Odd", lambda x: x, specialize=lambda inputs, outputs: None)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_label_that_is_no_class_is_named_in_a_net_that_has_run_often(rows: int) -> None:
    net = Net("loss")
    net.SoftmaxWithLoss(["x", "label"], ["p", "loss"])
    net.AddGradientOperators(["loss"])
    with LocalSession() as session:
        workspace = session.workspace()
        workspace.feed_blob("x", _floats(rows, 5))
        workspace.feed_blob("label", np.full(rows, 4, np.int32))
        compiled = session.compile(net)
        for _ in range(4):
            session.run(compiled)
        whole = workspace.fetch_blob("p")
        for bad in (5, -1):
            workspace.feed_blob("label", np.full(rows, bad, np.int32))
            with pytest.raises(OperatorError, match=rf"label {bad} at 0 is not in") as info:
                session.run(compiled)
            assert info.value.operator == "SoftmaxWithLoss"
        workspace.feed_blob("label", np.full(rows, 4, np.int32))
        session.run(compiled)
        np.testing.assert_array_equal(workspace.fetch_blob("p"), whole)


def test_each_workspace_has_its_own() -> None:
    made = []

    def specialize(inputs: Any, outputs: Any) -> Any:
        kept = np.empty(inputs[0][0], inputs[0][1])
        made.append(kept)

        def double(x: np.ndarray, y: np.ndarray) -> None:
            np.add(x, x, kept)
            y[...] = kept

        return double

    definition = define(
        "DoubleOfItsOwn", lambda x, *, out=None: np.add(x, x, out=out), specialize=specialize
    )
    REGISTRY.add(definition)
    try:
        net = Net("doubling")
        net.DoubleOfItsOwn("x", "y")
        for value in (1.0, 2.0):
            with LocalSession() as session:
                workspace = session.workspace()
                compiled = session.compile(net)
                for turn in range(5):
                    workspace.feed_blob("x", np.full(3, value + turn, np.float32))
                    session.run(compiled)
                    assert workspace.fetch_blob("y").tolist() == [2 * (value + turn)] * 3
        assert len({id(kept) for kept in made}) == len(made) >= 2
    finally:
        REGISTRY.remove("DoubleOfItsOwn")
