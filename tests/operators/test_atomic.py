import numpy as np
import pytest

from procession import LocalSession, Net, execution_step
from procession.operators.handles import Counter, Mutex
from procession.testing.gradcheck import run_operator


@pytest.mark.parametrize(
    ("name", "dtype"), [("AtomicFetchAdd", np.int32), ("AtomicFetchAdd64", np.int64)]
)
def test_fetch_add(name, dtype):
    total, before = run_operator(name, Mutex(), np.array([5], dtype), np.array(3, dtype))
    assert (total.tolist(), before.tolist()) == ([8], [5])
    assert (total.dtype, before.dtype) == (dtype, dtype)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([Counter(), np.array(1), np.array(1)], TypeError, "a Mutex, as CreateMutex makes it"),
        ([Mutex(), np.array(1), np.int32(1)], TypeError, "the value is int64, the increment int32"),
        ([Mutex(), np.float32(1), np.float32(1)], TypeError, "integers of one type"),
        ([Mutex(), np.array(1), np.array([1, 2])], ValueError, "a single number"),
    ],
)
def test_fetch_add_errors(inputs, error, message):
    with pytest.raises(error, match=message):
        run_operator("AtomicFetchAdd", *inputs)


def test_iter_and_append_on_their_own():
    assert run_operator("AtomicIter", Mutex(), np.array([4])).tolist() == [5]
    a, b = run_operator(
        "AtomicAppend",
        Mutex(),
        np.array([1]),
        np.float32([[2]]),
        np.array([3]),
        np.float32([[4], [5]]),
        n_outputs=2,
    )
    assert (a.tolist(), b.tolist()) == ([1, 3], [[2], [4], [5]])
    with pytest.raises(ValueError, match="1 blobs and rows for 1 outputs"):
        run_operator("AtomicAppend", Mutex(), np.array([1]), n_outputs=1)
    with pytest.raises(TypeError, match="rows of float64 for a blob of int64"):
        run_operator("AtomicAppend", Mutex(), np.array([1]), np.array([0.5]), n_outputs=1)


def test_nothing_is_lost_among_concurrent_steps():
    init = Net("init")
    init.CreateMutex([], "mutex")
    init.CreateCounter([], "counter", init_count=0)
    for blob, value in (("total", 0), ("one", 1), ("count", 0)):
        init.ConstantFill([], blob, shape=[1], value=value, dtype="int64")
    init.ConstantFill([], "rows", shape=[0], dtype="int64")

    steps = []
    for index in range(4):
        net = Net("work")
        before = f"before_{index}"
        net.AtomicFetchAdd64(["mutex", "total", "one"], ["total", before])
        net.AtomicIter(["mutex", "count"], ["count"])
        net.CountUp("counter", f"counted_{index}")
        net.AtomicAppend(["mutex", "rows", before], ["rows"])
        steps.append(execution_step(f"step_{index}", net, num_iter=50))
    with LocalSession() as session:
        session.run(init)
        session.run(execution_step("all", steps, concurrent_substeps=True))
        workspace = session.workspace()
        assert workspace.fetch_blob("total").tolist() == [200]
        assert workspace.fetch_blob("count").tolist() == [200]
        assert workspace.fetch_blob("counter").count == 200
        # Every addition saw another number before it.
        assert sorted(workspace.fetch_blob("rows").tolist()) == list(range(200))
