"""Several readers side by side: a record has a field for each, and the first end is the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from procession import BlobReference, Net
from procession.data.nets import Columns, Parts, fill_bool
from procession.data.reader import Reader, ReaderBuilder, as_reader
from procession.errors import GraphError
from procession.schema import Struct


def _side_by_side(names: Sequence[str], sources: Sequence[Any]) -> Struct:
    if len(names) != len(sources) or not names:
        raise GraphError(f"{len(names)} names for {len(sources)} readers: {list(names)}")
    return Struct(*((name, each.schema()) for name, each in zip(names, sources, strict=True)))


class CompositeReader(Reader):
    """Reads a batch of each of several readers. Caffe2: dataio.CompositeReader.

    They are read in order, and all together end when one of them does. If that is not the first,
    those before it have read a batch that goes nowhere; those behind it have not.

    Args:
        names: What the fields of a record are called.
        readers: The reader of each; they have schemas.

    Raises:
        GraphError: There are more, or fewer, names than readers, or one has no schema.
    """

    def __init__(self, names: Sequence[str], readers: Sequence[Reader]) -> None:
        super().__init__(_side_by_side(names, readers))
        self._names = list(names)
        self._readers = list(readers)

    def setup_ex(self, init_net: Net, finish_net: Net | None) -> None:
        """Set up all readers."""
        for reader in self._readers:
            reader.setup_ex(init_net, finish_net)

    def read_ex(
        self, local_init_net: Net | None, local_finish_net: Net | None
    ) -> tuple[Parts, BlobReference, Columns | None]:
        """Make the nets that read a batch of each."""
        read = [reader.read_record_ex(local_init_net, local_finish_net) for reader in self._readers]
        # Everything stops by the blob of the last one, which the others set to true as well.
        over = read[-1][1]
        if local_init_net is not None:
            fill_bool(local_init_net, over, False)
        made: Parts = []
        columns: list[Any] = []
        for name, (nets, ended, record) in zip(self._names, read, strict=True):
            made.extend(nets)
            columns.extend(record.field_blobs())
            if ended != over:
                stop = self._new_net(f"{name}_stop", local_init_net)
                stop.Or([over, ended], [over])
                made.append(stop)
        return made, over, columns

    def reset(self, net: Net) -> None:
        """Let all readers begin anew."""
        for reader in self._readers:
            reader.reset(net)


class CompositeReaderBuilder(ReaderBuilder):
    """Makes composite readers of what several builders make. Caffe2: the same, in dataio.

    Args:
        names: What the fields of a record are called.
        reader_builders: The builder of each; they have schemas.

    Raises:
        GraphError: There are more, or fewer, names than builders.
    """

    reader_type: ClassVar[type[CompositeReader]] = CompositeReader

    def __init__(self, names: Sequence[str], reader_builders: Sequence[ReaderBuilder]) -> None:
        self._schema = _side_by_side(names, reader_builders)
        self._names = list(names)
        self._builders = list(reader_builders)

    def schema(self) -> Struct:
        """A field for each builder's."""
        return self._schema

    def setup(self, **kwargs: Any) -> dict[Any, Any]:
        """Set up all builders.

        Args:
            **kwargs: For each of them. But `limiter`, a function that puts a limit on a reader, is
                for the last alone, which is read only if all others had something.

        Returns:
            All that they returned, as one: name -> blob that says whether the data is finished.

        Raises:
            GraphError: Two of them returned the same name, or the same blob.
        """
        limiter = kwargs.pop("limiter", None)
        finished: dict[Any, Any] = {}
        for number, builder in enumerate(self._builders, 1):
            if limiter is not None and number == len(self._builders):
                kwargs["limiter"] = limiter
            found = builder.setup(**kwargs)
            twice = found.keys() & finished.keys() or set(found.values()) & set(finished.values())
            if twice:
                raise GraphError(
                    f"two builders of a composite reader report the end of their data by {twice}"
                )
            finished.update(found)
        return finished

    def new_reader(self, **kwargs: Any) -> CompositeReader:
        """A composite of new readers of all builders.

        Raises:
            GraphError: They read something else than the builders' schemas say.
        """
        readers = [as_reader(builder.new_reader(**kwargs)) for builder in self._builders]
        made = self.reader_type(self._names, readers)
        if made.schema() != self._schema:
            raise GraphError(
                f"the builders of a composite reader said {self._schema!r}, and made readers of "
                f"{made.schema()!r}"
            )
        return made
