"""What happens to a record between reading and writing: processors, and readers that apply them.

A processor is a function of a record. It adds operators by `ops`, or makes nets, and returns what
becomes of the record: another record, a record and a blob that says to stop, nets, a tuple of
(nets, record, blob), an `Output`, or nothing. A net with an input and an output record is a
processor, too. The function is called while the graph is built, once for each reader made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from procession import BlobReference, Net, NetBuilder, TaskGroup
from procession.core import clone_and_bind_net
from procession.data.nets import Columns, Parts, new_builder
from procession.data.reader import Reader
from procession.errors import GraphError
from procession.schema import Field, as_record


class Output:
    """What a processor returns. Caffe2: pipeline.Output.

    Args:
        nets: A net, or a list of them; left out, what it added by `ops`.
        record: The record that they make; None: there is nothing to write.
        should_stop: A blob that says that there is nothing more to be read.

    Raises:
        GraphError: There are nets, and it added operators by `ops` as well; or something is no net.
    """

    def __init__(
        self,
        nets: Net | Iterable[Any] | None = None,
        record: Any = None,
        should_stop: BlobReference | None = None,
    ) -> None:
        builder = NetBuilder.current(required=False)
        built = [] if builder is None else builder.get()
        no_nets = isinstance(nets, (str, bytes, Mapping, Field, BlobReference))
        if no_nets or not isinstance(nets, (Net, Iterable, type(None))):
            raise GraphError(
                f"a processor returns a record, maybe with a blob that says to stop, or nets, or "
                f"an Output, or nothing, but not {nets!r}"
            )
        if nets is None:
            nets = built
        elif built:
            raise GraphError("a processor returns nets, or adds operators by `ops`, but not both")
        self.nets: Parts = [nets] if isinstance(nets, Net) else list(nets)
        self.record = None if record is None else as_record(record)
        self.should_stop = should_stop


def normalize_processor_output(output: Any) -> Output:
    """An `Output` of whatever a processor returned. Caffe2: pipeline.normalize_processor_output."""
    if isinstance(output, Output):
        return output
    if isinstance(output, Field):
        return Output(record=output)
    if not isinstance(output, tuple):
        return Output(output)
    kinds = tuple(map(type, output))
    if len(kinds) == 2 and issubclass(kinds[0], Field) and issubclass(kinds[1], BlobReference):
        return Output(None, *output)
    return Output(*output)


class NetProcessor:
    """Processes records by copies of a net with an input and an output record.

    Caffe2: pipeline.NetProcessor.

    Args:
        net: The net.
        stop_signal: A blob of it that says that there is nothing more to be read.
        thread_init_nets: Nets to run before, once on the node, for each copy.
        name: What it is called.
    """

    def __init__(
        self,
        net: Net,
        stop_signal: BlobReference | None = None,
        thread_init_nets: Iterable[Net] | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or str(net)
        self.net = net
        self.thread_init_nets = list(thread_init_nets or ())
        self._stop_signal = stop_signal
        self._blob_maps: list[dict[Any, Any]] = []
        self._to_set_up: list[Net] = []
        self._frozen = False

    def schema(self) -> Any:
        """What a record is that it makes."""
        return self.net.output_record()

    def setup(self, init_net: Net) -> list[Net]:
        """What runs before: the copies of `thread_init_nets`, each once."""
        self._frozen = True
        made, self._to_set_up = self._to_set_up, []
        return made

    def __call__(self, record: Any) -> Output:
        """Make a copy of the net that reads this record.

        Raises:
            GraphError: What it sets up has been taken already, or its blobs have been asked for.
        """
        if self._frozen:
            raise GraphError(
                f"processor {self.name!r} has been set up, or was asked for its blobs: no more "
                f"copies of it can be made"
            )
        prefix = f"{NetBuilder.current().name}/"
        renamed: dict[Any, Any] = {}
        for net in self.thread_init_nets:
            copied, _ = clone_and_bind_net(net, f"{net}{prefix}", prefix, renamed)
            self._to_set_up.append(copied)
        made, names = clone_and_bind_net(self.net, f"{self.net}{prefix}", prefix, renamed, record)
        self._blob_maps.append(names)
        stop = self._stop_signal
        if stop is not None and str(stop) in names:
            stop = BlobReference(names[str(stop)], made)
        return Output([made], made.output_record(), stop)

    def blob_maps(self) -> list[dict[Any, Any]]:
        """For each copy: blob of the net -> its name in the copy. No more copies are made then."""
        self._frozen = True
        return self._blob_maps


def make_processor(processor: Any, reader: Reader | None = None) -> Callable[[Any], Any]:
    """A function of a record of what may be given for one. Caffe2: pipeline.make_processor.

    Args:
        processor: A function, a net, or None for what leaves records as they are.
        reader: What it is to process. A function that has another, `schema_func`, is given a
            `schema`: what that returns for the reader.
    """
    if processor is None:
        return lambda record: record
    if isinstance(processor, Net):
        return NetProcessor(processor)
    if reader is not None and hasattr(processor, "schema_func"):
        processor.schema = lambda: processor.schema_func(reader)
    made: Callable[[Any], Any] = processor
    return made


class ProcessingReader(Reader):
    """Reads another reader, and what a processor makes of that. Caffe2: pipeline.ProcessingReader.

    Args:
        reader: The other reader.
        processor: A function of a record, or a net with records.
    """

    def __init__(self, reader: Reader, processor: Any) -> None:
        super().__init__()
        self.reader = reader
        self.processor = make_processor(processor, reader)

    def schema(self) -> Any:
        """What a record is that the processor makes.

        Raises:
            GraphError: The processor does not say, and none was made yet.
        """
        of_processor = getattr(self.processor, "schema", None)
        return super().schema() if of_processor is None else of_processor()

    def setup_ex(self, init_net: Net, finish_net: Net | None) -> None:
        """Set up the other reader."""
        self.reader.setup_ex(init_net, finish_net)

    def reset(self, net: Net) -> None:
        """Let the other reader begin anew."""
        self.reader.reset(net)

    def read_ex(
        self, init_net: Net | None, exit_net: Net | None
    ) -> tuple[Parts, BlobReference, Columns | None]:
        """Make the nets that read a batch, and process it.

        Raises:
            GraphError: The processor has to be set up, and `init_net` is None.
        """
        nets, over, record = self.reader.read_record_ex(init_net, exit_net)
        with new_builder(init_net, self.net_type) as builder:
            result = normalize_processor_output(self.processor(record))
        nets = [*nets, *result.nets]
        stops = [each for each in (result.should_stop, builder._stop_blob) if each is not None]
        if stops:
            net = self._new_net("stop_net", init_net)
            for each in stops:
                net.Or([over, each], [over])
            nets.append(net)
        if hasattr(self.processor, "setup"):
            if init_net is None:
                name = getattr(self.processor, "name", self.processor)
                raise GraphError(
                    f"processor {str(name)!r} has to be set up: give read_ex nets to hang it on"
                )
            init_net.add_attribute(TaskGroup.LOCAL_SETUP, self.processor)
        self._set_schema(result.record)
        return nets, over, None if result.record is None else result.record.field_blobs()
