"""Nets, steps, tasks and groups as text, and whether their blobs are defined."""

from __future__ import annotations

import linecache
from contextlib import AbstractContextManager

import pytest

from procession import (
    LocalSession,
    Net,
    Node,
    Plan,
    Task,
    TaskGroup,
    WorkspaceType,
    core,
    execution_step,
    ops,
    printing,
)
from procession.errors import GraphError
from procession.graph.job import Job
from procession.graph.proto import NetDef

GLOBAL = WorkspaceType.GLOBAL


def making(name: str, blob: str) -> Net:
    net = Net(name)
    net.ConstantFill([], blob, shape=[1], value=1.0)
    return net


def copying(blob: str) -> Net:
    net = Net("copies")
    net.Copy(blob, "copy")
    return net


# As text.


def test_a_net_is_a_list_of_calls() -> None:
    net = making("net", "a/x")
    net.Mul(["a/x", "a/y"], "z")
    assert printing.to_string(net).splitlines() == [
        "net = core.Net('net')",
        "net.ConstantFill([], ['a/x'], shape=[1], value=1.0)",
        "net.Mul(['a/x', 'a/y'], ['z'])",
    ]
    assert printing.to_string(net.Proto(), c2_syntax=False, factor_prefixes=True).splitlines() == [
        "# net: net",
        "a/x = ConstantFill(shape=[1], value=1.0)",
        "z = Mul(a/[x, y])",
    ]


def test_steps_are_indented_by_what_they_do() -> None:
    made = making("made", "a")
    at_once = execution_step(
        "all",
        [
            execution_step("loop", made, num_iter=3),
            execution_step("apart", made, create_workspace=True),
        ],
        concurrent_substeps=True,
    )
    lines = printing.to_string(at_once, c2_syntax=False).splitlines()
    assert lines == [
        "with parallel():",
        "    with step(loop):",
        "        with loop(3):",
        "            # net: made",
        "            a = ConstantFill(shape=[1], value=1.0)",
        "    with workspace(apart):",
        "        # net: made",
        "        a = ConstantFill(shape=[1], value=1.0)",
    ]
    assert printing.to_string(Plan(at_once), c2_syntax=False).splitlines() == lines
    stopping = execution_step(
        "stopping",
        made,
        should_stop_blob=core.BlobReference("a"),
        report_net=made,
        report_interval=10,
    )
    assert printing.to_string(stopping, c2_syntax=False).splitlines() == [
        "with loop():",
        "    with report_net(10):",
        "        # net: made",
        "        a = ConstantFill(shape=[1], value=1.0)",
        "    # net: made",
        "    a = ConstantFill(shape=[1], value=1.0)",
        "    yield stop_if(a)",
    ]
    instances = execution_step("many", made, num_concurrent_instances=4)
    assert printing.to_string(instances).startswith("with parallel(num_instances=4):")


def test_a_group_shows_its_tasks_by_node() -> None:
    with TaskGroup(GLOBAL) as group:
        for node in ("first", "second", "first"):
            with Node(node):
                Task(step=making(node, "x"), outputs=["x"])
    lines = printing.to_string(group, c2_syntax=False).splitlines()
    assert lines[0] == "with TaskGroup():"
    tasks = [line for line in lines if line.startswith("    with Task(")]
    assert [line.split("node=")[1].split(",")[0] for line in tasks] == ["first", "second"]
    assert all("Output[" in line for line in tasks)


def test_a_heading_with_nothing_below_passes() -> None:
    text = printing.Text()
    with text.context("nothing"), text.context(None):
        pass
    assert str(text) == "with nothing:\n    pass"


def test_long_values_are_cut_and_nets_are_shown_below() -> None:
    inner = copying("x")
    net = Net("outer")
    net.GivenTensorStringFill([], "texts", shape=[1], values=["x" * 100])
    net.If("condition", [], then_net=inner.Proto())
    text = printing.to_string(net)
    assert "x" * 60 in text
    assert "x" * 65 not in text
    assert "more>" in text
    assert text.splitlines()[-3:] == [
        "with arg: then_net:",
        "    copies = core.Net('copies')",
        "    copies.Copy(['x'], ['copy'])",
    ]


