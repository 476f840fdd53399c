"""NetBuilder and ops: what is built. What it does stands in test_builder_runs.py."""

import numpy as np
import pytest

from procession import (
    BlobReference,
    ExecutionStep,
    GraphError,
    Net,
    NetBuilder,
    RunnableTypeError,
    Task,
    TaskGroup,
    core,
    ops,
)
from procession.errors import ContextError


def outline(step):
    """A step as nested names: of nets, or of (step, stop blob, parts)."""
    stop = None if step.should_stop is None else str(step.should_stop)
    parts = [p.Name() if isinstance(p, Net) else outline(p) for p in step.body]
    return step.Name(), stop, parts


def types(net):
    return [operator.type for operator in net.operators]


# The builder itself.


def test_operators_go_to_the_current_net():
    with NetBuilder("b") as builder:
        x = ops.Const(1)
        assert ops.net() is builder.current_net()
        ops.Add([x, x], ["y"])
    (net,) = builder.get()
    assert net.Name() == "b"
    assert types(net) == ["GivenTensorInt64Fill", "Add"]
    assert str(x).startswith("b/")


def test_nets_made_inside_are_called_after_the_builder():
    with NetBuilder("a"):
        assert Net("n").Name() == "a/n"
        with NetBuilder("b") as inner:
            assert (inner.name, Net("n").Name()) == ("a/b", "a/b/n")
        with NetBuilder(_fullname="c"):
            assert Net("n").Name() == "c/n"
        with NetBuilder() as unnamed:
            assert unnamed.name == "a"
        assert Net("n").Name() == "a/n_1"
    assert Net("n").Name() == "n"


def test_names_and_texts():
    assert str(NetBuilder("b")) == NetBuilder("b").name == "b"
    assert str(NetBuilder()) == "Un-named NetBuilder"
    assert repr(NetBuilder("b")) == "<NetBuilder 'b'>"
    with pytest.raises(GraphError, match=r"give name \('a'\) or _fullname \('b'\)"):
        NetBuilder("a", _fullname="b")
    with pytest.raises(GraphError, match="does not stop by a blob"):
        NetBuilder(_use_control_ops=True, _stop_blob_required=True)


def test_ops_net():
    mine = Net("mine")
    with NetBuilder() as builder:
        first = ops.net()
        assert ops.net(mine) is mine
        assert ops.net() is mine
        second = ops.net(name="second")
        assert ops.net() is second
        with pytest.raises(GraphError, match="not both"):
            ops.net(mine, "x")
    assert builder.get() == [first, mine, second]


def test_ops_outside_a_builder():
    with pytest.raises(ContextError, match="use `ops` inside `with NetBuilder"):
        ops.Const(1)
    assert not hasattr(ops, "Const")
    for block in (ops.loop, ops.stop_guard, ops.stop, ops.task_init, ops.task_group):
        with pytest.raises(ContextError):
            block()
    with NetBuilder():
        assert hasattr(ops, "Const")
        with pytest.raises(AttributeError, match="'Cnst' is not a registered operator"):
            ops.Cnst(1)


def test_what_was_built_is_final():
    with NetBuilder("b") as builder:
        ops.Const(1)
    for change in (
        builder.current_net,
        builder.stop_blob,
        lambda: builder.add(Net("n")),
        builder.__enter__,
    ):
        with pytest.raises(GraphError, match="b has been built"):
            change()


def test_a_builder_is_made_of_what_can_run():
    with NetBuilder() as builder:
        step = ExecutionStep("s", Net("n"))
        assert builder.add(step) is step
        with pytest.raises(RunnableTypeError, match="built of nets, steps, builders"):
            builder.add("net")
    assert core.to_execution_step(builder).Substeps() == [step]


def test_an_error_inside_is_the_one_that_comes_out():
    with pytest.raises(ZeroDivisionError), NetBuilder(_stop_blob_required=True):
        raise ZeroDivisionError
    assert NetBuilder.current(required=False) is None
    assert Net("n").Name() == "n"


# Steps of builders.


def test_a_builder_becomes_a_step():
    with NetBuilder("b") as builder:
        ops.Const(1)
    assert outline(core.to_execution_step(builder)) == ("b", None, ["b"])
    assert core.to_execution_step(builder, "called").Name() == "called"
    with NetBuilder() as unnamed:
        ops.Const(1)
    assert core.to_execution_step(unnamed).Name() == "step"
    # Wherever a step is wanted, a builder is.
    assert outline(core.execution_step("s", [builder])) == ("s", None, [("b", None, ["b"])])
    assert Task(step=builder).get_step().Name() == "b"


