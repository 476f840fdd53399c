"""One operator of a program: memory, random numbers, errors."""

import pickle

import numpy as np
import pytest

from procession import (
    BlobNotFoundError,
    LocalSession,
    Net,
    Node,
    OperatorError,
    RunnableTypeError,
    Task,
    TaskGroup,
    operator,
)
from procession.blobs.shared import MINIMUM
from procession.operators import REGISTRY

SIZES = [4, MINIMUM]


@pytest.fixture
def session():
    with LocalSession() as session:
        yield session


@pytest.fixture
def register():
    made = []

    def add(name, kernel, **options):
        operator(name, **options)(kernel)
        made.append(name)

    yield add
    for name in made:
        REGISTRY.remove(name)


def address(session, name):
    """Where a blob lies, without holding on to it."""
    return session._workspace("local").find(name).value.ctypes.data


# Memory.


@pytest.mark.parametrize("size", SIZES)
def test_from_the_second_run_on_results_go_where_the_last_ones_were(session, size):
    outs = []

    @operator("TestPlusOne")
    def plus_one(x, *, out=None):
        outs.append(None if out is None else out.ctypes.data)
        return np.add(x, 1, out=out)

    try:
        net = Net("n")
        net.TestPlusOne("x", "y")
        session.workspace().feed_blob("x", np.zeros(size, np.float32))
        session.run(net)
        home = address(session, "y")
        for _ in range(3):
            session.run(net)
        assert outs == [None, home, home, home]

        # While somebody looks at a large blob, its next value goes elsewhere.
        looked = session.workspace().fetch_blob("y")
        session.workspace().feed_blob("x", np.ones(size, np.float32))
        session.run(net)
        assert (looked == 1).all()
        assert (session.workspace().fetch_blob("y") == 2).all()
        assert (outs[-1] == home) is (size < MINIMUM // 4)
        del looked
        settled = address(session, "y")
        session.run(net)
        assert outs[-1] == settled

        # Other shapes, and other dtypes, are another first time.
        for x in (np.zeros(size + 1, np.float32), np.zeros(size + 1, np.float64)):
            session.workspace().feed_blob("x", x)
            session.run(net)
            assert outs[-1] is None
            assert session.workspace().fetch_blob("y").dtype == x.dtype
            session.run(net)
            assert outs[-1] is not None
    finally:
        REGISTRY.remove("TestPlusOne")


@pytest.mark.parametrize("size", SIZES)
def test_in_place(session, size):
    net = Net("n")
    net.Scale("x", "x", scale=2.0)
    net.Add(["x", "x"], "x")
    session.workspace().feed_blob("x", np.ones(size, np.float32))
    snapshots = []
    for _ in range(4):
        session.run(net)
        snapshots.append(session.workspace().fetch_blob("x"))
    for power, snapshot in enumerate(snapshots, start=1):
        assert (snapshot == 4**power).all()


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_does_not_follow_its_original(session, size):
    net = Net("n")
    net.Copy("x", "y")
    for number in range(4):
        session.workspace().feed_blob("x", np.full(size, number, np.float32))
        session.run(net)
        session.workspace().feed_blob("x", np.full(size, -1, np.float32))
        assert (session.workspace().fetch_blob("y") == number).all()


@pytest.mark.parametrize("size", SIZES)
def test_a_kernel_that_returns_its_input_gives_a_copy(session, register, size):
    register("TestSame", lambda x: x)
    net = Net("n")
    net.TestSame("x", "y")
    net.Scale("x", "x", scale=2.0)
    session.workspace().feed_blob("x", np.ones(size, np.float32))
    for factor in (1, 2, 4):
        session.run(net)
        assert (session.workspace().fetch_blob("y") == factor).all()
        assert (session.workspace().fetch_blob("x") == 2 * factor).all()


def test_a_python_operator_may_keep_what_it_puts_out(session):
    kept = np.zeros(MINIMUM, np.float32)

    def feed(inputs, outputs):
        kept[:] += 1
        outputs[0].feed(kept)

    net = Net("n")
    net.Python(feed)([], ["x"])
    net.Scale("x", "x", scale=10.0)
    for number in (1, 2, 3):
        session.run(net)
        assert (kept == number).all()
        assert (session.workspace().fetch_blob("x") == 10 * number).all()


def test_a_kernel_cannot_write_into_its_inputs(session, register):
    def vandal(x):
        x[...] = 1
        return x.copy()

    register("TestVandal", vandal)
    net = Net("n")
    net.TestVandal("x", "y")
    session.workspace().feed_blob("x", np.zeros(3, np.float32))
    with pytest.raises(OperatorError, match="read-only"):
        session.run(net)
    assert not session.workspace().fetch_blob("x").any()


@pytest.mark.parametrize("value", ["text", {"a": [1]}, None])
def test_objects_go_through_operators_as_they_are(session, value):
    net = Net("n")
    net.Copy("x", "y")
    session.workspace().feed_blob("x", value)
    for _ in range(3):
        session.run(net)
        assert session.workspace().fetch_blob("y") == value
        assert type(session.workspace().fetch_blob("y")) is type(value)


def test_arrays_of_objects_of_any_length_go_through_operators(session):
    net = Net("n")
    net.Copy("x", "y")
    for length in (2, 2, 3, MINIMUM, MINIMUM):
        session.workspace().feed_blob("x", np.full(length, "word", object))
        session.run(net)
        assert session.workspace().fetch_blob("y").tolist() == ["word"] * length


def test_long_texts_can_be_filled_in_again_and_again(session):
    net = Net("n")
    net.ConstantFill([], "x", shape=[MINIMUM], value="word")
    for _ in range(3):
        session.run(net)
    assert session.workspace().fetch_blob("x").tolist() == ["word"] * MINIMUM


def test_a_tensor_may_become_an_object_and_back(session):
    net = Net("n")
    net.Copy("x", "y")
    for value in (np.float32([1, 2]), "text", np.float32([3, 4]), np.float32([5, 6])):
        session.workspace().feed_blob("x", value)
        session.run(net)
        np.testing.assert_array_equal(session.workspace().fetch_blob("y"), value)


def test_scalars_that_kernels_return_become_arrays(session, register):
    register("TestTotal", lambda x: np.sum(x))
    register("TestTotalOut", lambda x, *, out=None: np.sum(x, out=out))
    register("TestBoth", lambda x: (np.sum(x), x.max()), outputs=2)
    net = Net("n")
    net.TestTotal("x", "a")
    net.TestTotalOut("x", "b")
    net.TestBoth("x", ["c", "d"])
    session.workspace().feed_blob("x", np.float32([1, 2]))
    for _ in range(2):
        session.run(net)
        fetched = [session.workspace().fetch_blob(name) for name in "abcd"]
        assert [array.tolist() for array in fetched] == [3, 3, 3, 2]
        assert {(array.shape, array.dtype.name) for array in fetched} == {((), "float32")}


# Random numbers.


def numbers(session, *seed, runs=2):
    net = Net("n")
    for name in "ab":
        net.UniformFill([], name, shape=[8])
    if seed:
        net.set_rand_seed(*seed)
    compiled = session.compile(net)
    found = []
    for _ in range(runs):
        session.run(compiled)
        found += [session.workspace().fetch_blob(name).tolist() for name in "ab"]
    return found


def test_seeded_numbers_come_again(session):
    first = numbers(session, 7)
    with LocalSession() as other:
        assert numbers(other, 7) == first
    assert len({tuple(each) for each in first}) == 4
    assert numbers(session, 8) != first


def test_seeds_count_up_from_operator_to_operator(session):
    a, b = numbers(session, 7, runs=1)
    assert a != b
    assert numbers(session, 8, runs=1)[0] == b
    same = numbers(session, 7, False, runs=1)
    assert same == [a, a]


def test_without_a_seed_numbers_are_new(session):
    first, second = numbers(session), numbers(session)
    assert len({tuple(each) for each in first + second}) == 8


# Errors.


def failing(error):
    def fail(inputs, outputs):
        raise error

    return fail


def test_what_an_operator_error_knows(session):
    net = Net("faulty")
    net.Const(np.float32([[1, 2]]), "x")
    net.FC(["x", "w", "b"], "y")  # the line
    with TaskGroup() as group, Node("n1"):
        Task(step=net, name="training")
    session.workspace("n1").feed_blob("w", np.zeros((3, 4), np.float32))
    session.workspace("n1").feed_blob("b", np.zeros(3, np.float64))
    with pytest.raises(OperatorError) as caught:
        session.run(group)
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert (error.net, error.operator, error.task) == ("faulty", "FC", "n1/training")
    assert error.source.startswith(f"{__file__}:")
    assert error.source.endswith('net.FC(["x", "w", "b"], "y")  # the line')
    assert isinstance(error.__cause__, ValueError)
    text = str(error)
    assert text.startswith("ValueError: ")
    assert "operator FC(x, w, b) -> y of net 'faulty' (task 'n1/training', node" in text
    assert "inputs: x float32(1, 2), w float32(3, 4), b float64(3)" in text
    assert f"added at {error.source}" in text
    assert "Traceback" in error.remote_traceback
    assert "ValueError" in error.remote_traceback


def test_errors_end_with_the_debug_info_of_the_operator():
    net = Net("faulty")
    net.Add(["x", "y"], "z", debug_info="Feed x and y alike")
    session = LocalSession()
    session.workspace().feed_blob("x", np.zeros(3, np.float32))
    with pytest.raises(BlobNotFoundError) as missing:
        session.run(net)
    session.workspace().feed_blob("y", np.zeros(2, np.float32))
    with pytest.raises(OperatorError) as failed:
        session.run(net)
    for caught in (missing, failed):
        assert str(caught.value).endswith("\n  Feed x and y alike")


def test_the_node_of_an_isolated_session_is_named():
    net = Net("n")
    net.Python(failing(KeyError("k")))([], [])
    with LocalSession(isolate=True) as session:
        with pytest.raises(OperatorError, match="KeyError: 'k'") as caught:
            session.run(Task(step=net, node="n7"))
        assert caught.value.node == "n7"
        assert "inputs: none" in str(caught.value)


def test_errors_travel():
    error = OperatorError("text", net="n", operator="FC", node="n1", task="t", source="s")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.net, back.operator, back.node) == ("text", "n", "FC", "n1")


