"""caffe2.python.core and its neighbours: nets that are as lenient as Caffe2's, and the helpers."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from caffe2.proto import caffe2_pb2
from caffe2.python import (
    checkpoint,
    context,
    control,
    control_ops_grad,
    core,
    dyndep,
    model_helper,
    net_builder,
    net_printer,
    schema,
    scope,
    session,
    task,
    utils,
    workspace,
)
from caffe2.python.net_builder import ops

import procession
import procession.caffe2


def test_a_net_takes_what_caffe2_takes() -> None:
    net = core.Net("lenient")
    net.Relu("x", "y", no_such_argument=1)
    net.Sum(["x", "x"], 2)
    workspace.FeedBlob("x", np.ones(1, np.float32))
    with pytest.raises(RuntimeError):
        workspace.RunNetOnce(net)
    with pytest.raises(TypeError):
        procession.Net("strict").Relu("x", "y", no_such_argument=1)
    assert isinstance(net, procession.Net)
    with pytest.raises(AttributeError, match="Relu"):
        core.Net("wrong").Rleu("x")


def test_unknown_arguments_have_no_effect() -> None:
    workspace.FeedBlob("x", -np.ones(1, np.float32))
    net = core.Net("lenient")
    net.Relu("x", "y", no_such_argument=1)
    workspace.RunNetOnce(net)
    assert workspace.FetchBlob("y").tolist() == [0]


def test_any_operator_can_be_created() -> None:
    option = core.DeviceOption(workspace.GpuDeviceType, 1)
    made = core.CreateOperator(
        "Ludicrous",
        "x",
        "y",
        name="name",
        control_input="z",
        device_option=option,
        engine="WARP",
        number=1,
        text="2",
        numbers=[1, 2, 3],
    )
    assert (made.type, made.name, made.engine) == ("Ludicrous", "name", "WARP")
    assert list(made.control_input) == ["z"]
    assert (made.device_option.device_type, made.device_option.device_id) == (1, 1)
    arguments = {each.name: each for each in made.arg}
    assert arguments["number"].i == 1
    assert arguments["text"].s == b"2"
    assert list(arguments["numbers"].ints) == [1, 2, 3]


@pytest.mark.parametrize(
    "value",
    [object(), [object()], {1: 2}, 1j, np.array([1j]), [1, "a"], print, np.float32, 2**63,
     core.Net("argument"), [core.Net("argument")], np.array([object()]), iter([1])],
)  # fmt: skip
def test_what_no_argument_can_be_is_refused(value: object) -> None:
    for make in (core.CreateOperator, core.Net("n")._CreateAndAddToSelf):
        # Passed over when it runs, but it could not be written down.
        with pytest.raises(ValueError, match="argument 'strange' of operator Relu cannot be"):
            make("Relu", "x", "y", strange=value)
    with pytest.raises(ValueError, match=f"of operator Foo .* of type {type(value).__name__}"):
        core.CreateOperator("Foo", [], [], strange=value)


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 2.5, "text", b"text", [], (), [1, 2], (1, 2.5), ["a", b"b"], range(3), {1},
     np.eye(2), np.float32(1), np.array(1), np.array([]), np.array(["a"], object), np.ones(1, bool),
     core.DataType.FLOAT, core.BlobReference("b"), caffe2_pb2.NetDef(), [caffe2_pb2.NetDef()],
     caffe2_pb2.TensorProto(), -(2**63), core.DeviceOption(0)],
)  # fmt: skip
def test_what_an_argument_can_be(value: object) -> None:
    made = core.CreateOperator("Foo", [], [], given=value)
    assert len(made.arg) == (value is not None)
    core.Net("n").Relu("x", "y", given=value, name="name", control_input=["x"])


def test_a_range_is_a_list() -> None:
    made = core.CreateOperator("Foo", [], [], few=range(2), one={3})
    assert [list(each.ints) for each in made.arg] == [[0, 1], [3]]


def test_ones_own_operators_may_take_any_argument() -> None:
    @procession.operator("TakesAnything", outputs=0)
    def takes(*, held: object) -> None:
        """Takes an object."""
        found.append(held)

    found: list[object] = []
    held = object()
    workspace.RunOperatorOnce(core.CreateOperator("TakesAnything", [], [], held=held))
    net = core.Net("n")
    net.TakesAnything([], [], held=held)
    workspace.RunNetOnce(net)
    assert found == [held, held]


def test_operators_are_named_by_the_line_that_added_them() -> None:
    net = core.Net("test")
    a, b = net.AddExternalInput("a", "b")
    net.Mul([a, b], "c")
    line = inspect.currentframe().f_lineno - 1
    net.PopulateProtoWithFileName()
    here = "test_operators_are_named_by_the_line_that_added_them"
    assert net.Proto().op[0].name == f"{__file__}:{line}:{here}"
    for run in (workspace.RunNetOnce, workspace.CreateNet):
        with pytest.raises(RuntimeError):
            run(net)


def test_lookup_tables_are_checked() -> None:
    net = core.Net("tables")
    net.Relu("x", "y")
    net._CheckLookupTables()
    net._net.op[0].output[0] = "z"
    with pytest.raises(AssertionError):
        net._CheckLookupTables()
    net._net.op[0].output[0] = "y"
    net._RecreateLookupTables()
    net._CheckLookupTables()


def test_builders_make_nets_of_the_same_kind() -> None:
    with net_builder.NetBuilder() as builder:
        ops.Const(1)
    assert all(isinstance(net, core.Net) for net in builder.get())


def test_global_init_keeps_its_arguments() -> None:
    before = core.GetGlobalInitArgs()
    core.GlobalInit(["program", "--flag"])
    assert core.GetGlobalInitArgs() == [*before, "--flag"]
    assert core.IsOperator("Relu")
    assert "Relu" in workspace.RegisteredOperators()
    assert core.IsOperatorWithEngine("Relu", "DEFAULT")


def test_a_python_operator_raises_what_its_function_raises() -> None:
    class OwnError(Exception):
        pass

    def fail(inputs: object, outputs: object) -> None:
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        workspace.RunOperatorOnce(core.CreatePythonOperator(fail, [], []))
    net = core.Net("fails")
    net.Python(fail)([], [])
    with pytest.raises(OwnError, match="mine"):
        session.LocalSession().run(net)


def test_a_python_operator_may_leave_an_output_unwritten() -> None:
    def nothing(inputs: object, outputs: object) -> None:
        pass

    workspace.RunOperatorOnce(core.CreatePythonOperator(nothing, [], ["y"]))
    assert workspace.FetchBlob("y").shape == (0,)


def test_outputs_and_gradients_are_looked_up() -> None:
    net = core.Net("lists")
    one, two = net.Const(1), net.Const(2)
    assert core.output_to_list(one) == [one]
    assert core.output_to_list((one, two)) == [one, two]
    with pytest.raises(AssertionError):
        core.output_to_list(5)
    gradients = [None, "b", core.GradientSlice(indices="i", values="v")]
    assert core.GetIndexFromGradientList(gradients, "v") == 2
    assert core.GetIndexFromGradientList(gradients, "b") == 1
    assert core.GetIndexFromGradientList(gradients, "z") is None
    assert core.get_net_name(net) == core.get_net_name(net.Proto()) == net.Name()


def test_arguments_become_a_dict() -> None:
    values = {
        "int": 3,
        "float": 4.0,
        "text": "foo",
        "ints": np.array([3, 4]),
        "floats": np.array([5.0, 6.0]),
        "texts": np.array(["foo", "bar"]),
    }
    made = utils.ArgsToDict([utils.MakeArgument(key, each) for key, each in values.items()])
    assert made == {
        "int": 3,
        "float": 4.0,
        "text": b"foo",
        "ints": [3, 4],
        "floats": [5.0, 6.0],
        "texts": [b"foo", b"bar"],
    }
    for value in (None, [1, "a"]):
        with pytest.raises(ValueError, match="argument"):
            utils.MakeArgument("a", value)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "i2"])
def test_arrays_become_messages(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    back = utils.Caffe2TensorToNumpyArray(utils.NumpyArrayToCaffe2Tensor(array, "name"))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_channels_move() -> None:
    images = np.zeros((2, 4, 5, 3))
    assert utils.NHWC2NCHW(images).shape == (2, 3, 4, 5)
    assert utils.NCHW2NHWC(utils.NHWC2NCHW(images)).shape == images.shape


def test_numbers_of_the_messages() -> None:
    assert (caffe2_pb2.CPU, caffe2_pb2.CUDA, caffe2_pb2.HIP) == (0, 1, 6)
    assert caffe2_pb2.TensorProto.DataType.Name(1) == "FLOAT"
    assert caffe2_pb2.TensorProto.DataType.Value("INT64") == caffe2_pb2.TensorProto.INT64 == 10
    assert ("BOOL", 5) in caffe2_pb2.TensorProto.DataType.items()
    with pytest.raises(ValueError, match="99"):
        caffe2_pb2.TensorProto.DataType.Name(99)


def test_thin_modules_have_the_same_objects() -> None:
    assert scope.NameScope is core.NameScope
    assert context.Managed is procession.NetBuilder.__mro__[1]
    assert control.Do is procession.control.Do
    assert task.TaskGroup is procession.TaskGroup
    assert issubclass(task.Task, procession.Task)
    with pytest.raises(RuntimeError, match="libops"):
        dyndep.InitOpsLibrary("libops.so")
    model = model_helper.ModelHelper(name="model")
    model.Copy("a", "b")
    assert model.Proto().op[0].type == "Copy"


def test_records_are_in_the_current_workspace() -> None:
    net = core.Net("record")
    record = schema.NewRecord(net, schema.Struct(("a", np.float32)))
    schema.FeedRecord(record, [np.ones(2, np.float32)])
    assert workspace.FetchBlob(record.a()).tolist() == [1, 1]
    assert schema.FetchRecord(record).a().tolist() == [1, 1]
    own = workspace.C.Workspace()
    schema.FeedRecord(record, [np.zeros(2, np.float32)], own)
    assert schema.FetchRecord(record, ws=own).a().tolist() == [0, 0]


# Jobs, and what is printed and found wrong.


def job() -> checkpoint.Job:
    with checkpoint.Job() as made:
        with made.init_group, task.Task():
            total = ops.Const(0)
            with ops.loop(3) as loop:
                ops.Add([total, loop.iter()], [total])
                with ops.If(ops.GE([total, ops.Const(2)])):
                    ops.Const(1, blob_out=total)
        with task.Task():
            with ops.task_init():
                one = ops.Const(1)
            ops.Add([one, one], "sum")
            task.final_output("sum")
    return made


def test_a_job_is_printed_and_analyzed() -> None:
    made = job()
    net_printer.analyze(made)
    text = net_printer.to_string(made)
    for part in ("Job.current().init_group", "with loop(", "Task(node=local", "yield stop_if("):
        assert part in text
    assert "core.Net(" in text
    assert "values=[2]" in text
    assert "# net:" in net_printer.to_string(made, c2_syntax=False)


def test_a_blob_that_nothing_defines_is_found() -> None:
    made = job()
    with made, task.Task():
        ops.Add(["a", "b"])
    with pytest.raises(AssertionError) as caught:
        net_printer.analyze(made)
    assert str(caught.value) == "Blob undefined: a"


def test_a_blob_that_two_tasks_define_is_found() -> None:
    with checkpoint.Job() as made:
        for _ in range(2):
            with task.Task(workspace_type=task.WorkspaceType.GLOBAL):
                ops.Add([ops.Const(0), ops.Const(1)], "out")
    with pytest.raises(AssertionError) as caught:
        net_printer.analyze(made)
    assert str(caught.value) == "Blobs that several steps write at once: out"


def test_private_tasks_may_define_the_same_blobs() -> None:
    with checkpoint.Job() as made:
        for _ in range(2):
            with task.Task():
                ops.Const(0, blob_out="out")
    net_printer.analyze(made)


def test_what_a_private_task_defines_is_its_own() -> None:
    with checkpoint.Job() as made:
        for _ in range(2):
            with task.Task():
                ops.Const(0, blob_out="out")
        with task.Task():
            ops.Copy("out", "copy")
    with pytest.raises(AssertionError, match="Blob undefined: out"):
        net_printer.analyze(made)


def test_a_net_is_put_on_a_gpu_with_the_nets_in_its_operators() -> None:
    inner, outer = core.Net("inner"), core.Net("outer")
    inner.Relu("a", "b")
    recurrent = core.CreateOperator("RecurrentNetwork", ["x"], ["y"], step_net=inner.Proto())
    outer.Proto().op.extend([recurrent])
    outer.RunAllOnGPU(gpu_id=2, use_cudnn=True)
    inside = outer.Proto().op[0].arg[0].n
    for net in (outer.Proto(), inside):
        assert (net.device_option.device_type, net.device_option.device_id) == (1, 2)
        assert net.op[0].engine == "CUDNN"


def test_a_sum_of_gradients_has_no_device_option_but_its_mark() -> None:
    operators = [
        core.CreateOperator("Sigmoid", "x", "a"),
        core.CreateOperator("Sigmoid", "x", "b"),
        core.CreateOperator("Mul", ["a", "b"], "y"),
    ]
    made, _ = core.GradientRegistry.GetBackwardPass(operators, {"y": "y_grad"})
    assert list(made[-1].device_option.extra_info) == ["is_auto_gen_sum_ops:1"]
    del made[-1].device_option.extra_info[:]
    made[-1].debug_info = ""
    expected = core.CreateOperator("Sum", ["x_grad", "_x_grad_autosplit_0"], "x_grad")
    expected.debug_info = ""
    assert made[-1] == expected


def test_a_job_is_used_before_its_workspace_types_are_compared() -> None:
    made = job()
    with made, task.Task(workspace_type=task.WorkspaceType.GLOBAL):
        ops.Const(0)
    with pytest.raises(AssertionError, match="one workspace type"):
        net_printer.analyze(made)


def test_devices_are_compared_by_number() -> None:
    cpu, gpu = core.DeviceOption(0), core.DeviceOption(workspace.GpuDeviceType, 1)
    assert core.device_equal(cpu, caffe2_pb2.DeviceOption())
    assert core.device_equal(cpu, core.DeviceOption(0, random_seed=1, node_name="n"))
    assert not core.device_equal(cpu, core.DeviceOption(0, 1))
    assert not core.device_equal(cpu, gpu)
    assert core.copy_func_between_devices(cpu, cpu) is None
    for pair in ((cpu, gpu), (gpu, cpu)):
        with pytest.raises(ValueError, match="CUDA"):
            core.copy_func_between_devices(*pair)


def test_remapping_takes_keywords() -> None:
    made = core.CreateOperator("Add", ["a", "b"], ["c"])
    core.remap_input(op=made, blob_name_remapping={"a": "z"})
    assert list(made.input) == ["z", "b"]
    inner = core.Net("inner")
    inner.Relu("a", "a")
    made = core.CreateOperator("If", ["c"], [], then_net=inner.Proto())
    core.control_op_remap(op=made, prefix="", blob_remap={"a": "z"})
    assert list(made.arg[0].n.op[0].output) == ["z"]


def test_no_blob_is_the_gradient_of_two_outputs() -> None:
    made = core.CreateOperator("Foo", ["a"], ["x", "y", "z", "x"])
    copies, gradients = control_ops_grad.dedupe_g_output(made, ["p", "p", None, "p"])
    assert [(op.type, op.input, op.output) for op in copies] == [("Copy", ["p"], ["y_p_DEDUP"])]
    assert gradients == ["p", "y_p_DEDUP", None, "p"]
    assert control_ops_grad.dedupe_g_output(made, [None] * 4) == ([], [None] * 4)


def test_nothing_else_is_printed() -> None:
    for function in (net_printer.analyze, net_printer.to_string):
        with pytest.raises(TypeError):
            function(42)


def test_nested_nets_and_prefixes_are_printed() -> None:
    inner = core.Net("inner")
    inner.Relu(["scope/x"], ["scope/y"])
    outer = core.CreateOperator("If", ["a/cond", "a/b"], [], then_net=inner.Proto())
    text = net_printer.to_string(outer, factor_prefixes=True, c2_syntax=False)
    assert "If(a/[cond, b]" in text
    assert "Relu(scope/x)" in text


def test_a_debug_net_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    net = core.Net("says")
    net.ConstantFill([], "x", shape=[1], value=1.0)
    workspace.RunNetOnce(net_printer.debug_net(net))
    assert "ConstantFill" in capsys.readouterr().out
    assert workspace.HasBlob("x")


# Sessions.


def test_a_session_runs_in_the_current_workspace_or_a_given_one() -> None:
    net = core.Net("adds")
    net.Add(["x", "x"], "y")
    workspace.FeedBlob("x", np.ones(1, np.float32))
    with session.LocalSession() as local:
        local.run(net)
        local.run([net, net])
        local.run(local.compile(net))
    assert workspace.FetchBlob("y").tolist() == [2]
    with pytest.raises(AssertionError, match="closed"):
        local.run(net)
    ws = workspace.C.Workspace()
    ws.feed_blob("x", np.zeros(1, np.float32))
    session.LocalSession(ws).run(net)
    assert ws.fetch_blob("y").tolist() == [0]


def test_a_session_knows_workspace_types() -> None:
    net = core.Net("private")
    net.ConstantFill([], "inside", shape=[1], value=1.0)
    session.LocalSession().run(net, workspace_type=task.WorkspaceType.PRIVATE)
    assert not workspace.HasBlob("inside")
    group = task.TaskGroup(task.WorkspaceType.GLOBAL)
    with pytest.raises(AssertionError):
        session.LocalSession().run(group, workspace_type=task.WorkspaceType.PRIVATE)
    with pytest.raises(AssertionError):
        session.LocalSession().run(None)


def test_a_workspace_moves_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.LocalSession, "processes", True)
    ws = workspace.C.Workspace()
    ws.feed_blob("x", np.ones(5000, np.float32))
    ws.create_blob("empty")
    net = core.Net("moves")
    net.Add(["x", "x"], "y")
    net.Python(lambda inputs, outputs: outputs[0].feed(np.array(__import__("os").getpid())))(
        [], ["pid"]
    )
    local = session.LocalSession(ws)
    local.run(net)
    import os

    assert int(ws.fetch_blob("pid")) != os.getpid()
    fetched = ws.fetch_blob("y")
    fetched[:] = 0
    assert ws.fetch_blob("y").sum() == 10000
    assert sorted(ws.blobs) == ["empty", "pid", "x", "y"]
    assert b"uninitialized" in ws.fetch_blob("empty")
    ws.feed_blob("x", np.zeros(2, np.float32))
    ws.run(net)
    assert ws.fetch_blob("y").tolist() == [0, 0]
    ws.remove_blob("x")
    assert not ws.has_blob("x")
    with pytest.raises(RuntimeError):
        ws.fetch_blob("x")
    assert session.LocalSession(ws)._session is local._session
    local._session.close()


def test_operators_for_other_devices_are_built_and_refused_when_they_run() -> None:
    option = core.DeviceOption(caffe2_pb2.CUDA, 1)
    net, other = core.Net("n"), core.Net("other")
    with core.DeviceScope(option):
        net.ConstantFill([], "x", shape=[1])
    other.AppendNet(net, device_option=option)
    assert core.InferOpBlobDevices(other.Proto().op[0]) == ([], [option])
    with pytest.raises(RuntimeError, match="CUDA"):
        workspace.RunNetOnce(net)
