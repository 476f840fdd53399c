"""`caffe2.python.pipeline`: tasks that read, process and write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from procession.caffe2.python import core
from procession.caffe2.python.dataio import Reader, Writer
from procession.caffe2.python.queue_util import Queue
from procession.errors import GraphError
from procession.graph.blob import BlobReference
from procession.graph.builder import NetBuilder
from procession.graph.net import Net
from procession.graph.ops import ops
from procession.graph.schema import Field
from procession.graph.task import Task, TaskGroup

__all__ = ["NetProcessor", "Output", "ProcessingReader", "pipe", "pipe_and_output"]


class _Result(NamedTuple):
    nets: list[Any]
    record: Any
    should_stop: Any


def Output(nets: Any = None, record: Any = None, should_stop: Any = None) -> _Result:
    """What a processor returns: nets, the record they make, a blob that says it is over.

    Args:
        nets: A net or a list of them; left out, those of the builder that one is in.
        record: The record.
        should_stop: The blob.
    """
    builder = NetBuilder.current(required=False)
    if nets is None:
        nets = builder.get() if builder is not None else []
    elif builder is not None and builder.get():
        raise GraphError("a processor returns its nets, or adds operators by `ops`, but not both")
    return _Result(nets if isinstance(nets, list) else [nets], record, should_stop)


def _result(returned: Any) -> _Result:
    if isinstance(returned, _Result):
        return returned
    if isinstance(returned, Field):
        return Output(record=returned)
    if isinstance(returned, tuple):
        if len(returned) == 2 and isinstance(returned[0], Field):
            return Output(None, *returned)
        return Output(*returned)
    return Output(returned)


class NetProcessor:
    """Processes records by copies of a net with an input and an output record.

    Args:
        net: The net.
        stop_signal: A blob of it that says it is over.
        thread_init_nets: Nets to run before.
        name: What it is called.
    """

    def __init__(
        self, net: Net, stop_signal: Any = None, thread_init_nets: Any = None, name: Any = None
    ) -> None:
        self.name = name or str(net)
        self.net = net
        self._stop = stop_signal
        self._init_nets = list(thread_init_nets or ())
        self._waiting: list[Net] = []

    def schema(self) -> Any:
        """What a record is that it makes."""
        return self.net.output_record()

    def setup(self, init_net: Any) -> list[Net]:
        """The nets to run before."""
        made, self._waiting = self._waiting, []
        return made

    def __call__(self, record: Any) -> _Result:
        """A copy of the net that reads this record."""
        prefix = f"{NetBuilder.current().name}/"
        renamed: dict[Any, Any] = {}
        for net in self._init_nets:
            copied, _ = core.clone_and_bind_net(net, f"{net}{prefix}", prefix, renamed)
            self._waiting.append(copied)
        made, names = core.clone_and_bind_net(
            self.net, f"{self.net}{prefix}", prefix, renamed, record
        )
        stop = self._stop
        if stop is not None and str(stop) in names:
            stop = BlobReference(names[str(stop)], made)
        return Output([made], made.output_record(), stop)


class ProcessingReader(Reader):
    """Reads records, and hands on what a processor makes of them.

    Args:
        reader: Where they come from.
        processor: A function of a record, or a net with records.
    """

    def __init__(self, reader: Reader, processor: Any) -> None:
        super().__init__()
        self.reader = reader
        self.processor: Callable[[Any], Any] = (
            NetProcessor(processor) if isinstance(processor, Net) else processor
        )

    def setup_ex(self, init_net: Any, finish_net: Any) -> None:
        """Set up what it reads from."""
        self.reader.setup_ex(init_net, finish_net)

    def read_ex(self, local_init_net: Any, local_finish_net: Any) -> tuple[Any, Any, Any]:
        """The nets that read and process a batch, and what they make."""
        nets, over, record = self.reader.read_record_ex(local_init_net, local_finish_net)
        with NetBuilder() as builder:
            result = _result(self.processor(record))
        nets = [*nets, *result.nets]
        stops = [each for each in (result.should_stop, builder._stop_blob) if each is not None]
        if stops:
            net = core.Net("stop_net")
            for each in stops:
                net.Or([over, each], [over])
            nets.append(net)
        if hasattr(self.processor, "setup"):
            local_init_net.add_attribute(TaskGroup.LOCAL_SETUP, self.processor)
        self._set_schema(result.record)
        return nets, over, result.record.field_blobs() if result.record else None


def _name_of(what: Any) -> str:
    return str(getattr(what, "name", None) or getattr(what, "__name__", type(what).__name__))


def _written(output: Any, capacity: int | None, init_net: Any, exit_net: Any) -> tuple[Any, Writer]:
    """What is written to, and its writer."""
    if isinstance(output, Writer):
        if capacity is not None:
            raise GraphError("capacity is for the queue that is made when there is no output")
        result, writer = None, output
    else:
        result = Queue(10 if capacity is None else capacity) if output is None else output
        writer = result.writer()
    writer.setup_ex(init_net, exit_net)
    return result, writer


def _pipe(
    input: Any,
    output: Any,
    num_threads: int,
    processor: Any,
    name: str | None,
    capacity: int | None,
    group: Any,
    num_runtime_threads: int,
    final_outputs: Any = None,
) -> tuple[Any, Any]:
    if num_threads > 1 and num_runtime_threads > 1:
        raise GraphError("give num_threads or num_runtime_threads, not both")
    if not isinstance(input, Reader) and not hasattr(input, "reader"):
        raise GraphError(f"pipe reads from a reader, a queue or the like, not {input!r}")
    reader: Reader = input if isinstance(input, Reader) else input.reader()
    if processor is not None:
        reader = ProcessingReader(reader, processor)
    if 0 in (num_threads, num_runtime_threads):
        return reader, None
    if name is None and processor is not None:
        name = _name_of(processor)
    if name is None:
        name = f"pipe_from:{_name_of(input)}" if output is None else f"pipe_into:{_name_of(output)}"
    instances = max(num_threads, num_runtime_threads)
    with Task(name=name, group=group, outputs=final_outputs, num_instances=instances) as task:
        begin, end = core.Net("pipe:init"), core.Net("pipe:exit")
        reader.setup_ex(begin, end)
        first, last = core.Net("pipe:instance:init"), core.Net("pipe:instance:exit")
        nets, over, record = reader.read_record_ex(first, last)
        first.ConstantFill([], [over], shape=[], value=False, dtype=core.DataType.BOOL)
        result = None
        if record is not None:
            result, writer = _written(output, capacity, begin, end)
            nets = [*nets, *writer.write_record_ex(record, first, last, over)[0]]
        with ops.task_init():
            ops.net(begin)
        with ops.task_instance_init():
            ops.net(first)
        body: Any = core.execution_step("body", nets, should_stop_blob=over)
        ops.net(body)
        with ops.task_instance_exit():
            ops.net(last)
        with ops.task_exit():
            ops.net(end)
    return result, task


def pipe(
    input: Any,
    output: Any = None,
    num_threads: int = 1,
    processor: Any = None,
    name: str | None = None,
    capacity: int | None = None,
    group: Any = None,
    num_runtime_threads: int = 1,
) -> Any:
    """A task that reads, processes and writes records until there are no more.

    Args:
        input: A reader, or a queue or dataset to read from.
        output: A writer, or a queue to write to; left out, a new queue.
        num_threads: How many threads do it; 0: make no task, and return what reads.
        processor: A function of a record, which returns a record, nets, or an `Output`; or a net
            with an input and an output record.
        name: What the task is called.
        capacity: That of the new queue.
        group: The group to join; left out, the current one.
        num_runtime_threads: As `num_threads`.

    Returns:
        The queue that is written to; None with a writer, or when nothing is written.
    """
    return _pipe(input, output, num_threads, processor, name, capacity, group, num_runtime_threads)[
        0
    ]


def pipe_and_output(
    input: Any,
    output: Any = None,
    num_threads: int = 1,
    processor: Any = None,
    name: str | None = None,
    capacity: int | None = None,
    group: Any = None,
    num_runtime_threads: int = 1,
    final_outputs: Any = None,
) -> tuple[Any, Any]:
    """`pipe`, and the outputs of the task: those of `final_outputs`."""
    result, task = _pipe(
        input,
        output,
        num_threads,
        processor,
        name,
        capacity,
        group,
        num_runtime_threads,
        final_outputs,
    )
    if final_outputs is None:
        return result, None
    outputs = task.outputs()
    return result, outputs if isinstance(final_outputs, (list, tuple)) else outputs[0]
