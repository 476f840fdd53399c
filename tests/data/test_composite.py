"""Several readers side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from procession import NameScope, Net, TaskGroup, schema
from procession.data import (
    CompositeReader,
    CompositeReaderBuilder,
    Dataset,
    QueueWrapper,
    ReaderBuilder,
    ReaderWithLimit,
    pipe,
)


def numbers(place: Any, name: str, values: Any) -> Dataset:
    """A dataset with one column, "x"."""
    made = Dataset(schema.Struct(("x", np.int64)), name)
    init = Net(f"init_{name}")
    with NameScope(name):
        made.init_from_arrays(init, [values])
    place.run(init)
    return made


def collected(place: Any, reader: Any) -> list[list[Any]]:
    """The columns that come out of a reader."""
    target = Dataset(reader.schema().clone_schema(), "target")
    init = Net("init_target")
    with NameScope("collected"):
        target.init_empty(init)
    place.run(init)
    with TaskGroup() as group:
        pipe(reader, target.writer())
    place.run(group)
    return [place.fetch(blob) for blob in target.get_blobs()]


@pytest.mark.parametrize(("left", "right"), [(3, 5), (5, 3), (4, 4), (0, 2), (2, 0)])
def test_the_first_end_is_the_end(place: Any, left: int, right: int) -> None:
    reader = CompositeReader(
        ["left", "right"],
        [
            numbers(place, "l", range(left)).reader(),
            numbers(place, "r", range(10, 10 + right)).reader(),
        ],
    )
    assert reader.schema().field_names() == ["left:x", "right:x"]
    both = min(left, right)
    assert collected(place, reader) == [list(range(both)), list(range(10, 10 + both))]


def test_readers_behind_the_one_that_ends_read_nothing(place: Any) -> None:
    first, last = numbers(place, "a", range(2)), numbers(place, "b", range(9))
    limited = ReaderWithLimit(last.reader(), 5)
    reader = CompositeReader(["a", "b"], [first.reader(), limited])
    assert collected(place, reader) == [[0, 1], [0, 1]]
    again = Net("again")
    reader.reset(again)
    assert [operator.type for operator in again.Proto().op] == ["ResetCursor"] * 2


def test_a_reader_may_be_composite_itself(place: Any) -> None:
    inner = CompositeReader(["x"], [numbers(place, "a", range(3)).reader()])
    outer = CompositeReader(["in", "y"], [inner, numbers(place, "b", range(3)).reader()])
    assert outer.schema().field_names() == ["in:x:x", "y:x"]
    assert collected(place, outer) == [[0, 1, 2], [0, 1, 2]]


def test_each_reader_has_a_name(place: Any) -> None:
    with pytest.raises(ValueError, match="2 names for 1 readers"):
        CompositeReader(["a", "b"], [place.source.reader()])
    with pytest.raises(ValueError, match="0 names for 0 readers"):
        CompositeReader([], [])


class Builder(ReaderBuilder):
    def __init__(self, dataset: Dataset, finished: dict[str, str]) -> None:
        self.dataset = dataset
        self.finished = finished
        self.limiter: Any = None

    def schema(self) -> Any:
        return self.dataset.schema

    def setup(self, limiter: Any = None, **kwargs: Any) -> Any:
        assert kwargs == {"batch": 1}
        self.limiter = limiter
        return self.finished

    def new_reader(self, **kwargs: Any) -> Any:
        reader = self.dataset.reader(**kwargs)
        return reader if self.limiter is None else self.limiter(reader)


def test_a_builder_limits_the_last_reader_alone(place: Any) -> None:
    builders = [
        Builder(numbers(place, name, range(size)), {name: f"{name}_finished"})
        for name, size in (("a", 9), ("b", 5))
    ]
    made = CompositeReaderBuilder(["a", "b"], builders)
    assert made.schema().field_names() == ["a:x", "b:x"]
    finished = made.setup(limiter=lambda reader: ReaderWithLimit(reader, 2), batch=1)
    assert finished == {"a": "a_finished", "b": "b_finished"}
    assert [builder.limiter is None for builder in builders] == [True, False]
    assert collected(place, made.new_reader(batch_size=2)) == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("finished", [{"a": "other"}, {"other": "blob"}])
def test_the_ends_of_two_builders_have_to_differ(place: Any, finished: dict[str, str]) -> None:
    builders = [Builder(place.source, {"a": "blob"}), Builder(place.source, finished)]
    made = CompositeReaderBuilder(["a", "b"], builders)
    with pytest.raises(ValueError, match="report the end of their data by"):
        made.setup(batch=1)


def test_a_builder_makes_what_it_said(place: Any) -> None:
    other = Dataset(["y"])
    other.init_empty(Net("init"))

    class Wrong(Builder):
        def new_reader(self, **kwargs: Any) -> Any:
            return QueueWrapper(Net("net").NextBlob("queue"), other.schema)

    with pytest.raises(ValueError, match="and made readers of"):
        CompositeReaderBuilder(["a"], [Wrong(place.source, {})]).new_reader()