def test_a_device_option_is_shown_if_it_says_something() -> None:
    operator = core.CreateOperator(
        "Relu", "x", "y", device_option=core.DeviceOption(0, node_name="n")
    )
    assert printing.to_string(operator) == "y = Relu(x, device_option=DeviceOption(0, 0, 'n'))"
    assert printing.format_device_option(core.DeviceOption(0)) is None


@pytest.mark.parametrize(
    ("values", "prefix"), [([], ""), (["ab"], "ab"), (["abc", "abd", "ab"], "ab"), (["a", "b"], "")]
)
def test_common_prefixes(values: list[str], prefix: str) -> None:
    assert printing.commonprefix(values) == prefix


def test_calls() -> None:
    assert printing.call("f") == "f()"
    assert printing.call("f", [["a", "b"], 3, ("k", "v")], ["x"]) == "x = f(['a', 'b'], 3, k=v)"
    assert printing.call("f", ["s/a", "s/b"], ["s/c", "s/d"], True) == "s/[c, d] = f(s/[a, b])"


def test_nothing_else_is_printed_or_analyzed() -> None:
    for function in (printing.to_string, printing.analyze):
        with pytest.raises(TypeError, match="42"):
            function(42)
    assert printing.to_string(None) == ""


def test_a_job_is_its_groups() -> None:
    with Job() as job:
        with job.init_group:
            Task(step=making("makes", "x"), outputs=["x"])
        task = Task(step=copying("x"), workspace_type=GLOBAL, outputs=["copy"])
        job.add_stop_condition(task.outputs()[0])
    printing.analyze(job)
    lines = printing.to_string(job).splitlines()
    assert [line for line in lines if line.startswith("with")] == [
        f"with Job.current().{name}:"
        for name in ("init_group", "epoch_group", "stop_conditions", "download_group", "exit_group")
    ]
    assert "    Output[copy]" in lines


def test_another_class_can_be_taught() -> None:
    class Pair:
        parts = (making("one", "a"), copying("a"))

    class Loud(printing.Printer):
        pass

    @Loud.register(Pair)
    def print_pair(printer: printing.Printer, pair: Pair, heading: str = "pair") -> None:
        with printer.context(heading):
            for part in pair.parts:
                printer(part)

    class Derived(Pair):
        pass

    printer = Loud()
    printer(Derived(), "two")
    assert str(printer).splitlines()[0] == "with two:"
    assert len(printer.lines) == 5
    with pytest.raises(TypeError):
        printing.to_string(Pair())


def test_operators_with_the_lines_that_added_them() -> None:
    with Task() as task, ops.If(ops.Const(True)):
        ops.Copy("x", "marked")
    read = NetDef.FromString(copying("x").Proto().SerializeToString())
    plain, told = printing.to_string(task), printing.to_string(task, sources=True)
    assert plain == "\n".join(line.split("  # ")[0] for line in told.splitlines())
    (line,) = (line for line in told.splitlines() if "marked" in line)
    file, number = line.split("  # ")[1].rsplit(":", 1)
    assert linecache.getline(file, int(number)).strip() == 'ops.Copy("x", "marked")'
    # What was read from bytes has none.
    assert "#" not in printing.to_string(read, sources=True)


def test_a_debug_net_logs_and_runs(capfd: pytest.CaptureFixture[str]) -> None:
    made = printing.debug_net(making("says", "x"))
    session = LocalSession()
    session.run(made)
    assert "x = ConstantFill(shape=[1], value=1.0)" in "".join(capfd.readouterr())
    assert session.workspace().fetch_blob("x").tolist() == [1]


# Whether blobs are defined.


