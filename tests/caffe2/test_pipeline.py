"""Pipelines of readers, processors and writers; with and without queues and threads."""

from __future__ import annotations

import numpy as np
import pytest
from caffe2.python import core, schema, workspace
from caffe2.python.dataset import Dataset
from caffe2.python.pipeline import Output, pipe, pipe_and_output
from caffe2.python.queue_util import Queue
from caffe2.python.session import LocalSession
from caffe2.python.task import TaskGroup

NUMBERS = np.arange(20)


@pytest.fixture
def datasets() -> tuple[Dataset, Dataset]:
    workspace.ResetWorkspace()
    init = core.Net("init")
    with core.NameScope("source"):
        source = schema.NewRecord(init, schema.Struct(("n", np.int64)))
    with core.NameScope("target"):
        target = schema.InitEmptyRecord(init, schema.Struct(("n", np.int64)))
    workspace.RunNetOnce(init)
    schema.FeedRecord(source, [NUMBERS])
    return Dataset(source), Dataset(target)


def written(target: Dataset) -> list[int]:
    return workspace.FetchBlob(target.get_blobs()[0]).tolist()


def doubled(record: schema.Struct) -> Output:
    net = core.Net("double")
    return Output(net, schema.Struct(("n", net.Add([record.n(), record.n()]))))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch", [1, 7])
def test_records_go_through_queues_and_processors(
    datasets: tuple[Dataset, Dataset], threads: int, batch: int
) -> None:
    source, target = datasets
    with TaskGroup() as group:
        queue = pipe(source.reader(batch_size=batch), processor=doubled, capacity=2)
        pipe(queue, target.writer(), num_runtime_threads=threads)
    LocalSession().run(group)
    assert isinstance(queue, Queue)
    assert sorted(written(target)) == (2 * NUMBERS).tolist()


def test_a_net_with_records_is_a_processor(datasets: tuple[Dataset, Dataset]) -> None:
    source, target = datasets
    net = core.Net("triple")
    record = net.set_input_record(schema.NewRecord(net, schema.Struct(("n", np.int64))))
    total = net.Add([net.Add([record.n(), record.n()]), record.n()])
    net.set_output_record(schema.Struct(("n", total)))
    with TaskGroup() as group:
        pipe(source.reader(), target.writer(), processor=net)
    LocalSession().run(group)
    assert written(target) == (3 * NUMBERS).tolist()


def test_no_threads_make_a_reader(datasets: tuple[Dataset, Dataset]) -> None:
    source, target = datasets
    with TaskGroup() as group:
        reader = pipe(source.reader(), num_threads=0, processor=doubled)
        _, outputs = pipe_and_output(
            reader, target.writer(), final_outputs=target.content().field_blobs()
        )
    LocalSession().run(group)
    assert outputs[0].fetch().tolist() == (2 * NUMBERS).tolist()


def test_what_cannot_be_piped_is_refused(datasets: tuple[Dataset, Dataset]) -> None:
    source, target = datasets
    with pytest.raises(AssertionError, match="reads from"):
        pipe(42)
    with pytest.raises(AssertionError, match="not both"):
        pipe(source.reader(), num_threads=2, num_runtime_threads=2)
    with pytest.raises(AssertionError, match="capacity"):
        pipe(source.reader(), target.writer(), capacity=3)
    with pytest.raises(AssertionError, match="init_empty"):
        Dataset(["a"]).reader()
