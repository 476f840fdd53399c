"""Counters, flags and timers, one by one and by several threads at once."""

import copy
import pickle
import threading

import numpy as np
import pytest

from procession.operators.handles import AtomicBool, Counter, Mutex, Timer
from procession.testing.gradcheck import run_operator

COPIES = [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]


def test_count_down_goes_on_below_zero():
    counter = run_operator("CreateCounter", init_count=2)
    done = [run_operator("CountDown", counter) for _ in range(4)]
    assert [bool(each) for each in done] == [False, False, True, True]
    assert {(each.dtype, each.shape) for each in done} == {(np.dtype(bool), ())}
    count = run_operator("RetrieveCount", counter)
    assert (count.dtype, count.shape, int(count)) == (np.int64, (), -2)


def test_check_counter_done_changes_nothing():
    counter = run_operator("CreateCounter", init_count=1)
    assert not run_operator("CheckCounterDone", counter)
    run_operator("CountDown", counter)
    assert run_operator("CheckCounterDone", counter)
    assert run_operator("RetrieveCount", counter) == 0


def test_count_up_and_reset():
    counter = run_operator("CreateCounter")
    assert [int(run_operator("CountUp", counter)) for _ in range(3)] == [0, 1, 2]
    before = run_operator("ResetCounter", counter, init_count=7, n_outputs=1)
    assert (before.dtype, int(before)) == (np.int64, 3)
    assert run_operator("ResetCounter", counter, n_outputs=0) is None
    assert run_operator("RetrieveCount", counter) == 0


def test_flags():
    flag = run_operator("CreateAtomicBool")
    assert run_operator("CheckAtomicBool", flag).tolist() == [False]
    assert run_operator("ConditionalSetAtomicBool", flag, np.array([False])) is None
    assert run_operator("CheckAtomicBool", flag).tolist() == [False]
    run_operator("ConditionalSetAtomicBool", flag, np.array(True))
    run_operator("ConditionalSetAtomicBool", flag, np.array(False))
    assert run_operator("CheckAtomicBool", flag).tolist() == [True]
    with pytest.raises(ValueError, match="a single bool, not of shape"):
        run_operator("ConditionalSetAtomicBool", flag, np.array([True, True]))


def test_timers():
    timer = run_operator("TimerBegin", counter_name="work")
    first, second = (run_operator("TimerGet", timer) for _ in range(2))
    assert 0 <= first <= second
    assert (first.dtype, first.shape) == (np.int64, ())
    last = run_operator("TimerGetAndEnd", timer)
    assert last.shape == (1,)
    assert second <= last[0]
    for name in ("TimerGet", "TimerEnd", "TimerGetAndEnd"):
        with pytest.raises(ValueError, match="the timer 'work' has ended already"):
            run_operator(name, timer)
    other = run_operator("TimerBegin", counter_name="work")
    assert run_operator("TimerEnd", other) is None
    with pytest.raises(ValueError, match="ended"):
        run_operator("TimerGet", other)


def test_wall_clock_time():
    first, second = (run_operator("WallClockTime") for _ in range(2))
    assert first.dtype == np.int64
    assert 1.6e18 < first <= second


@pytest.mark.parametrize("copied", COPIES)
def test_copies_go_their_own_way(copied):
    counter, flag = Counter(3), AtomicBool(True)
    other = copied(counter)
    other.down()
    assert (counter.count, other.count) == (3, 2)
    assert copied(flag).value
    timer = Timer("work")
    timer.elapsed(end=True)
    assert copied(timer).elapsed() >= 0
    with Mutex() as mutex, copied(mutex):
        assert repr(mutex) == "<Mutex, held>"


def test_representations():
    assert repr(Counter(3)) == "Counter(3)"
    assert repr(AtomicBool()) == "AtomicBool(False)"
    assert repr(Mutex()) == "<Mutex, free>"
    timer = Timer("work")
    assert repr(timer) == "<Timer 'work', running>"
    timer.elapsed(end=True)
    assert repr(timer) == "<Timer 'work', ended>"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CountDown", np.array(3), "takes a Counter, as CreateCounter makes it, not a ndarray"),
        ("CountUp", "3", "not a str"),
        ("CheckAtomicBool", Counter(), "takes a AtomicBool, as CreateAtomicBool makes it"),
        ("TimerGet", Counter(), "takes a Timer"),
    ],
)
def test_a_handle_of_another_kind(name, value, message):
    with pytest.raises(TypeError, match=message):
        run_operator(name, value)


def test_threads_share_a_counter():
    counter, rounds = Counter(1000), 500
    done: list[bool] = []

    def work() -> None:
        done.extend(counter.down() for _ in range(rounds))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counter.count == -1000
    assert done.count(False) == 1000