def undefined(blob: str) -> AbstractContextManager[object]:
    return pytest.raises(GraphError, match=f"Blob undefined: {blob}(\n|$)")


def test_a_blob_is_defined_before_it_is_read() -> None:
    first, second = making("first", "x"), copying("x")
    printing.analyze(execution_step("right", [first, second]))
    with undefined("x"):
        printing.analyze(execution_step("wrong", [second, first]))
    with undefined("x"):
        printing.analyze(second.Proto())
    printing.analyze(copying("distributed_ctx_init_7"))


def test_who_wants_a_blob_that_is_not_defined() -> None:
    net = copying("x")
    with pytest.raises(GraphError) as caught:
        printing.analyze(execution_step("step", [making("first", "y"), net]))
    first, reader, where = str(caught.value).splitlines()
    assert first == "Blob undefined: x"
    assert reader == f"  wanted by operator Copy(x) -> copy of net {net.Name()!r}"
    assert where.startswith("  added at ")
    assert where.endswith('net.Copy(blob, "copy")')
    step = execution_step("loop", making("net", "x"), should_stop_blob=core.BlobReference("stop"))
    with pytest.raises(GraphError, match=r"undefined: stop\n  step 'loop.*' stops by it"):
        printing.analyze(step)


def test_what_runs_at_once_makes_different_blobs() -> None:
    def at_once(*nets: Net) -> core.ExecutionStep:
        steps = [execution_step(net.Name(), net) for net in nets]
        return execution_step("at_once", steps, concurrent_substeps=True)

    printing.analyze(
        execution_step("all", [at_once(making("1", "a"), making("2", "b")), copying("a")])
    )
    with pytest.raises(GraphError, match=r"at once: a$"):
        printing.analyze(at_once(making("1", "a"), making("2", "a")))
    with undefined("a"):
        printing.analyze(at_once(making("1", "a"), copying("a")))


def test_a_stop_blob_is_made_before_it_is_looked_at() -> None:
    net = making("net", "x")
    printing.analyze(execution_step("loop", net, should_stop_blob=core.BlobReference("x")))
    with undefined("stop"):
        printing.analyze(execution_step("loop", net, should_stop_blob=core.BlobReference("stop")))


def test_what_a_step_with_its_own_workspace_or_a_report_makes_is_not_seen() -> None:
    apart = execution_step("apart", making("net", "x"), create_workspace=True)
    with undefined("x"):
        printing.analyze(Plan(execution_step("all", [apart, copying("x")])))
    report = execution_step(
        "r", making("net", "y"), report_net=making("report", "x"), report_interval=9
    )
    with undefined("x"):
        printing.analyze(execution_step("all", [report, copying("x")]))


@pytest.mark.parametrize(("kind", "seen"), [(GLOBAL, True), (WorkspaceType.PRIVATE, False)])
def test_tasks_see_each_others_blobs_in_the_global_workspace(
    kind: WorkspaceType, seen: bool
) -> None:
    analyzer = printing.Analyzer()
    for net in (making("makes", "x"), copying("x")):
        with TaskGroup(kind) as group:
            Task(step=net)
        if net.Name().startswith("copies") and not seen:
            with undefined("x"):
                analyzer(group)
        else:
            analyzer(group)


def test_nodes_do_not_see_each_others_blobs() -> None:
    with TaskGroup(GLOBAL) as group:
        with Node("a"):
            Task(step=making("makes", "x"))
        with Node("b"):
            Task(step=copying("x"))
    with undefined("x"):
        printing.analyze(group)


def test_what_ops_builds_is_sound() -> None:
    with TaskGroup(GLOBAL) as group, Task():
        total = ops.Const(0)
        with ops.loop(3) as loop:
            ops.Add([total, loop.iter()], [total])
            with ops.If(ops.GE([total, ops.Const(2)])):
                ops.Const(1, blob_out=total)
    printing.analyze(group)
    assert "yield stop_if(" in printing.to_string(group)