def test_blocks_become_substeps():
    with NetBuilder("b") as builder:
        x = ops.Const(1)
        with ops.loop(3, name="loop"):
            ops.Copy(x)
        with ops.If(ops.Const(True), name="if") as branch:
            ops.Copy(x)
        with branch.Elif(ops.Const(True), name="elif") as branch:
            ops.Copy(x)
        with branch.Else(name="else"):
            ops.Copy(x)
        with ops.stop_guard(name="guard"):
            ops.Copy(x)
    assert outline(core.to_execution_step(builder)) == (
        "b",
        None,
        [
            ("step", None, ["b"]),
            ("b/loop", "b/loop/stop_blob", ["b/loop", "b/loop_1"]),
            ("step_1", None, ["b_1"]),
            ("b/if", "b/if/stop_blob", ["b/if", "b/if_1"]),
            ("step_2", None, ["b_2"]),
            ("b/elif", "b/elif/stop_blob", ["b/elif", "b/elif_1"]),
            ("b/else", "b/else/stop_blob", ["b/else", "b/else_1"]),
            ("b/guard", None, ["b/guard"]),
        ],
    )


def test_the_stop_blob_is_false_when_it_is_first_read():
    with NetBuilder("b") as builder:
        ops.stop_if(ops.Const(True))
    first, *rest = builder.get()
    assert rest == []
    assert [t for t in types(first) if t in ("ConstantFill", "Or")][-1] == "Or"
    with NetBuilder("b") as builder:
        work = ops.net()
        with ops.If(ops.Const(True)):
            ops.Const(1)
        ops.stop_if(ops.Const(True))
    init, second, *_ = builder.get()
    assert second is work
    assert (init.Name(), types(init)) == ("b/stop_blob_init", ["ConstantFill"])
    assert init.operators[0].output == [str(builder.stop_blob())]


def test_a_given_stop_blob():
    blob = BlobReference("enough")
    with NetBuilder("b", _stop_blob=blob) as builder:
        ops.Const(1)
        assert builder.stop_blob() is blob
    assert core.to_execution_step(builder).should_stop == "enough"


def test_a_loop_has_to_end():
    with (
        NetBuilder("b"),
        pytest.raises(GraphError, match=r"ops.loop 'b/endless' never stops: call ops.stop_if"),
        ops.loop(name="endless"),
    ):
        ops.Const(1)
    with (
        NetBuilder("b"),
        pytest.raises(GraphError, match=r"the ops.loop in b never stops"),
        ops.loop(),
    ):
        ops.Const(1)


@pytest.mark.parametrize("rounds", [2.5, 3.0, "3", True, [1, 2], -1, np.array(-1)])
def test_a_loop_goes_around_a_whole_number_of_times(rounds):
    with NetBuilder("b") as builder:
        with pytest.raises(GraphError, match=r"ops\.loop (takes a whole number|cannot go around)"):
            ops.loop(rounds)
        assert not builder._children
        for right in (0, np.int32(2), np.array(2)):
            with ops.loop(right):
                ops.Const(1)


def test_only_a_loop_that_counts_has_a_number():
    with NetBuilder():
        with ops.loop(3) as loop:
            assert isinstance(loop.iter(), BlobReference)
        with pytest.raises(GraphError, match="does not count"), ops.loop() as loop:
            loop.iter()


def test_a_stop_guard_knows_after_its_block():
    with (
        NetBuilder(),
        ops.stop_guard("given") as guard,
        pytest.raises(GraphError, match="after the `with` block"),
    ):
        guard.has_stopped()
    assert guard.has_stopped() == "given"


def test_nothing_follows_else():
    with NetBuilder():
        condition = ops.Const(True)
        with ops.If(condition) as branch:
            pass
        with branch.Else() as last:
            pass
        for follow in (last.Else, lambda: last.Elif(condition)):
            with pytest.raises(GraphError, match="nothing can follow"):
                follow()
        with pytest.raises(GraphError, match="takes a blob with a truth value"):
            ops.If(None)


# Nets with control operators.


def test_if_net_becomes_one_net():
    with NetBuilder("b") as builder:
        x = ops.Const(1)
        y = ops.Const(2)
        with ops.IfNet(ops.Const(True), name="if"):
            own = ops.Const(3)
            ops.Add([x, own], [y])
        with ops.Else(name="else"):
            ops.Copy(x, y)
    before, block = builder.get()
    assert types(before)[:2] == ["GivenTensorInt64Fill"] * 2
    (net,) = block.get()
    assert types(net) == ["CreateScope", "CreateScope", "If"]
    assert net.Name() == "b/else/b/else/if_else_net"
    operator = net.operators[-1]
    assert {str(x)} < set(operator.input)
    # Its own blobs are not seen outside.
    assert str(own) not in {*operator.input, *operator.output}
    assert operator.output[0] == str(y)
    assert net.external_outputs == operator.output
    branches = operator.arguments
    for name in ("then_net", "else_net"):
        (do,) = branches[name].op
        assert do.type == "Do"
        outer = [blob for blob in [*do.input, *do.output] if "workspace" not in blob]
        places = do.arguments["outer_blobs_idx"]
        assert [outer[place] for place in places] == list(do.arguments["inner_blobs"])
        assert set(do.arguments["inner_blobs"]) == {str(x), str(y)}


