"""TaskOutput, TaskOutputList: what tasks hand back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from procession.errors import GraphError, OutputNotReadyError
from procession.graph import schema
from procession.graph.blob import BlobReference


class TaskOutput:
    """A value that a task hands back: a blob, a list of blobs, or a record.

    Caffe2: task.TaskOutput.

    After a run that the task was in, `fetch` gives the value as it was at the end of that run.

    Args:
        names: A blob or its name, a list of them, or a record whose fields hold blobs.

    Raises:
        GraphError: A record with a field that holds no blob.
    """

    def __init__(self, names: BlobReference | str | schema.Field | Sequence[Any]) -> None:
        self._schema = names if isinstance(names, schema.Field) else None
        listed: Iterable[Any]
        if isinstance(names, schema.Field):
            if not names.has_blobs():
                raise GraphError(f"a record without blobs cannot be an output: {names!r}")
            self._is_scalar, listed = False, names.field_blobs()
        elif isinstance(names, (list, tuple)):
            self._is_scalar, listed = False, names
        else:
            self._is_scalar, listed = True, [names]
        self.names = [
            blob if isinstance(blob, BlobReference) else BlobReference(blob) for blob in listed
        ]
        self._values: list[Any] | None = None
        self._fetch: Callable[[Any], Any] | None = None

    def set(self, values: Sequence[Any], _fetch_func: Callable[[Any], Any] | None = None) -> None:
        """Give it its values, one for each name. Sessions do that at the end of a run."""
        if len(values) != len(self.names):
            raise ValueError(f"{self} takes {len(self.names)} values, not {len(values)}")
        self._values = list(values)
        self._fetch = _fetch_func

    def _ready(self) -> list[Any]:
        if self._values is None:
            raise OutputNotReadyError(
                f"the output {[str(name) for name in self.names]} has no value yet: "
                f"run its task, or the group that the task is in, first"
            )
        return self._values

    def pick(self, values: Sequence[Any]) -> Any:
        """Values, one for each name, in the form this output has: a value, a list or a record."""
        if self._is_scalar:
            return values[0]
        if self._schema is not None:
            return schema.from_blob_list(self._schema, list(values))
        return list(values)

    def get(self) -> Any:
        """What `set` was given: one value, a list, or a record."""
        return self.pick(self._ready())

    def fetch(self) -> Any:
        """The value at the end of the last run: an array that never changes, a list, a record.

        Raises:
            OutputNotReadyError: No run gave it a value yet.
        """
        values = self._ready()
        return self.pick(values if self._fetch is None else [self._fetch(v) for v in values])

    def __repr__(self) -> str:
        return f"TaskOutput(names={self.names}, values={self._values})"


class TaskOutputList:
    """Outputs, seen as one row of names and values. Caffe2: task.TaskOutputList."""

    def __init__(self, outputs: list[TaskOutput] | None = None) -> None:
        self.outputs = outputs or []

    def names(self) -> list[BlobReference]:
        """The blobs of all outputs, in order."""
        return [name for output in self.outputs for name in output.names]

    def set_values(
        self, values: Sequence[Any], _fetch_func: Callable[[Any], Any] | None = None
    ) -> None:
        """Give all outputs their values, one for each of `names()`."""
        if len(values) != len(self.names()):
            raise ValueError(f"{self} takes {len(self.names())} values, not {len(values)}")
        left = iter(values)
        for output in self.outputs:
            output.set([next(left) for _ in output.names], _fetch_func)

    def __repr__(self) -> str:
        return f"TaskOutputList(outputs={self.outputs})"
