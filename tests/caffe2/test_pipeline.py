"""Readers, queues, datasets, pipelines and jobs under Caffe2's names lead to `procession.data`."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from caffe2.python import checkpoint, core, dataio, dataset, pipeline, queue_util, schema, workspace
from caffe2.python.net_builder import ops
from caffe2.python.session import LocalSession
from caffe2.python.task import Task, TaskGroup

from procession import data

NUMBERS = np.arange(20)


@pytest.fixture
def datasets() -> tuple[dataset.Dataset, dataset.Dataset]:
    workspace.ResetWorkspace()
    init = core.Net("init")
    with core.NameScope("source"):
        source = schema.NewRecord(init, schema.Struct(("n", np.int64)))
    with core.NameScope("target"):
        target = schema.InitEmptyRecord(init, schema.Struct(("n", np.int64)))
    workspace.RunNetOnce(init)
    schema.FeedRecord(source, [NUMBERS])
    return dataset.Dataset(source), dataset.Dataset(target)


def written(target: dataset.Dataset) -> list[int]:
    return workspace.FetchBlob(target.get_blobs()[0]).tolist()


@pytest.mark.parametrize(
    "module", [dataio, dataset, pipeline, queue_util], ids=lambda m: m.__name__
)
def test_names_lead_to_the_data_room(module: Any) -> None:
    for name in module.__all__:
        native, own = getattr(data, name, None), getattr(module, name)
        if isinstance(native, type):
            assert issubclass(own, native)


def test_classes_stand_on_those_of_this_face(datasets: Any) -> None:
    source, _ = datasets
    queue = queue_util.Queue(1, schema.Struct(("n", np.int64)))
    readers = [
        dataio.CountUntil(3),
        dataio.ReaderWithTimeLimit(source.reader()),
        dataio.ReaderWithDelay(source.reader(), 0),
        dataio.CompositeReader(["a"], [source.random_reader()]),
        queue.reader(),
        pipeline.pipe(queue, num_threads=0, processor=lambda record: record),
    ]
    assert all(isinstance(each, dataio.Reader) for each in readers)
    assert isinstance(readers[0], dataio.ReaderWithLimitBase)
    assert isinstance(readers[-1], pipeline.ProcessingReader)
    assert isinstance(queue.writer(), dataio.Writer)
    assert isinstance(source.writer(), dataio.Writer)
    assert isinstance(queue, dataio.Pipe)
    assert isinstance(queue, queue_util.QueueWrapper)


def test_nets_out_of_nothing_are_those_of_this_face(datasets: Any) -> None:
    source, _ = datasets

    class Own(dataio.Reader):
        def read(self, read_net: Any) -> Any:
            return read_net.Const(True), []

    step = core.ExecutionStep("empty")
    steps = [
        Own().execution_step()[0],
        source.reader(core.Net("init")).execution_step()[0],
        queue_util.close_queue(step, "queue"),
        dataset.execution_step_with_progress("progress", None, [step], "rows"),
    ]
    nets: list[Any] = [queue_util.Queue(1).queue().Net(), dataio.CountUntil(3).net]
    for each in steps:
        core.add_nets_in_order(each, nets)
    read, _, _ = Own().read_ex(None, None)
    written = queue_util.Queue(1).writer().write_ex(["x"], None, None, "status")
    processing = pipeline.ProcessingReader(
        dataio.CounterReader(), lambda record: schema.Struct(("n", ops.Copy(record.iter())))
    )
    processing.setup_ex(core.Net("init"), None)
    processed, _, _ = processing.read_ex(None, None)
    assert len(nets) == 6
    assert all(type(net) is core.Net for net in [*nets, *read, *written, *processed])


@pytest.mark.parametrize("name", ["pipe", "pipe_and_output"])
def test_signatures_are_those_of_the_data_room(name: str) -> None:
    native = inspect.signature(getattr(data, name)).parameters
    face = inspect.signature(getattr(pipeline, name)).parameters
    assert [(each, native[each].default) for each in native if each != "types"] == [
        (each, face[each].default) for each in face
    ]


@pytest.mark.parametrize("threads", [{"num_threads": 2}, {"num_runtime_threads": 2}])
def test_pipes_are_built_of_the_nets_of_this_face(datasets: Any, threads: dict[str, int]) -> None:
    source, target = datasets
    seen: list[Any] = []

    class Spy(dataio.Reader):
        def setup_ex(self, init_net: Any, finish_net: Any) -> None:
            seen.extend([init_net, finish_net])
            source.reader(init_net)

        def read(self, read_net: Any) -> Any:
            seen.append(read_net)
            # A net of this face passes over what an operator does not have.
            return read_net.Const(True), [read_net.Copy("source/n", no_such_argument=1)]

    def processor(columns: Any) -> Any:
        seen.append(ops.net())
        return schema.Struct(("n", ops.Copy(columns[0])))

    with TaskGroup() as group:
        queue, _ = pipeline.pipe_and_output(Spy(), processor=processor, **threads)
        pipeline.pipe(queue, target.writer())
    LocalSession().run(group)
    assert isinstance(queue, queue_util.Queue)
    assert {type(net) for net in seen} == {core.Net}
    assert {type(task) for task in group.tasks()} == {Task}


def test_nets_are_like_those_that_are_given(datasets: Any) -> None:
    source, _ = datasets
    init, end = core.Net("init"), core.Net("end")
    queue = queue_util.Queue(1, source.schema)
    for reader in (
        source.reader(init),
        dataio.ReaderWithLimit(dataio.ReaderWithDelay(source.reader(init), 0)),
        dataio.CompositeReader(["a"], [queue.reader()]),
        pipeline.ProcessingReader(
            source.reader(init), lambda record: schema.Struct(("m", ops.Copy(record.n())))
        ),
    ):
        reader.setup_ex(init, end)
        nets, _, _ = reader.read_ex(init, end)
        assert {type(net) for net in nets} == {core.Net}
    [enqueues], _ = queue.writer().write_record_ex(source.content(), init, end)
    assert type(enqueues) is core.Net


def test_values_are_fed_to_the_current_workspace() -> None:
    workspace.ResetWorkspace()
    net = core.Net("net")
    blob = dataset.Const(net, [1, 2], np.int32, name="two")
    assert str(blob) == "net/two"
    assert workspace.FetchBlob(blob).dtype == np.int32
    assert net.Proto().external_input == ["net/two"]
    made = dataset.Dataset(["a"])
    made.init_from_arrays(net, [[0.5]])
    assert workspace.FetchBlob(made.get_blobs()[0]).tolist() == [0.5]
    assert not net.Proto().op
    with pytest.raises(AssertionError, match=r"core\.Net"):
        dataset.Const("net", 1)


def test_types_of_columns_are_an_attribute_and_a_method() -> None:
    made = dataset.Dataset(schema.Struct(("a", np.int64)))
    assert made.field_types == made.field_types() == [np.int64]


def test_a_job_is_run(datasets: Any) -> None:
    source, target = datasets
    with checkpoint.Job() as job:
        with job.init_group:
            init = core.Net("make_cursor")
            reader = source.reader(init, batch_size=3)
            Task(step=init)
        limited = dataio.ReaderWithLimit(reader, 2)
        pipeline.pipe(limited, target.writer())
        job.add_stop_condition(limited.data_finished())
    assert checkpoint.JobRunner(job).train(LocalSession()) == 4
    assert written(target) == NUMBERS.tolist()


def test_a_job_ends_after_some_epochs(datasets: Any) -> None:
    source, target = datasets
    with checkpoint.Job() as job:
        pipeline.pipe(source.reader(), target.writer())
    checkpoint.epoch_limiter(job, 2)
    assert checkpoint.JobRunner(job).train(LocalSession()) == 2
    assert written(target) == 2 * NUMBERS.tolist()
    with pytest.raises(AssertionError, match="no checkpoints"):
        checkpoint.JobRunner(job, resume_from_epoch=1)