def test_while_net_becomes_one_net():
    with NetBuilder("b") as builder:
        x = ops.Const(1)
        with ops.WhileNet(name="while"):
            with ops.Condition():
                ops.LT([x, ops.Const(7)])
            ops.Add([x, x], [x])
    (net,) = builder.get()[1].get()
    # The condition is made first, because the operator reads it.
    assert types(net) == ["ConstantFill", "CreateScope", "CreateScope", "While"]
    assert net.operators[0].output == ["b/while/LT"]
    arguments = net.operators[-1].arguments
    assert arguments["loop_net"].name == "b/while/do_loop_body_net"
    assert arguments["cond_net"].name == "b/while/do_loop_condition_net"
    (do,) = arguments["loop_net"].op
    assert do.arguments["copy_external_blobs"]


def test_what_a_branch_reads_is_there_before():
    with (
        NetBuilder(),
        pytest.raises(GraphError, match=r"reads blob 'nowhere'.*initial_scope") as caught,
        ops.IfNet(ops.Const(True)),
    ):
        ops.net().Copy("nowhere", "y")
    assert isinstance(caught.value, AssertionError)
    _, reader, where = str(caught.value).splitlines()
    assert reader == "  wanted by operator Copy(nowhere) -> y"
    assert where.endswith('ops.net().Copy("nowhere", "y")')
    with NetBuilder(initial_scope=["somewhere"]), ops.IfNet(ops.Const(True)):
        ops.net().Copy("somewhere", "y")


def condition_after_the_body(blob):
    with ops.WhileNet():
        ops.Copy(blob)
        ops.Condition()


def test_what_belongs_where():
    with NetBuilder():
        condition = ops.Const(True)
        with pytest.raises(ContextError, match="belongs right behind an IfNet"):
            ops.Else()
        with pytest.raises(ContextError, match=r"block of an ops\.WhileNet"):
            ops.Condition()
        with (
            pytest.raises(GraphError, match=r"the ops\.WhileNet in .* has no condition"),
            ops.WhileNet(),
        ):
            ops.Copy(condition)
        with ops.WhileNet():
            with ops.Condition():
                ops.Copy(condition)
            with pytest.raises(GraphError, match="has a condition already"):
                ops.Condition()
        with ops.WhileNet(), ops.Condition():
            ops.Copy(condition)
        with pytest.raises(GraphError, match="before everything else"):
            condition_after_the_body(condition)
        with (
            pytest.raises(GraphError, match="one output of the last operator"),
            ops.WhileNet(),
            ops.Condition(),
        ):
            pass
        with ops.IfNet(condition) as block:
            for refused in (ops.loop, ops.task_group, ops.stop_guard):
                with pytest.raises(GraphError, match="becomes a net"):
                    refused()
            with pytest.raises(GraphError, match="which stops nowhere"):
                ops.stop()
        with pytest.raises(GraphError, match="takes a blob with a truth value"):
            ops.IfNet(None)
        assert block.get()


def test_merging_takes_nets_only():
    with NetBuilder() as builder:
        ops.Const(1)
    with pytest.raises(GraphError, match="cannot be merged"):
        NetBuilder.merge_nets([builder], [])
    assert NetBuilder.merge_nets([], []) is None


# Setup and reports hang on nets.


def test_setup_blocks_hang_on_the_current_net():
    with NetBuilder():
        net = ops.net()
        blocks = [
            ops.task_init(),
            ops.task_exit(),
            ops.task_instance_init(),
            ops.task_instance_exit(),
            ops.local_init(),
            ops.local_exit(),
        ]
        for block in blocks:
            with block:
                ops.Const(1)
    assert net.get_attributes(Task.TASK_SETUP) == blocks[:2]
    assert net.get_attributes(Task.TASK_INSTANCE_SETUP) == blocks[2:4]
    assert net.get_attributes(TaskGroup.LOCAL_SETUP) == blocks[4:]
    assert blocks[0].exit(net) is blocks[1].setup(net) is None
    assert [type(net) for net in blocks[0].setup(net).Nets()] == [Net]


def test_reporters():
    with TaskGroup() as group, Task(name="t") as task:
        with ops.task_reporter(interval_ms=50):
            ops.Const(1)
        with ops.local_reporter(interval_ms=70, name="all"):
            ops.Const(2)
    (step,) = task.get_step().get_all_attributes(Task.REPORT_STEP)
    assert step.every_millis == 50
    (work,) = group.work().values()
    assert [(s.Name(), s.every_millis) for s in work.reports] == [("local/t/all", 70)]
    with (
        NetBuilder(),
        pytest.raises(ContextError, match="no current TaskGroup"),
        ops.local_reporter(),
    ):
        ops.Const(1)


def test_builders_within_make_nets_of_the_same_type():
    class Special(Net):
        pass

    class Builder(NetBuilder):
        net_type = Special

    with Builder():
        with ops.loop(3) as loop:
            ops.Const(1)
            assert type(loop.current_net()) is Special
        assert type(NetBuilder.new_net("more")) is Special
    assert type(NetBuilder.new_net("outside")) is Net
