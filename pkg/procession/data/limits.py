"""Readers that read another reader, and stop earlier: after so many batches, or seconds.

What all of them say afterwards is `data_finished()`, a blob: whether the other reader came to its
end, so that an epoch is over, or there is more to be read next time.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from procession import BlobReference, Net
from procession.core import DataType
from procession.data.nets import Columns, Parts, fill_bool
from procession.data.reader import Reader
from procession.errors import GraphError
from procession.schema import Struct


class CounterReader(Reader):
    """Reads 0, 1, 2, ... without an end, an int64 each. Caffe2: dataio.CounterReader."""

    def __init__(self) -> None:
        super().__init__(Struct(("iter", np.int64)))
        self.counter: Any = None
        self.should_stop: Any = None

    def setup_ex(self, global_init_net: Net, global_finish_net: Net | None) -> None:
        """Add the making of the counter, which begins at 0."""
        if self.counter is None:
            self.counter = global_init_net.CreateCounter([], init_count=0)
            self.should_stop = global_init_net.NextBlob("should_stop")
            fill_bool(global_init_net, self.should_stop, False)

    def read_ex(
        self, local_init_net: Net | None, local_finish_net: Net | None
    ) -> tuple[Parts, BlobReference, Columns | None]:
        """Make the net that counts on.

        Raises:
            GraphError: There is no counter: `setup_ex` was not called.
        """
        if self.counter is None:
            raise GraphError(
                "a CounterReader is set up, by setup_ex(init_net, exit_net), then read"
            )
        net = self._new_net("limited_reader_counter", local_init_net)
        return [net], self.should_stop, [net.CountUp([self.counter])]


class ReaderWithLimitBase(Reader):
    """Reads another reader as long as a condition holds. Caffe2: dataio.ReaderWithLimitBase.

    A limit of one's own defines `setup_limiter` and `check_limiter_condition`.

    Args:
        reader: The other reader.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader._schema)
        self.reader = reader
        self.net = self._new_net("reader_with_limit")
        """A net that nobody runs: blobs that are shared by all threads are called after it."""
        self._data_finished = self._shared("data_finished")

    def _shared(self, name: str) -> BlobReference:
        made: BlobReference = self.net.AddExternalInput(self.net.NextName(name))
        return made

    def setup_ex(self, global_init_net: Net, global_finish_net: Net | None) -> None:
        """Set up the other reader, and the limit."""
        fill_bool(global_init_net, self._data_finished, False)
        self.reader.setup_ex(global_init_net, global_finish_net)
        self.setup_limiter(global_init_net, global_finish_net)

    def read_ex(
        self, local_init_net: Net | None, local_finish_net: Net | None
    ) -> tuple[Parts, BlobReference, Columns | None]:
        """Make the nets that look at the limit, and read a batch if that holds."""
        before = self._new_net("limited_reader_condition", local_init_net)
        should_stop = self.check_limiter_condition(before)
        nets, finished, columns = self.reader.read_ex(local_init_net, local_finish_net)
        # What the other reader reads may be known only when it has made its nets.
        self._set_schema(self.reader._schema)
        after = self._new_net("limited_reader_post", local_init_net)
        # The limit was looked at before the reading: its blob is free for the other reason to stop.
        after.Copy(finished, should_stop)
        # All threads share that blob, so none may write back what it has read.
        mark = self._new_net("limited_reader_finished", local_init_net)
        fill_bool(mark, self._data_finished, True)
        after.If([finished], [self._data_finished], then_net=mark.Proto())
        return [before, *nets, after], should_stop, columns

    def reset(self, net: Net) -> None:
        """Let the other reader begin anew; the limit does so whenever it is set up."""
        self.reader.reset(net)

    def setup_limiter(self, global_init_net: Net, global_finish_net: Net | None) -> None:
        """Add what the limit needs, once before, and once after, all reading."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its limit is set up")

    def check_limiter_condition(self, stop_condition_net: Net) -> Any:
        """Add the look at the limit; a new blob, one truth value: that nothing more be read."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its limit is")

    def data_finished(self) -> BlobReference:
        """The blob that says whether the other reader came to its end."""
        return self._data_finished


