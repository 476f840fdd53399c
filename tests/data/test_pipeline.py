"""Pipelines of readers, processors and writers; with and without queues and threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import (
    BlobReference,
    GraphError,
    LocalSession,
    Net,
    NetBuilder,
    Node,
    ProcessSession,
    Task,
    TaskGroup,
    ops,
    schema,
)
from procession.data import (
    CountUntil,
    Dataset,
    NetProcessor,
    Output,
    PipeTypes,
    ProcessingReader,
    Queue,
    Reader,
    pipe,
    pipe_and_output,
)

N = schema.Struct(("n", np.int64))


def doubled(record: Any) -> Output:
    net = Net("double")
    return Output(net, schema.Struct(("n", net.Add([record.n(), record.n()]))))


def tripled() -> Net:
    """A net with records."""
    net = Net("triple")
    record = net.set_input_record(schema.NewRecord(net, N))
    total = net.Add([net.Add([record.n(), record.n()]), record.n()])
    net.set_output_record(schema.Struct(("n", total)))
    return net


@pytest.mark.parametrize("threads", ["num_threads", "num_runtime_threads"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("batch", [1, 7])
def test_records_go_through_queues_and_processors(
    anyplace: Any, threads: str, number: int, batch: int
) -> None:
    many = {threads: number}
    with TaskGroup() as group:
        queue = pipe(anyplace.source.reader(batch_size=batch), processor=doubled, capacity=2)
        more = pipe(queue, processor=tripled(), **many)
        pipe(more, anyplace.target.writer(), **many)
    for _ in range(2):
        anyplace.run(group)
    assert isinstance(queue, Queue)
    assert (queue.capacity, more.capacity) == (2, 100)
    assert sorted(anyplace.written()) == sorted(6 * n for n in anyplace.numbers * 2)


def test_nodes_have_pipelines_of_their_own() -> None:
    datasets, outputs = {}, {}
    with ProcessSession() as session:
        for number, node in enumerate(("n1", "n2")):
            datasets[node] = Dataset(N), Dataset(N)
            init = Net(f"init_{node}")
            datasets[node][0].init_from_arrays(init, [np.arange(10) + 100 * number])
            datasets[node][1].init_empty(init)
            with Node(node):
                session.run(init)
        with TaskGroup() as group:
            for node, (source, target) in datasets.items():
                with Node(node):
                    queue = pipe(source.reader(batch_size=3), processor=doubled)
                    _, outputs[node] = pipe_and_output(
                        queue, target.writer(), final_outputs=target.get_blobs()
                    )
        session.run(group)
        fetched = {node: output[0].fetch().tolist() for node, output in outputs.items()}
    assert fetched == {"n1": list(range(0, 20, 2)), "n2": list(range(200, 220, 2))}


@pytest.mark.parametrize(
    "returned",
    [
        lambda net, record, stop: Output(net, record, stop),
        lambda net, record, stop: (net, record, stop),
        lambda net, record, stop: ([net], record, stop),
        lambda net, record, stop: (ops.net(net) and None, record, stop),
        lambda net, record, stop: ops.net(net) and (record, stop),
    ],
)
def test_what_a_processor_may_return(place: Any, returned: Any) -> None:
    def processor(record: Any) -> Any:
        net = Net("below")
        stop = net.GE([record.n(), net.Const(3)])
        return returned(net, schema.Struct(("n", net.Copy(record.n()))), stop)

    assert place.read(place.source.reader(), processor=processor) == [0, 1, 2]


def test_a_processor_adds_operators_where_it_is(place: Any) -> None:
    def processor(record: Any) -> Any:
        ops.stop_if(ops.EQ([record.n(), ops.Const(6)]))
        with ops.If(ops.GE([record.n(), ops.Const(4)])):
            ops.Copy(ops.Const([-1]), record.n())
        return record

    assert place.read(place.source.reader(), processor=processor) == [0, 1, 2, 3, -1, -1]


def test_a_processor_may_return_nothing_to_write(place: Any) -> None:
    def add(record: Any) -> Any:
        net = Net("add")
        net.Add(["total", record.iter()], ["total"])
        return net

    init = Net("init")
    init.Const(0, "total")
    with TaskGroup() as group:
        queue, total = pipe_and_output(CountUntil(5), processor=add, final_outputs="total")
    place.run(init)
    place.run(group)
    assert queue is None
    assert total.fetch() == 10


def test_a_processor_is_called_for_each_thread_that_is_built(place: Any) -> None:
    seen = []

    def processor(record: Any) -> Any:
        seen.append(str(record.n()))
        return record

    target = place.target.writer()
    with TaskGroup():
        pipe(place.source.reader(), target, 3, processor)
        pipe(place.source.reader(), target, processor=processor, num_runtime_threads=3)
    assert len(seen) == len(set(seen)) == 4
    assert [name.split("/")[2] for name in seen[:3]] == ["t:0", "t:1", "t:2"]


def test_datasets_can_be_piped_as_they_are(place: Any) -> None:
    with TaskGroup() as group:
        assert pipe(place.source, place.target) is place.target
    place.run(group)
    assert place.written() == place.numbers


def test_a_processor_that_needs_nets_to_be_set_up_gets_some(place: Any) -> None:
    reader = ProcessingReader(place.source.reader(Net("init")), tripled())
    with pytest.raises(ValueError, match="give read_ex nets to hang it on"), NetBuilder("b"):
        reader.read_ex(None, None)


def test_no_threads_make_a_reader(place: Any) -> None:
    reader = pipe(place.source.reader(), num_threads=0, processor=doubled)
    again = pipe(reader, num_runtime_threads=0, processor=tripled())
    assert isinstance(again, ProcessingReader)
    assert again.schema().field_names() == ["n"]
    assert place.read(again) == [6 * n for n in place.numbers]
    assert reader.schema().field_names() == ["n"]


def test_a_processing_reader_begins_anew(place: Any) -> None:
    init, again = Net("init"), Net("again")
    reader = ProcessingReader(place.source.reader(init, batch_size=20), doubled)
    place.run(init)
    reader.reset(again)
    for _ in range(2):
        assert place.read(reader) == [2 * n for n in place.numbers]
        place.run(again)


def test_a_processor_may_say_what_it_makes(place: Any) -> None:
    def processor(record: Any) -> Any:
        return record

    reader = place.source.reader()
    with pytest.raises(ValueError, match="ProcessingReader has no schema"):
        ProcessingReader(reader, processor).schema()
    processor.schema_func = lambda reader: reader.schema()
    assert ProcessingReader(reader, processor).schema() == N


def test_a_net_is_copied_for_each_thread(place: Any) -> None:
    net, init = tripled(), Net("thread_init")
    offset = init.Const([1])
    net.Add([net.output_record().n(), offset], net.output_record().n())
    processor = NetProcessor(net, thread_init_nets=[init])
    with TaskGroup() as group:
        pipe(place.source.reader(), place.target.writer(), 2, processor)
    place.run(group)
    assert sorted(place.written()) == [3 * n + 1 for n in place.numbers]
    assert len(processor.blob_maps()) == 2
    with pytest.raises(ValueError, match="processor 'triple' has been set up"):
        processor(place.source.content())


def test_a_net_says_when_to_stop(place: Any) -> None:
    net = Net("until")
    record = net.set_input_record(schema.NewRecord(net, N))
    stop = net.GE([record.n(), net.Const(5)])
    net.set_output_record(schema.Struct(("n", net.Copy(record.n()))))
    processor = NetProcessor(net, stop_signal=stop, name="mine")
    assert processor.schema().field_names() == ["n"]
    assert place.read(place.source.reader(), processor=processor) == [0, 1, 2, 3, 4]


def test_tasks_are_called_after_what_they_do(place: Any) -> None:
    source, target = place.source.reader(cursor_name="rows"), place.target.writer()
    with TaskGroup() as group:
        queue = pipe(source)
        pipe(queue, target)
        pipe(queue, target, processor=doubled)
        pipe(queue, target, name="mine")
    names = ["pipe_from:rows", "pipe_into:DatasetWriter", "doubled", "mine"]
    assert [task.name for task in group.tasks()] == [f"local/{name}" for name in names]


def test_a_task_joins_the_group_it_is_given(place: Any) -> None:
    group = TaskGroup()
    with TaskGroup() as other:
        pipe(place.source.reader(), place.target.writer(), group=group)
    assert (len(group.tasks()), len(other.tasks())) == (1, 0)


class OwnNet(Net):
    """A class of nets."""


class OwnBuilder(NetBuilder):
    net_type = OwnNet


class OwnTask(Task):
    builder_type = OwnBuilder


@pytest.mark.parametrize("threads", [{"num_threads": 2}, {"num_runtime_threads": 2}])
def test_all_nets_are_of_the_kind_that_the_task_makes(place: Any, threads: dict[str, int]) -> None:
    made: list[Net] = []

    class Spy(Reader):
        def setup_ex(self, init_net: Any, finish_net: Any) -> None:
            made.extend([init_net, finish_net])

        def read(self, read_net: Net) -> Any:
            made.append(read_net)
            return read_net.Const(True), [read_net.Const(1)]

    def processor(columns: Any) -> Any:
        made.append(ops.net())
        ops.stop_if(ops.Const(True))
        return schema.Struct(("n", ops.Copy(columns[0])))

    with TaskGroup() as group:
        pipe(Spy(), processor=processor, types=PipeTypes(OwnTask), **threads)
    made.extend(net for task in group.tasks() for net in nets_in(task.get_step()))
    kinds = {net.Name().split("/")[-1]: type(net) for net in made}
    assert {"reader_body", "stop_net", "enqueue"} <= kinds.keys()
    assert set(kinds.values()) == {OwnNet}


def nets_in(step: Any) -> list[Net]:
    """All nets of a step."""
    found: list[Net] = []
    for part in step.body:
        found += [part] if isinstance(part, Net) else nets_in(part)
    return found


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda source, target: pipe(42), "reads from a reader, a queue or the like, not 42"),
        (lambda source, target: pipe(source, 42), "writes to a writer, a queue or the like, not"),
        (
            lambda source, target: pipe(source, num_threads=2, num_runtime_threads=2),
            "num_threads or num_runtime_threads, not both",
        ),
        (lambda source, target: pipe(source, target, capacity=3), "capacity is for the queue"),
        (lambda source, target: pipe(source, Queue(1), capacity=3), "capacity is for the queue"),
        (lambda source, target: pipe(source, target, 0), "without threads is a reader"),
        (lambda source, target: pipe_and_output(source, num_threads=0), "makes no task"),
    ],
)
def test_what_cannot_be_piped_is_refused(place: Any, wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(place.source.reader(), place.target.writer())


def test_a_processor_returns_nets_or_adds_operators(place: Any) -> None:
    def both(record: Any) -> Any:
        ops.Const(1)
        return Net("net"), record

    with pytest.raises(ValueError, match="or adds operators by `ops`, but not both"):
        pipe(place.source.reader(), processor=both)


@pytest.mark.parametrize("returned", [5, "x", {"a": 1}, BlobReference("x"), (schema.Struct(), 5)])
def test_a_processor_returns_nothing_else(place: Any, returned: Any) -> None:
    with pytest.raises(GraphError, match=r"a processor returns a record, .* or nothing, but not"):
        pipe(place.source.reader(), processor=lambda record: returned)


def test_an_error_in_a_processor_ends_the_run() -> None:
    def broken(inputs: Any, outputs: Any) -> None:
        raise RuntimeError("broken")

    def processor(record: Any) -> Any:
        net = Net("net")
        net.Python(broken)([record.n()], [])
        return net, record

    source, init = Dataset(N), Net("init")
    source.init_from_arrays(init, [np.arange(1000)])
    with LocalSession() as session:
        session.run(init)
        with TaskGroup() as group:
            queue = pipe(source.reader(), capacity=1)
            pipe(queue, processor=processor)
        with pytest.raises(RuntimeError, match="broken"):
            session.run(group)
