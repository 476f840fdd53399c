"""Counters, flags and timers: operators that change the handle which their input holds.

Unlike any other input the handle is written to, and shared by all who read its blob. Each operator
is atomic, so steps that run at the same time may count with one counter.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from procession.operators.arrays import Array
from procession.operators.handles import AtomicBool, Counter, Timer, expect
from procession.operators.registry import REQUIRED, Context, operator


def _counter(value: Any) -> Counter:
    return value if isinstance(value, Counter) else expect(value, Counter, "CreateCounter")


@operator("CreateCounter")
def create_counter(*, init_count: int = 0) -> Counter:
    """A counter that starts at `init_count`. Caffe2: CreateCounter."""
    return Counter(int(init_count))


@operator("ResetCounter", outputs=(0, 1))
def reset_counter(counter: Any, *, init_count: int = 0, context: Context) -> Any:
    """Set a counter to `init_count`; the output, if any, is the count before, int64.

    Caffe2: ResetCounter.

    Raises:
        TypeError: The input is not a counter.
    """
    before = _counter(counter).reset(int(init_count))
    return np.array(before, np.int64) if context.outputs else None


@operator("CountDown")
def count_down(counter: Any) -> Any:
    """Take one from a counter; whether it was at 0 or below, a bool. Caffe2: CountDown.

    The count goes on below 0.

    Raises:
        TypeError: The input is not a counter.
    """
    return np.bool_(_counter(counter).down())


@operator("CheckCounterDone")
def check_counter_done(counter: Any) -> Any:
    """Whether a counter is at 0 or below, a bool. Caffe2: CheckCounterDone.

    Raises:
        TypeError: The input is not a counter.
    """
    return np.bool_(_counter(counter).count <= 0)


@operator("CountUp")
def count_up(counter: Any) -> Any:
    """Add one to a counter; the count before, int64. Caffe2: CountUp.

    Raises:
        TypeError: The input is not a counter.
    """
    return np.int64(_counter(counter).up())


@operator("RetrieveCount")
def retrieve_count(counter: Any) -> Any:
    """The count of a counter, int64. Caffe2: RetrieveCount.

    Raises:
        TypeError: The input is not a counter.
    """
    return np.int64(_counter(counter).count)


@operator("CreateAtomicBool")
def create_atomic_bool() -> AtomicBool:
    """A flag that is not set. Caffe2: CreateAtomicBool."""
    return AtomicBool()


@operator("ConditionalSetAtomicBool", outputs=0)
def conditional_set_atomic_bool(flag: Any, condition: Array) -> None:
    """Set a flag if the second input, a single bool, is true. Caffe2: ConditionalSetAtomicBool.

    Raises:
        TypeError: The first input is not a flag.
        ValueError: The second input has not exactly one element.
    """
    held = expect(flag, AtomicBool, "CreateAtomicBool")
    if condition.size != 1:
        raise ValueError(f"the condition must be a single bool, not of shape {condition.shape}")
    if condition.reshape(())[()]:
        held.value = True


@operator("CheckAtomicBool")
def check_atomic_bool(flag: Any) -> Array:
    """Whether a flag is set; of shape (1,). Caffe2: CheckAtomicBool.

    Raises:
        TypeError: The input is not a flag.
    """
    return np.array([expect(flag, AtomicBool, "CreateAtomicBool").value])


@operator("TimerBegin")
def timer_begin(*, counter_name: str = REQUIRED) -> Timer:
    """A timer that begins to run. Caffe2: TimerBegin.

    Args:
        counter_name: What it is called, in messages.
    """
    return Timer(counter_name)


def _timer(value: Any) -> Timer:
    return expect(value, Timer, "TimerBegin")


@operator("TimerEnd", outputs=0)
def timer_end(timer: Any) -> None:
    """End a timer. Caffe2: TimerEnd.

    Raises:
        TypeError: The input is not a timer.
        ValueError: It has ended.
    """
    _timer(timer).elapsed(end=True)


@operator("TimerGet")
def timer_get(timer: Any) -> Any:
    """Nanoseconds since a timer began, an int64. Caffe2: TimerGet.

    Raises:
        TypeError: The input is not a timer.
        ValueError: It has ended.
    """
    return np.int64(_timer(timer).elapsed())


@operator("TimerGetAndEnd")
def timer_get_and_end(timer: Any) -> Array:
    """End a timer; the nanoseconds that it ran, int64 of shape (1,). Caffe2: TimerGetAndEnd.

    Raises:
        TypeError: The input is not a timer.
        ValueError: It has ended.
    """
    return np.array([_timer(timer).elapsed(end=True)], np.int64)


@operator("WallClockTime")
def wall_clock_time() -> Any:
    """Nanoseconds since 1970, an int64. Caffe2: WallClockTime."""
    return np.int64(time.time_ns())
