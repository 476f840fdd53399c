"""Pipes: tasks that read records, process and write them, until there are no more.

A pipe that writes to nothing in particular writes to a new queue, from which the next pipe reads:
so a pipeline is a group of tasks, all of which run at once.

    with TaskGroup() as group:
        decoded = pipe(dataset.reader(batch_size=100), processor=decode, num_runtime_threads=4)
        pipe(decoded, processor=train)
    session.run(group)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from procession import ExecutionStep, Net, NetBuilder, Task, TaskGroup, execution_step, ops
from procession.core import to_execution_step
from procession.data.nets import fill_bool, new_net
from procession.data.processing import ProcessingReader
from procession.data.queue import Queue
from procession.data.reader import Readable, Reader, Writable, Writer, as_reader
from procession.errors import GraphError

DEFAULT_QUEUE_CAPACITY = 100
"""How many records the queue holds that a pipe makes."""


@dataclass(frozen=True)
class PipeTypes:
    """What a pipe is made of; `task` also decides of which class its nets are."""

    task: type[Task] = Task
    queue: type[Queue] = Queue
    reader: type[ProcessingReader] = ProcessingReader


def name_of(what: Any) -> str:
    """What something is called: by its own name, that of the function, or of its class."""
    return str(getattr(what, "name", None) or getattr(what, "__name__", type(what).__name__))


class _Target:
    """Where a pipe writes to, set up when the first record is known."""

    def __init__(
        self,
        output: Writer | Writable | None,
        capacity: int | None,
        queue: type[Queue],
        init_net: Net,
        exit_net: Net,
    ) -> None:
        if output is not None and capacity is not None:
            raise GraphError("capacity is for the queue that is made when there is no output")
        self.result: Writable | None = None
        if output is None:
            output = queue(DEFAULT_QUEUE_CAPACITY if capacity is None else capacity)
        if isinstance(output, Writer):
            self.writer = output
        elif hasattr(output, "writer"):
            self.result = output
            self.writer = output.writer()
        else:
            raise GraphError(f"pipe writes to a writer, a queue or the like, not {output!r}")
        self.writer.setup_ex(init_net, exit_net)


class _Nets:
    """The nets of a pipe: those that run once, and those that run in each thread."""

    def __init__(
        self,
        reader: Reader,
        output: Writer | Writable | None,
        capacity: int | None,
        queue: type[Queue],
        prefix: str,
    ) -> None:
        self._prefix = prefix
        self._reader = reader
        self._output = output, capacity, queue
        self._target: _Target | None = None
        self.init, self.exit = new_net(f"{prefix}init"), new_net(f"{prefix}exit")
        reader.setup_ex(self.init, self.exit)

    @property
    def result(self) -> Writable | None:
        """What is written to; None with a writer, or when nothing is written."""
        return None if self._target is None else self._target.result

    def thread(self, around: str, between: str) -> tuple[Net, ExecutionStep, Net]:
        """What a thread runs: first, again and again, last.

        Args:
            around: The name of the builder that the queue belongs to.
            between: Comes before the names of nets.
        """
        first, last = (new_net(f"{self._prefix}{between}{name}") for name in ("init", "exit"))
        nets, over, record = self._reader.read_record_ex(first, last)
        fill_bool(first, over, False)
        if record is not None:
            if self._target is None:
                # The queue is called after the task, not after a thread.
                with NetBuilder(_fullname=around):
                    self._target = _Target(*self._output, self.init, self.exit)
            written, _ = self._target.writer.write_record_ex(record, first, last, over)
            nets = [*nets, *written]
        return first, execution_step("body", nets, should_stop_blob=over), last


def _runtime_threads(task: Task, nets: _Nets) -> None:
    """One body, run by as many instances of the task."""
    first, body, last = nets.thread(task.name, "instance:")
    with ops.task_init():
        ops.net(nets.init)
    with ops.task_instance_init():
        ops.net(first)
    NetBuilder.current().add(body)
    with ops.task_instance_exit():
        ops.net(last)
    with ops.task_exit():
        ops.net(nets.exit)


def _built_threads(task: Task, nets: _Nets, num_threads: int) -> None:
    """As many bodies, built one after the other, in one instance of the task."""
    threads = []
    for number in range(num_threads):
        with NetBuilder(name=f"t:{number}") as builder:
            for part in nets.thread(task.name, ""):
                builder.add(part)
        threads.append(to_execution_step(builder))
    builder = NetBuilder.current()
    builder.add(nets.init)
    builder.add(execution_step("body", threads, concurrent_substeps=True))
    builder.add(nets.exit)


def _pipe(
    input: Reader | Readable,
    output: Writer | Writable | None,
    num_threads: int,
    processor: Any,
    name: str | None,
    capacity: int | None,
    group: TaskGroup | None,
    num_runtime_threads: int,
    final_outputs: Any,
    types: PipeTypes,
) -> tuple[Any, Task | None]:
    if num_threads > 1 and num_runtime_threads > 1:
        raise GraphError("give num_threads or num_runtime_threads, not both")
    reader = as_reader(input)
    if processor is not None:
        reader = types.reader(reader, processor)
    if 0 in (num_threads, num_runtime_threads):
        if output is not None:
            raise GraphError("a pipe without threads is a reader: it writes to no output")
        return reader, None
    if name is None and processor is not None:
        name = name_of(processor)
    if name is None:
        name = f"pipe_from:{name_of(input)}" if output is None else f"pipe_into:{name_of(output)}"
    with types.task(
        name=name, group=group, outputs=final_outputs, num_instances=num_runtime_threads
    ) as task:
        if num_threads > 1:
            nets = _Nets(reader, output, capacity, types.queue, "")
            _built_threads(task, nets, num_threads)
        else:
            nets = _Nets(reader, output, capacity, types.queue, "pipe:")
            _runtime_threads(task, nets)
    return nets.result, task


def pipe(
    input: Reader | Readable,
    output: Writer | Writable | None = None,
    num_threads: int = 1,
    processor: Any = None,
    name: str | None = None,
    capacity: int | None = None,
    group: TaskGroup | None = None,
    num_runtime_threads: int = 1,
    *,
    types: PipeTypes = PipeTypes(),
) -> Any:
    """Make a task that reads, processes and writes records until there are no more.

    Args:
        input: A reader, or what has one: a queue, a dataset that is to be read once.
        output: A writer, or what has one: a queue; left out, a new queue.
        num_threads: How many threads do it, built one after the other: reader, processor and
            writer make nets for each. 0: make no task, and return what reads.
        processor: What is done to a record: see `procession.data.processing`; left out, nothing.
        name: What the task is called; left out, after the processor, the output or the input.
        capacity: How many records the new queue holds, default 100.
        group: The group to join; left out, the current one, if any.
        num_runtime_threads: How many threads do it, each with a workspace of its own for what it
            makes: nets are made once. 0 as with `num_threads`.
        types: Of which classes task, queue and reader are, if not of those here.

    Returns:
        The queue, or the like, that is written to; None with a writer, or if the processor returns
        no record; what reads, without threads.

    Raises:
        GraphError: Options that exclude each other, or something that can be neither read nor
            written to.

    Caffe2: pipeline.pipe.
    """
    return _pipe(
        input,
        output,
        num_threads,
        processor,
        name,
        capacity,
        group,
        num_runtime_threads,
        None,
        types,
    )[0]


def pipe_and_output(
    input: Reader | Readable,
    output: Writer | Writable | None = None,
    num_threads: int = 1,
    processor: Any = None,
    name: str | None = None,
    capacity: int | None = None,
    group: TaskGroup | None = None,
    num_runtime_threads: int = 1,
    final_outputs: Any = None,
    *,
    types: PipeTypes = PipeTypes(),
) -> tuple[Any, Any]:
    """`pipe`, with blobs to be handed back when the task has ended.

    Args:
        input: As the others, see `pipe`.
        output: See `pipe`.
        num_threads: See `pipe`, but not 0.
        processor: See `pipe`.
        name: See `pipe`.
        capacity: See `pipe`.
        group: See `pipe`.
        num_runtime_threads: See `pipe`, but not 0.
        final_outputs: A blob or a record, or a list of them.
        types: See `pipe`.

    Returns:
        What `pipe` returns; and the `TaskOutput`, or, for a list, a list of them; None if nothing
        is to be handed back.

    Raises:
        GraphError: There are no threads, and so no task; or what `pipe` raises.

    Caffe2: pipeline.pipe_and_output.
    """
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
        types,
    )
    if task is None:
        raise GraphError("a pipe without threads makes no task, which could hand something back")
    if final_outputs is None:
        return result, None
    outputs = task.outputs()
    return result, outputs if isinstance(final_outputs, (list, tuple)) else outputs[0]
