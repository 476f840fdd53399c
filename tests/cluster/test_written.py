"""What a run was writing when it ended, by the words of the board."""

from __future__ import annotations

from typing import Any

from tests.cluster.estates import group_of, net_of, words_of

from procession import Net, NetBuilder, WorkspaceType, ops
from procession.cluster.board import TASKS
from procession.cluster.estate import written
from procession.core import execution_step


def test_the_outputs_of_the_operation_that_each_task_was_in() -> None:
    one = net_of(("Relu", ["a"], ["b"]), ("Split", ["b"], ["c", "d"]))
    two = net_of(("Sqr", ["x"], ["y"]), ("Sqrt", ["y"], ["z"]))
    program = group_of(one, two)
    there = {"b", "c", "y"}
    assert written(program, words_of(program, "Relu", ""), there) == {"b": "Relu"}
    # Also such as have never had a value.
    assert written(program, words_of(program, "Split", "Sqr"), there) == {
        "c": "Split",
        "d": "Split",
        "y": "Sqr",
    }
    assert written(program, words_of(program, "", ""), there) == {}


def test_what_is_new_in_a_private_workspace_is_not_the_node_s() -> None:
    net = net_of(("Relu", ["a"], ["b"]), ("Sqr", ["b"], ["c"]))
    program = group_of(net, kind=WorkspaceType.PRIVATE)
    assert written(program, words_of(program, "Relu"), set()) == {}
    assert written(program, words_of(program, "Relu"), {"b"}) == {"b": "Relu"}
    inner = execution_step("inner", [net], create_workspace=True)
    program = group_of(inner)
    assert written(program, words_of(program, "Relu"), {"c"}) == {}
    assert written(program, words_of(program, "Sqr"), {"c"}) == {"c": "Sqr"}


def test_of_what_runs_at_once_one_is_told_and_all_count_that_write_in_place() -> None:
    def python(inputs: Any, outputs: Any) -> None:
        outputs[0].feed(1)

    before = net_of(("Negative", ["a"], ["before"]))
    one = net_of(("Relu", ["a"], ["b"]), ("Unique", ["a"], ["u"]))
    one.Python(python)([], ["p"])
    other = net_of(("Sqr", ["x"], ["y"]))
    both = execution_step("both", [one, other], concurrent_substeps=True)
    program = group_of([before, both])
    # Unique and Python make their results elsewhere, and storing those leaves a mark.
    assert written(program, words_of(program, "Relu"), set()) == {"b": "Relu", "y": "Sqr"}
    assert written(program, words_of(program, "Unique"), set()) == {
        "u": "Unique",
        "b": "Relu",
        "y": "Sqr",
    }
    # One that has ended notes down that it is in none.
    assert written(program, words_of(program, ""), set()) == {"b": "Relu", "y": "Sqr"}
    assert written(program, words_of(program, "Negative"), set()) == {"before": "Negative"}


def test_copies_and_what_recurs_run_at_once_as_well() -> None:
    one, other = net_of(("Relu", ["a"], ["b"])), net_of(("Sqr", ["x"], ["y"]))
    copies = execution_step("copies", [one, other], num_concurrent_instances=2)
    program = group_of(copies)
    assert set(written(program, words_of(program, "Relu"), set())) == {"b", "y"}
    reported = execution_step("reported", [one], num_iter=2, report_net=other, report_interval=0.1)
    program = group_of(reported)
    assert set(written(program, words_of(program, "Relu"), set())) == {"b", "y"}


def test_tasks_that_share_a_word() -> None:
    nets = [net_of(("Relu", [f"a{n}"], [f"b{n}"])) for n in range(TASKS + 1)]
    program = group_of(*nets)
    assert len(written(program, words_of(program, ""), set())) == TASKS + 1


def test_nets_that_operators_run() -> None:
    with NetBuilder() as builder:
        ops.Const(1.0, blob_out="outer")
        condition = ops.Const(True)
        with ops.IfNet(condition):
            ops.Sqr("outer", "outer")
            ops.Relu("outer", "then")
    program = group_of(builder)
    there = {"outer", "then"}
    assert written(program, words_of(program, "Sqr"), there) == {"outer": "Sqr"}
    # Of the body's own blobs the node knows nothing, even if it has one of that name.
    assert written(program, words_of(program, "Relu"), there) == {}
    assert "outer" in written(program, words_of(program, "If"), there)


def do_net(name: str, inner: Net, inputs: list[str], outputs: list[str], **more: Any) -> Net:
    net = Net(name)
    net.AddExternalInput(*dict.fromkeys([*inputs, "stack"]))
    net.Do([*inputs, "stack"], [*outputs, "stack"], net=inner.Proto(), **more)
    return net


def test_names_in_a_scope_are_those_outside() -> None:
    inner = net_of(("Relu", ["i"], ["own"]), ("Sqr", ["own"], ["o"]))
    net = do_net("outer", inner, ["x"], ["y"], inner_blobs=["i", "o"], outer_blobs_idx=[0, 1])
    program = group_of(net)
    everything = {"x", "y", "own", "o", "i"}
    assert written(program, words_of(program, "Sqr"), everything) == {"y": "Sqr"}
    assert written(program, words_of(program, "Relu"), everything) == {}
    assert written(program, words_of(program, "Do"), everything) == {"y": "Do", "stack": "Do"}


def test_a_scope_may_know_the_names_of_another() -> None:
    inner = net_of(("Relu", ["i"], ["o"]))
    first = do_net("first", inner, ["x"], ["y"], inner_blobs=["i", "o"], outer_blobs_idx=[0, 1])
    back = net_of(("Sqr", ["i"], ["o"]))
    second = do_net(
        "second", back, ["x"], ["z"], inner_blobs=["i", "g"], outer_blobs_idx=[0, 1],
        is_gradient_op=True,
    )  # fmt: skip
    program = group_of([first, second])
    assert written(program, words_of(program, "Sqr"), set()) == {"y": "Sqr"}