@pytest.mark.parametrize("error", [ValueError(), SystemExit(3), StopIteration("x"), MemoryError()])
def test_whatever_a_function_raises_is_an_operator_error(session, error):
    net = Net("n")
    net.Python(failing(error))([], [])
    with pytest.raises(OperatorError, match=type(error).__name__) as caught:
        session.run(net)
    assert caught.value.__cause__ is error


def test_an_interrupt_is_no_operator_error(session):
    net = Net("n")
    net.Python(failing(KeyboardInterrupt()))([], [])
    with pytest.raises(KeyboardInterrupt):
        session.run(net)


@pytest.mark.parametrize(
    ("result", "outputs", "message"),
    [
        ((1, 2, 3), 2, "returned 3 values for 2 outputs"),
        (np.zeros(2), 2, "returned 1 values for 2 outputs"),
        (np.zeros(2), 0, "returned 1 values for 0 outputs"),
        ((), 1, "returned 0 values for 1 outputs"),
    ],
)
def test_a_kernel_that_returns_something_else(session, register, result, outputs, message):
    register("TestWrong", lambda: result, outputs=outputs)
    net = Net("n")
    net.TestWrong([], outputs)
    with pytest.raises(OperatorError, match=message):
        session.run(net)


def test_a_failed_operator_leaves_no_blob(session):
    net = Net("n")
    net.Const(np.float32([1]), "x")
    net.MatMul(["x", "x"], "y")
    with pytest.raises(OperatorError):
        session.run(net)
    assert session.workspace().names() == ["x"]