def _never(net: Net) -> Any:
    return net.ConstantFill([], 1, shape=[], value=False, dtype=DataType.BOOL)


class ReaderWithLimit(ReaderWithLimitBase):
    """Reads so many batches of another reader. Caffe2: dataio.ReaderWithLimit.

    Args:
        reader: The other reader.
        num_iter: How many batches, of all threads together; None: all there are.
    """

    def __init__(self, reader: Reader, num_iter: int | None = 1) -> None:
        super().__init__(reader)
        self.num_iter = num_iter
        self.counter = None if num_iter is None else self._shared("counter")

    def setup_limiter(self, global_init_net: Net, global_finish_net: Net | None) -> None:
        """Add the making of the counter."""
        if self.num_iter is not None:
            global_init_net.CreateCounter([], [self.counter], init_count=int(self.num_iter))

    def check_limiter_condition(self, stop_condition_net: Net) -> Any:
        """Add the counting."""
        if self.counter is None:
            return _never(stop_condition_net)
        return stop_condition_net.CountDown([self.counter])


def CountUntil(num_iter: int | None) -> ReaderWithLimit:
    """What reads 0, 1, ... below `num_iter`. Caffe2: dataio.CountUntil."""
    return ReaderWithLimit(CounterReader(), num_iter)


class ReaderWithTimeLimit(ReaderWithLimitBase):
    """Reads another reader for so many seconds. Caffe2: dataio.ReaderWithTimeLimit.

    The time is looked at before each batch; a batch that was begun is read to its end.

    Args:
        reader: The other reader.
        duration: How many seconds; None, or not above 0: as long as there is something.
    """

    def __init__(self, reader: Reader, duration: float | None = 0) -> None:
        super().__init__(reader)
        self.duration = duration
        self.timer: Any = None
        self.duration_ns_blob: Any = None

    def setup_limiter(self, global_init_net: Net, global_finish_net: Net | None) -> None:
        """Add the start of the timer."""
        if self.duration is None or self.duration <= 0:
            return
        self.timer = global_init_net.TimerBegin([], counter_name="epoch_timer")
        self.duration_ns_blob = global_init_net.ConstantFill(
            [], 1, shape=[], value=int(self.duration * 1e9), dtype=DataType.INT64
        )
        if global_finish_net is not None:
            global_finish_net.TimerEnd([self.timer], [])

    def check_limiter_condition(self, stop_condition_net: Net) -> Any:
        """Add the look at the timer."""
        if self.timer is None:
            return _never(stop_condition_net)
        elapsed = stop_condition_net.TimerGet(self.timer)
        return stop_condition_net.GE([elapsed, self.duration_ns_blob])


def _sleep(inputs: Any, outputs: Any, *, seconds: float) -> None:
    time.sleep(seconds)


class ReaderWithDelay(Reader):
    """Waits before each batch of another reader, for tests. Caffe2: dataio.ReaderWithDelay.

    Args:
        reader: The other reader.
        delay: How many seconds.
    """

    def __init__(self, reader: Reader, delay: float) -> None:
        super().__init__(reader._schema)
        self.reader = reader
        self.delay = delay

    def setup_ex(self, global_init_net: Net, global_finish_net: Net | None) -> None:
        """Set up the other reader."""
        self.reader.setup_ex(global_init_net, global_finish_net)

    def read_ex(
        self, local_init_net: Net | None, local_finish_net: Net | None
    ) -> tuple[Parts, BlobReference, Columns | None]:
        """Make the nets that wait, and read a batch."""
        wait = self._new_net("reader_delay", local_init_net)
        wait.Python(partial(_sleep, seconds=self.delay))([], [])
        nets, over, columns = self.reader.read_ex(local_init_net, local_finish_net)
        self._set_schema(self.reader._schema)
        return [wait, *nets], over, columns

    def reset(self, net: Net) -> None:
        """Let the other reader begin anew."""
        self.reader.reset(net)
