import numpy as np
import pytest
from tests.operators.make import f32

from procession import LocalSession, Net
from procession.errors import OperatorError
from procession.operators import REGISTRY
from procession.operators.blocks import BLOCK, tables
from procession.testing.gradcheck import run_operator

G, M, LR = np.float32([0, 1, 2]), np.float32([1, 1, 1]), np.float32([0.5])


@pytest.mark.parametrize("shape", [(), (1,)])
def test_weighted_sum(shape):
    two, three = np.full(shape, 2, np.float32), np.full(shape, 3, np.float32)
    y = run_operator("WeightedSum", G, two, M, three, G, two)
    assert y.dtype == np.float32
    assert y.tolist() == [3, 7, 11]


def test_weighted_sum_is_a_step_of_gradient_descent_in_place():
    w, one, rate = M.copy(), np.ones(1, np.float32), np.float32([-0.5])
    assert REGISTRY["WeightedSum"].kernel(w, one, G, rate, out=w) is w
    assert w.tolist() == [1, 0.5, 0]


def test_weighted_sum_has_the_type_of_its_first_input():
    y = run_operator("WeightedSum", G, np.array(2.0), G.astype(np.float64), np.array(0.1))
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((G, LR, G), "3 inputs: they come in pairs"),
        ((G, LR, G[:2], LR), r"input 2 is \(2,\), input 0 is \(3,\)"),
        ((G, LR, G, G), r"the weight of input 2 must be a single number, not of shape \(3,\)"),
    ],
)
def test_weighted_sum_errors(inputs, message):
    with pytest.raises(ValueError, match=message):
        run_operator("WeightedSum", *inputs)


@pytest.mark.parametrize(
    ("arguments", "change", "velocity"),
    [
        ({}, [0, 0.5, 1], [0, 0.5, 1]),
        ({"momentum": 0.9}, [0.9, 1.4, 1.9], [0.9, 1.4, 1.9]),
        ({"momentum": 0.9, "nesterov": 1}, [0.81, 1.76, 2.71], [0.9, 1.4, 1.9]),
    ],
)
def test_momentum(arguments, change, velocity):
    results = run_operator("MomentumSGD", G, M, LR, **arguments)
    np.testing.assert_allclose(results, [change, velocity], rtol=1e-6)
    results = run_operator("MomentumSGDUpdate", G, M, LR, G, **arguments)
    np.testing.assert_allclose(results, [change, velocity, G - change], rtol=1e-6, atol=1e-7)
    assert {each.dtype for each in results} == {np.dtype(np.float32)}


def test_weighted_sum_gradient():
    x, y, dy = np.float32([1, 2]), np.float32([3, 4]), np.float32([10, 20])
    weights = np.float32([2]), np.float32(3)
    dx0, dx1 = run_operator("WeightedSumGradient", dy, x, weights[0], y, weights[1])
    assert (dx0.tolist(), dx1.tolist()) == ([20, 40], [30, 60])
    made = run_operator("WeightedSumGradient", dy, x, weights[0], y, weights[1], grad_on_w=True)
    assert [each.shape for each in made] == [(2,), (2,), (1,), ()]
    assert (made[2].tolist(), made[3].tolist()) == ([50], 110)


def test_weighted_sum_of_more_than_a_block():
    rng = np.random.default_rng(3)
    x, y, z = rng.normal(size=(3, 2 * BLOCK + 7)).astype(np.float32)
    half, two = np.float32([0.5]), np.float32([2])
    expected = x * 2 + y / 2 + z * 2
    assert np.array_equal(run_operator("WeightedSum", x, two, y, half, z, two), expected)
    assert REGISTRY["WeightedSum"].kernel(x, two, y, half, z, two, out=z) is z
    assert np.array_equal(z, expected)


STATE = {
    "Adadelta": lambda w, g: (w, w * w, w * w, g, LR),
    "Adagrad": lambda w, g: (w, w * w, g, LR),
    "Adam": lambda w, g: (w, w / 2, w * w, g, LR, np.int64([3])),
    "Ftrl": lambda w, g: (w, np.stack([w * w, w], -1), g),
    "MomentumSGDUpdate": lambda w, g: (g, w / 2, LR, w),
    "RmsProp": lambda w, g: (g, w * w, w, LR),
    "Wngrad": lambda w, g: (w, M[:1], g, LR),
}


@pytest.mark.parametrize("name", STATE)
def test_blocks_are_as_good_as_the_whole(name):
    rng = np.random.default_rng(4)
    w, g = rng.normal(size=(2, 2, BLOCK - 3)).astype(np.float32)
    whole = REGISTRY[name].kernel(*STATE[name](w, g))
    if name == "Wngrad":
        # Its b depends on all elements.
        whole = whole[:1]
    for row in range(2):
        part = REGISTRY[name].kernel(*STATE[name](w[row], g[row]))
        for one, other in zip(whole, part, strict=False):
            np.testing.assert_allclose(one[row], other, rtol=1e-6)