@pytest.mark.parametrize("size", SIZES)
def test_after_an_error_a_run_can_be_tried_again(session, size):
    net = Net("n")
    net.Add(["x", "y"], "z")
    workspace = session.workspace()
    workspace.feed_blob("x", np.ones(size, np.float32))
    for y in (np.ones(size), np.ones(size + 1), np.full(size, 2)):
        workspace.feed_blob("y", y.astype(np.float32))
        if len(y) == size:
            session.run(net)
        else:
            with pytest.raises(OperatorError):
                session.run(net)
            assert (workspace.fetch_blob("z") == 2).all()
    assert (workspace.fetch_blob("z") == 3).all()


def test_a_blob_that_is_missing_in_the_middle(session):
    def remove(inputs, outputs, workspace):
        workspace.remove_blob("x")

    net = Net("n")
    net.Python(remove, pass_workspace=True)([], [])
    net.Relu("x", "y")  # here
    session.workspace().feed_blob("x", np.float32([1]))
    with pytest.raises(BlobNotFoundError, match="no blob 'x'") as caught:
        session.run(net)
    assert caught.value.blob == "x"
    assert "wanted by operator Relu(x) -> y of net 'n' (task 'local/n')" in str(caught.value)
    assert 'net.Relu("x", "y")  # here' in str(caught.value)


def test_a_net_to_run_is_a_message(session):
    inner = Net("inner")
    inner.Const(1.0, "x")
    net = Net("n")
    net.If([net.Const(True)], [], then_net=inner)
    with pytest.raises(
        RunnableTypeError, match=r"argument 'then_net' of operator If.* net\.Proto\(\), not as Net"
    ):
        session.run(net)
    net = Net("n")
    net.CreateScope([], "s")
    net.Do("s", "s", net=inner)
    with pytest.raises(
        OperatorError, match=r"TypeError: a net to run .* net\.Proto\(\), not as Net"
    ):
        session.run(net)


def test_context_is_told_where_it_is(session):
    seen = {}

    @operator("TestLook", outputs=(0, None))
    def look(*xs, context):
        seen.update(inputs=context.inputs, outputs=context.outputs, workspace=context.workspace)
        context.state["runs"] = context.state.get("runs", 0) + 1
        seen["runs"] = context.state["runs"]
        return tuple(np.zeros(1) for _ in context.outputs)

    try:
        net = Net("n")
        net.TestLook(["a", "b"], ["c", "d"])
        for name in "ab":
            session.workspace().feed_blob(name, 1)
        for _ in range(3):
            session.run(net)
        assert seen.pop("workspace") is session._workspace("local")
        assert seen == {"inputs": ("a", "b"), "outputs": ("c", "d"), "runs": 3}
    finally:
        REGISTRY.remove("TestLook")
