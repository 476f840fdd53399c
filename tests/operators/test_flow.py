import io
import sys

import numpy as np
import pytest

from procession import BlobNotFoundError, LocalSession, Net, Workspace
from procession.testing.gradcheck import KernelContext, run_operator


def test_stop_gradient_copies():
    x = np.arange(3)
    y = run_operator("StopGradient", x)
    np.testing.assert_array_equal(y, x)
    assert not np.may_share_memory(y, x)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("Hello from node 1.", "Hello from node 1."),
        (b"Hello from node 1.", "Hello from node 1."),
        (np.array("Hello from node 1."), "Hello from node 1."),
        (np.array("Hello from node 1.", object), "Hello from node 1."),
        (np.array(b"caf\xc3\xa9"), "café"),
        (b"\xff", r"\xff"),
        (np.float32([[1, 2.5], [3, -4]]), "x float32(2, 2): 1.0 2.5 3.0 -4.0"),
        (np.array(0.1, np.float32), "x float32(): 0.1"),
        (np.array([True, False]), "x bool(2,): True False"),
        (np.array(["a", "b"], object), "x object(2,): a b"),
        (np.zeros((0, 3), np.int64), "x int64(0, 3):"),
        ({"any": "object"}, "x dict: {'any': 'object'}"),
    ],
)
def test_print(value, line, capsys):
    assert run_operator("Print", value, context=KernelContext(("x",))) is None
    assert capsys.readouterr() == (line + "\n", "")


def test_print_limit(capsys):
    context = KernelContext(("x",))
    run_operator("Print", np.arange(5), limit=2, context=context)
    run_operator("Print", np.arange(2), limit=2, context=context)
    assert capsys.readouterr().out == "x int64(5,): 0 1 ... (5 in all)\nx int64(2,): 0 1\n"
    for arguments in ({}, {"limit": 0}):
        run_operator("Print", np.zeros(1001, int), context=context, **arguments)
        line = capsys.readouterr().out
        assert line.count(" 0") == 1000
        assert line.endswith(" 0 ... (1001 in all)\n")


def test_print_writes_once(monkeypatch):
    class Stream(io.StringIO):
        writes = 0

        def write(self, text):
            self.writes += 1
            return super().write(text)

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    run_operator("Print", np.arange(100))
    assert stream.writes == 1


def test_print_every_n(capsys):
    contexts = [KernelContext(("x",)), KernelContext(("y",))]
    for run in range(7):
        for context in contexts:
            run_operator("Print", np.array(run), every_n=3, context=context)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name} int64(): {run}" for run in (0, 3, 6) for name in "xy"]


def test_print_to_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "scope_x.log"
    log.write_text("from another run\n")
    context = KernelContext(("scope/x",))
    for run in range(2):
        run_operator("Print", np.array(run), to_file=1, context=context)
    assert log.read_text() == "scope/x int64(): 0\nscope/x int64(): 1\n"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("arguments", [{"every_n": 0}, {"limit": -1}])
def test_print_errors(arguments):
    with pytest.raises(ValueError, match=r"every_n=.* must be positive, limit=.* not negative"):
        run_operator("Print", np.array(1), **arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_summarize(dtype):
    context = KernelContext(("x",), ("told",))
    told = run_operator("Summarize", np.arange(12, dtype=dtype).reshape(3, 4), context=context)
    assert told.dtype == (dtype if dtype != np.int64 else np.float32)
    np.testing.assert_allclose(told, [0, 11, 5.5, np.sqrt(13)], rtol=1e-6)
    one = run_operator("Summarize", np.array(5, dtype), context=context)
    assert one.tolist() == [5, 5, 5, 0]


def test_summarize_to_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "scope_x.summary"
    log.write_text("from another run\n")
    context = KernelContext(("scope/x",))
    for run in range(2):
        value = np.array([0, 2 + run], np.float32)
        assert run_operator("Summarize", value, to_file=1, context=context) is None
    assert log.read_text() == "0 2 1 1.41421\n0 3 1.5 2.12132\n"


def test_summarize_errors():
    with pytest.raises(ValueError, match="X is empty"):
        run_operator("Summarize", np.zeros(0))
    with pytest.raises(TypeError, match="X holds numbers, not str"):
        run_operator("Summarize", "text")


def test_is_empty_and_has_elements():
    for size, empty in ((0, True), (3, False)):
        answer = run_operator("IsEmpty", np.zeros(size))
        assert (answer.dtype, answer.shape, bool(answer)) == (bool, (), empty)
        assert bool(run_operator("HasElements", np.zeros(size))) is not empty
    assert run_operator("HasElements", np.zeros(0), np.zeros(1))
    assert not run_operator("HasElements", np.zeros(0), np.zeros((0, 3)))
    assert not run_operator("IsEmpty", "text")


@pytest.mark.parametrize("x", [np.array(True), np.array([2, 1]), np.zeros(0, bool)])
def test_assert_passes(x):
    assert run_operator("Assert", x) is None


def test_assert_fails():
    with pytest.raises(AssertionError, match="element 1 of the condition is false"):
        run_operator("Assert", np.array([True, False]))
    with pytest.raises(AssertionError, match=r"^too many$"):
        run_operator("Assert", np.array(0), error_msg="too many")


@pytest.mark.parametrize("name", ["Fail", "ThrowException"])
def test_operators_that_fail(name):
    with pytest.raises(RuntimeError, match=f"an operator {name} was run"):
        run_operator(name)


def test_free_and_names():
    net = Net("net")
    net.FeedBlob([], "text", value="some text")
    net.ConstantFill([], "x", shape=[100_000])
    net.GetAllBlobNames([], "before")
    net.Free(["x", "text"], ["x", "text"])
    again = Net("again")
    again.Relu("x", "y")
    with LocalSession() as session:
        session.run(net)
        workspace = session.workspace()
        assert workspace.names() == ["before"]
        assert workspace.fetch_blob("before").tolist() == ["text", "x"]
        with pytest.raises(BlobNotFoundError, match="no blob 'x'"):
            session.run(again)
        session.run(net)
        assert workspace.fetch_blob("before").tolist() == ["before", "text", "x"]


def test_free_is_in_place():
    with pytest.raises(ValueError, match="the outputs must be the inputs"):
        run_operator("Free", np.zeros(1), context=KernelContext(("x",), ("y",), Workspace()))


def test_names_of_a_child():
    workspace = Workspace()
    workspace.feed_blob("outer", 1)
    child = workspace.child()
    child.feed_blob("inner", 2)
    context = KernelContext((), ("names",), child)
    assert run_operator("GetAllBlobNames", context=context).tolist() == ["inner", "outer"]
    names = run_operator("GetAllBlobNames", include_shared=False, context=context)
    assert names.tolist() == ["inner"]