ROWS = {
    "SparseAdagrad": lambda w, i, g: (w, w * w, i, g, LR),
    "RowWiseSparseAdagrad": lambda w, i, g: (w, w[:, 0] ** 2, i, g, LR),
    "SparseAdam": lambda w, i, g: (w, w / 2, w * w, i, g, LR, np.int64([3])),
    "RowWiseSparseAdam": lambda w, i, g: (w, w / 2, w[:, 0] ** 2, i, g, LR, np.int64([3])),
    "SparseAdadelta": lambda w, i, g: (w, w * w, w * w, i, g, LR),
    "SparseFtrl": lambda w, i, g: (w, np.stack([w * w, w], -1), i, g),
    "SparseMomentumSGDUpdate": lambda w, i, g: (g, w / 2, LR, w, i),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(("width", "often"), [(3, 1), (3, 100), (5000, 1)])
def test_rows_are_updated_one_after_the_other(name, width, often):
    rng = np.random.default_rng(5)
    w = rng.normal(size=(6, width)).astype(np.float32)
    indices = np.array([4, 1, 4, 0, *[4] * often, 1, 2, 3])
    g = rng.normal(size=(indices.size, width)).astype(np.float32)
    inputs = ROWS[name](w, indices, g)
    at_once = REGISTRY[name].kernel(*inputs)
    homes = {written: read for read, written in REGISTRY[name].in_place}
    values = list(inputs)
    by_index, by_gradient = (
        next(place for place, each in enumerate(inputs) if each is what) for what in (indices, g)
    )
    for place in range(indices.size):
        values[by_index], values[by_gradient] = indices[[place]], g[[place]]
        made = REGISTRY[name].kernel(*values)
        for written, read in homes.items():
            if read != by_gradient:
                values[read] = made[written]
    for written, read in homes.items():
        if read != by_gradient:
            np.testing.assert_allclose(at_once[written], values[read], rtol=2e-5, atol=3e-7)
            assert np.array_equal(at_once[written][5], inputs[read][5])


def test_parameters_are_updated_where_they_are():
    net = Net("step")
    names = ["w", "m", "v"]
    net.Adam([*names, "g", "lr", "i"], names)
    net.SparseAdagrad(["table", "h", "rows", "dt", "lr"], ["table", "h"])
    session = LocalSession()
    workspace = session.workspace()
    rng = np.random.default_rng(6)
    values = {name: np.abs(rng.normal(size=4)).astype(np.float32) for name in [*names, "g"]}
    values |= {"table": f32(5, 2), "h": np.ones((5, 2), np.float32), "lr": LR, "i": np.int64([0])}
    for name, value in values.items():
        workspace.feed_blob(name, value)
    w, m, v, table, h = (values[name] for name in [*names, "table", "h"])
    for count in (1, 2, 3):
        rows, slices = np.arange(count), f32(count, 2)
        workspace.feed_blob("rows", rows)
        workspace.feed_blob("dt", slices)
        session.run(net)
        w, m, v = REGISTRY["Adam"].kernel(w, m, v, values["g"], LR, values["i"])
        table, h = REGISTRY["SparseAdagrad"].kernel(table, h, rows, slices, LR)
    for name, expected in zip([*names, "table", "h"], [w, m, v, table, h], strict=True):
        assert np.array_equal(workspace.fetch_blob(name), expected), name


def test_a_table_stays_where_it_is_whatever_the_number_of_rows(monkeypatch):
    given = []

    def spy(outs, *like):
        given.append(
            [
                out is not None and np.may_share_memory(out, x)
                for out, x in zip(outs, like, strict=True)
            ]
        )
        return tables(outs, *like)

    monkeypatch.setattr("procession.operators.adagrad.tables", spy)
    net = Net("step")
    net.SparseAdagrad(["table", "h", "rows", "dt", "lr"], ["table", "h"])
    session = LocalSession()
    for name, value in {"table": f32(5, 2), "h": np.ones((5, 2), np.float32), "lr": LR}.items():
        session.workspace().feed_blob(name, value)
    for count in (1, 2, 3):
        session.workspace().feed_blob("rows", np.arange(count))
        session.workspace().feed_blob("dt", f32(count, 2))
        session.run(net)
    assert given == [[False, False], [True, True], [True, True]]


def test_a_shape_that_does_not_fit_leaves_the_parameter_alone():
    net = Net("step")
    net.Adagrad(["w", "h", "g", "lr"], ["w", "h"])
    session = LocalSession()
    for name, value in {"w": G, "h": M, "g": G[:2], "lr": LR}.items():
        session.workspace().feed_blob(name, value)
    with pytest.raises(OperatorError, match=r"the gradient is float32 of shape \(2,\)"):
        session.run(net)
    assert session.workspace().fetch_blob("w").tolist() == G.tolist()


@pytest.mark.parametrize(
    ("name", "inputs", "error", "message"),
    [
        ("MomentumSGD", (G, M[:2], LR), ValueError, r"the momentum is float32 of shape \(2,\)"),
        ("MomentumSGD", (G, M, G), ValueError, "the learning rate must be a single number"),
        ("MomentumSGD", (G, M.astype(np.float64), LR), TypeError, "the momentum is float64"),
        ("MomentumSGDUpdate", (G, M, LR, G[:2]), ValueError, r"the parameter is float32 of shape"),
        ("Adagrad", (G, M, np.arange(3), LR), TypeError, "the gradient is int64"),
        ("Adam", (G, M, M, G, LR, np.arange(2)), ValueError, "the iteration must be a single"),
        ("SparseAdagrad", (G, M, np.array([3]), G[:1], LR), IndexError, "the index 3 is out of"),
        ("SparseAdagrad", (G, M, np.array([-1]), G[:1], LR), IndexError, "the index -1 is out of"),
        ("SparseAdagrad", (G, M, np.array([1]), G[:2], LR), ValueError, r"the gradient is \(2,\)"),
        ("SparseAdagrad", (G, M, np.float32([1]), G[:1], LR), TypeError, "must be integers"),
        ("SparseAdam", (G[0], M[0], M[0], np.array([0]), G[:1], LR, LR), ValueError, "no rows"),
        ("RowWiseSparseAdagrad", (G, M[:2], np.array([1]), G[:1], LR), ValueError, "one number fo"),
        ("Ftrl", (G, M, G), ValueError, "two numbers, n and z"),
        ("SparseWngrad", (G, G[:1], np.array([1]), G[:1], LR), ValueError, "b must not be 0"),
        ("ClipTensorByScaling", (G, LR), ValueError, "threshold=0.0 is not positive"),
        ("RowWiseCounter", (G, M[:2], np.array([1]), np.array([1])), ValueError, "the counts"),
    ],
)
def test_errors(name, inputs, error, message):
    with pytest.raises(error, match=message):
        run_operator(name, *inputs)


@pytest.mark.parametrize(
    ("name", "inputs", "arguments", "message"),
    [
        ("Adadelta", (G, M, M, G, LR), {"decay": 1.0}, "decay=1.0 must be between 0 and 1"),
        ("Ftrl", (G, np.ones((3, 2), np.float32), G, LR), {"alpha": 0.1}, "one of them"),
        ("Ftrl", (G, np.ones((3, 2), np.float32), G), {"alpha": 0.0}, "alpha must not be 0"),
        ("SparseLpRegularizer", (G, np.array([1])), {"p": 3.0}, "p is 1 or 2, not 3.0"),
        ("WeightScale", (G, np.array([1])), {"stepsize": 0}, "stepsize=0 is not positive"),
        ("Lars", (G, M, LR, LR, LR), {"offset": -1.0}, "must not be negative"),
    ],
)
def test_arguments_out_of_range(name, inputs, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_operator(name, *inputs, **arguments)


def test_the_threshold_of_clipping_is_the_same_in_every_step():
    net = Net("clip")
    net.ClipTensorByScaling(["x", "length", "more"], "y", threshold=4.0)
    session = LocalSession()
    for name, value in {"x": M, "length": [2.0], "more": [0.25]}.items():
        session.workspace().feed_blob(name, np.float32(value))
    for _ in range(3):
        session.run(net)
        assert session.workspace().fetch_blob("y").tolist() == [0.5, 0.5, 0.5]


def test_ftrl_makes_zeros_where_nothing_is_divided_by():
    zero = np.zeros(2, np.float32)
    made = run_operator("Ftrl", zero, np.zeros(4, np.float32), zero, beta=0.0, lambda2=0.0)
    assert made[0].tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["Sum", "Mean"])
@pytest.mark.parametrize("prefix", ["", "RowWise"])
def test_adagrad_right_from_the_gradient_of_segments(prefix, kind):
    rng = np.random.default_rng(7)
    table, dy = rng.normal(size=(9, 4)).astype(np.float32), f32(5, 4)
    moment = np.ones(9 if prefix else (9, 4), np.float32)
    lengths = np.array([3, 0, 70, 1, 2], np.int32)
    indices = rng.integers(0, 9, 76)
    rows = REGISTRY[f"SparseLengthsIndicesInGradient{kind}Gradient"].kernel(dy, lengths, indices)
    plain = REGISTRY[f"{prefix}SparseAdagrad"].kernel(table, moment, indices, rows, LR)
    fused = REGISTRY[f"{prefix}SparseAdagradFusedWithSparseLengths{kind}Gradient"].kernel
    for one, other in zip(plain, fused(table, moment, indices, dy, LR, lengths), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(ValueError, match="there are 5 segments of rows of a parameter"):
        fused(table, moment, indices, dy[:4], LR, lengths)
    with pytest.raises(ValueError, match="add up to 76, but there are 75"):
        fused(table, moment, indices[1:], dy, LR, lengths)
    with pytest.raises(TypeError, match="the gradient is float64"):
        fused(table, moment, indices, dy.astype(np.float64), LR, lengths)
