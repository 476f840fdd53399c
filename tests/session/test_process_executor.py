"""ProcessExecutor does what executors of `concurrent.futures` do."""

from __future__ import annotations

import _thread
import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.session.gates import Gate

from procession import ProcessExecutor
from procession.errors import (
    BrokenPoolError,
    NodeDiedError,
    RemoteError,
    RemoteTraceback,
    SerializationError,
    SessionClosedError,
)

WITHIN = 60
"""Seconds, for what takes far less."""


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessExecutor]:
    """For tests that leave it as it was."""
    with ProcessExecutor(2) as executor:
        # All of it is there before the first test looks.
        gates = [Gate(tmp_path_factory.getbasetemp()) for _ in range(2)]
        for gate in gates:
            executor.submit(gate.wait)
        for gate in gates:
            gate.let_through()
        yield executor


@pytest.fixture
def make() -> Iterator[Callable[..., ProcessExecutor]]:
    """Makes executors, and ends them even if a test failed and left its gates shut."""
    made = []

    def executor(*args: Any, **kwargs: Any) -> ProcessExecutor:
        executor = ProcessExecutor(*args, **kwargs)
        # Not the executor itself: some tests drop theirs.
        made.append(executor.session)
        return executor

    yield executor
    for session in made:
        session.close()


@pytest.fixture
def one(make: Callable[..., ProcessExecutor]) -> ProcessExecutor:
    """One worker, so that calls come one after the other."""
    return make(1)


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[], Gate]:
    return partial(Gate, tmp_path)


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


# A call.


def test_a_call(executor: ProcessExecutor) -> None:
    assert executor.submit(divmod, 17, 5).result(WITHIN) == (3, 2)
    assert executor.submit(os.getpid).result(WITHIN) != os.getpid()


def test_any_keyword_is_the_functions(executor: ProcessExecutor) -> None:
    names = {"self": 1, "fn": 2, "node": 3, "function": 4, "args": 5, "timeout": 6, "nodes": 7}
    assert executor.submit(echo, 8, **names).result(WITHIN) == ((8,), names)


def test_without_a_function(executor: ProcessExecutor) -> None:
    with pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit(fn=echo)  # type: ignore[call-arg]


def test_functions_that_only_this_script_has(executor: ProcessExecutor) -> None:
    base = 10
    assert executor.submit(lambda x: x + base, 5).result(WITHIN) == 15


def test_a_method(executor: ProcessExecutor) -> None:
    class Account:
        def __init__(self) -> None:
            self.balance = 3

        def spend(self, amount: int) -> int:
            self.balance -= amount
            return self.balance

    account = Account()
    # The worker has a copy, a new one each time.
    assert [executor.submit(account.spend, 1).result(WITHIN) for _ in range(2)] == [2, 2]
    assert account.balance == 3


def test_arrays_in_and_out(one: ProcessExecutor) -> None:
    def work(matrix: np.ndarray, scale: float) -> tuple[np.ndarray, bool]:
        matrix *= scale
        return matrix.T, matrix.flags.owndata

    matrix = np.arange(60_000.0).reshape(300, 200)
    matrix.flags.writeable = False
    result, owned = one.submit(work, matrix, scale=2).result(WITHIN)
    assert not owned
    assert (result == 2 * np.arange(60_000.0).reshape(300, 200).T).all()
    result[0] = 7
    assert matrix[1, 0] == 200


def test_the_order_is_that_of_the_calls(one: ProcessExecutor, gate: Callable[[], Gate]) -> None:
    seen: list[int] = []
    first = gate()
    blocked = one.submit(first.wait)
    calls = [one.submit(abs, number) for number in range(20)]
    for number, call in enumerate(calls):
        call.add_done_callback(lambda _, number=number: seen.append(number))
    first.let_through()
    futures.wait([blocked, *calls], WITHIN)
    one.shutdown()
    assert seen == list(range(20))


# Errors.


def complain() -> None:
    raise LookupError("nothing here", 3)  # said in the worker


def test_an_exception_comes_back_with_its_traceback(executor: ProcessExecutor) -> None:
    call = executor.submit(complain)
    with pytest.raises(LookupError) as caught:
        call.result(WITHIN)
    assert caught.value.args == ("nothing here", 3)
    assert call.exception() is caught.value
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "# said in the worker" in str(cause)


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, futures.CancelledError, NodeDiedError, MemoryError]
)
def test_any_exception_ends_the_call_only(
    executor: ProcessExecutor, kind: type[BaseException]
) -> None:
    def stop() -> None:
        raise kind("enough")

    with pytest.raises(kind, match="enough"):
        executor.submit(stop).result(WITHIN)
    assert executor.submit(abs, -1).result(WITHIN) == 1


class Unwelcome:
    """Can be pickled, but not be unpickled."""

    def __reduce__(self) -> Any:
        return complain, ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ((abs, threading.Lock()), "argument 1 of abs cannot be pickled"),
        ((threading.Lock().acquire,), "the function .*acquire cannot be pickled"),
        ((abs, Unwelcome()), "what abs is called with cannot be unpickled here: LookupError"),
        ((_thread.allocate_lock,), "the result of allocate_lock cannot be pickled"),
        ((Unwelcome,), "the result of .*Unwelcome cannot be unpickled here: LookupError"),
    ],
)
def test_what_cannot_travel_ends_the_call_only(
    executor: ProcessExecutor, call: Any, message: str
) -> None:
    with pytest.raises(SerializationError, match=message):
        executor.submit(*call).result(WITHIN)
    assert executor.submit(abs, -1).result(WITHIN) == 1


def test_an_exception_that_cannot_travel(executor: ProcessExecutor) -> None:
    def stop() -> None:
        raise ValueError(threading.Lock())

    with pytest.raises(RemoteError, match="ValueError: <unlocked"):
        executor.submit(stop).result(WITHIN)


def test_any_number_of_calls_may_fail_at_once(
    one: ProcessExecutor, gate: Callable[[], Gate]
) -> None:
    first, lock = gate(), threading.Lock()
    one.submit(first.wait)
    calls = [one.submit(abs, lock) for _ in range(2000)]
    first.let_through()
    assert {type(call.exception(WITHIN)) for call in calls} == {SerializationError}


# Futures.


def test_a_call_that_waits_can_be_cancelled(
    one: ProcessExecutor, gate: Callable[[], Gate], tmp_path: Path
) -> None:
    first, mark = gate(), tmp_path / "mark"
    running, waiting, last = one.submit(first.wait), one.submit(mark.touch), one.submit(abs, -1)
    first.arrival()
    assert running.running()
    assert not running.cancel()
    assert not waiting.running()
    assert waiting.cancel()
    assert waiting.cancelled()
    with pytest.raises(futures.CancelledError):
        waiting.result()
    first.open()
    assert last.result(WITHIN) == 1
    assert running.result(WITHIN) is None
    assert not running.cancel()
    assert not mark.exists()
    assert futures.wait([waiting], WITHIN).done == {waiting}


def test_waiting_for_several(executor: ProcessExecutor, gate: Callable[[], Gate]) -> None:
    slow = gate()
    late, early = executor.submit(slow.wait), executor.submit(abs, -1)
    done, pending = futures.wait([late, early], WITHIN, futures.FIRST_COMPLETED)
    assert (done, pending) == ({early}, {late})
    order = futures.as_completed([late, early], WITHIN)
    assert next(order) is early
    slow.let_through()
    assert next(order) is late


def test_a_result_that_does_not_come_in_time(
    executor: ProcessExecutor, gate: Callable[[], Gate]
) -> None:
    slow = gate()
    call = executor.submit(slow.wait)
    with pytest.raises(futures.TimeoutError):
        call.result(0.01)
    slow.let_through()
    assert call.result(WITHIN) is None


def is_let_go_of(thing: weakref.ref[Any], executor: ProcessExecutor) -> bool:
    """Whether it is, without the garbage collector's help; a thread may be about to."""
    until = time.monotonic() + WITHIN
    while thing() is not None and time.monotonic() < until:
        executor.submit(abs, -1).result(WITHIN)
    return thing() is None


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Thing:
    def itself(self) -> Thing:
        return self


@pytest.mark.usefixtures("no_garbage_collection")
def test_nothing_is_held_once_a_call_has_ended(executor: ProcessExecutor) -> None:
    thing = Thing()
    gone = weakref.ref(thing)
    call = executor.submit(thing.itself)
    call.result(WITHIN)
    del thing
    assert is_let_go_of(gone, executor)
    gone = weakref.ref(call.result())
    del call
    assert is_let_go_of(gone, executor)


def test_calls_from_many_threads(executor: ProcessExecutor) -> None:
    results: dict[int, list[int]] = {}

    def use(number: int) -> None:
        calls = [executor.submit(divmod, number * 1000 + each, 1) for each in range(50)]
        results[number] = [call.result(WITHIN)[0] for call in calls]

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [n * 1000 + each for each in range(50)] for n in range(6)}


def test_asyncio(executor: ProcessExecutor) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, pow, 2, number) for number in range(10)]
        failing = loop.run_in_executor(executor, complain)
        return await asyncio.gather(*calls, failing, return_exceptions=True)

    *powers, error = asyncio.run(main())
    assert powers == [2**number for number in range(10)]
    assert isinstance(error, LookupError)


# map.


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
def test_map_is_map(executor: ProcessExecutor, chunksize: int) -> None:
    def pairs(*args: int) -> tuple[int, ...]:
        return args

    found = executor.map(pairs, range(30), range(100, 120), chunksize=chunksize)
    assert list(found) == list(zip(range(20), range(100, 120), strict=True))
    assert list(executor.map(pairs, [], chunksize=chunksize)) == []


def test_map_begins_at_once(one: ProcessExecutor) -> None:
    read = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            read.append(number)
            yield number

    found = one.map(lambda x: (os.getpid(), x), numbers())
    assert read == [0, 1, 2, 3, 4]
    one.shutdown()
    assert [x for _, x in found] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_without_chunks(executor: ProcessExecutor, chunksize: int) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(abs, [1], chunksize=chunksize)


def test_map_raises_where_the_function_did(executor: ProcessExecutor) -> None:
    found = executor.map(divmod, [5, 5, 5, 5], [2, 1, 0, 3])
    assert [next(found), next(found)] == [(2, 1), (5, 0)]
    with pytest.raises(ZeroDivisionError):
        next(found)
    with pytest.raises(StopIteration):
        next(found)


def test_map_cancels_the_rest_when_it_is_closed(
    one: ProcessExecutor, gate: Callable[[], Gate], tmp_path: Path
) -> None:
    second = gate()

    def work(number: int) -> int:
        (tmp_path / str(number)).touch()
        if number == 1:
            second.wait()
        return number

    found = one.map(work, range(50))
    assert next(found) == 0
    second.arrival()
    found.close()  # type: ignore[attr-defined]
    second.open()
    one.shutdown()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["0", "1"]


def test_map_cancels_what_an_iterable_that_raises_left_behind(
    one: ProcessExecutor, gate: Callable[[], Gate], tmp_path: Path
) -> None:
    first, mark = gate(), tmp_path / "mark"

    def calls() -> Iterator[Callable[[], None]]:
        yield first.wait
        yield mark.touch
        first.arrival()
        raise EOFError

    with pytest.raises(EOFError):
        one.map(lambda call: call(), calls())
    first.open()
    one.shutdown()
    assert not mark.exists()


def test_map_that_takes_too_long(one: ProcessExecutor, gate: Callable[[], Gate]) -> None:
    second = gate()
    found = one.map(lambda call: call(), [int, second.wait, int], timeout=1)
    seen = [next(found)]
    with pytest.raises(futures.TimeoutError):
        seen.extend(found)
    assert seen == [0]
    second.let_through()


@pytest.mark.usefixtures("no_garbage_collection")
def test_map_keeps_no_result(executor: ProcessExecutor) -> None:
    for chunksize in (1, 4):
        for result in executor.map(lambda _: np.zeros(9), range(10), chunksize=chunksize):
            gone = weakref.ref(result)
            del result
            assert is_let_go_of(gone, executor)


def test_map_pickles_the_function_once(executor: ProcessExecutor) -> None:
    times: list[int] = []

    class Function:
        def __reduce__(self) -> Any:
            times.append(1)
            return partial, (divmod, 100)

    assert list(executor.map(Function(), range(1, 20))) == [divmod(100, x) for x in range(1, 20)]
    assert times == [1]


# Workers.


def test_workers_are_started_as_needed() -> None:
    with ProcessExecutor(8) as executor:
        assert executor.session.nodes == []
        for _ in range(3):
            executor.submit(abs, -1).result(WITHIN)
        assert executor.session.nodes == ["worker-0"]


def test_no_more_workers_than_that(
    make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]
) -> None:
    executor = make(3)
    gates = [gate() for _ in range(3)]
    calls = [executor.submit(each.wait) for each in gates]
    for each in gates:
        each.arrival()
    calls += [executor.submit(os.getpid) for _ in range(20)]
    assert sorted(executor.session.nodes) == ["worker-0", "worker-1", "worker-2"]
    for each in gates:
        each.open()
    assert len({call.result(WITHIN) for call in calls[3:]}) <= 3
    assert len(executor.session.nodes) == 3


@pytest.mark.parametrize("number", [0, -1, 2.5, "two"])
def test_a_number_of_workers_that_makes_no_sense(number: Any) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        ProcessExecutor(number)


def test_options_are_those_of_a_session() -> None:
    with pytest.raises(ValueError, match="memory_limit"):
        ProcessExecutor(memory_limit=-1)
    with pytest.raises(TypeError, match="colour"):
        ProcessExecutor(colour="blue")
    with ProcessExecutor(1, memory_limit=1 << 20) as executor:
        call = executor.submit(np.sum, np.zeros(1 << 20))
        with pytest.raises(MemoryError, match="memory_limit is 1,048,576"):
            call.result(WITHIN)
        assert executor.submit(abs, -1).result(WITHIN) == 1


# The initializer.


def test_the_initializer_comes_first_in_each_worker(
    make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]
) -> None:
    def begin(*values: int) -> None:
        os.environ["BEGUN"] = os.environ.get("BEGUN", "") + str(values)

    gates = [gate() for _ in range(2)]

    def look(gate: Gate) -> str:
        gate.wait()
        return os.environ["BEGUN"]

    executor = make(2, initializer=begin, initargs=(1, 2))
    calls = [executor.submit(look, each) for each in gates]
    for each in gates:
        each.arrival()
    for each in gates:
        each.open()
    calls += [executor.submit(os.getenv, "BEGUN") for _ in range(4)]
    assert [call.result(WITHIN) for call in calls] == ["(1, 2)"] * 6


def test_an_initializer_that_raises_breaks_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL), ProcessExecutor(2, initializer=complain) as executor:
        with pytest.raises(BrokenPoolError, match=r"initializer raised LookupError") as caught:
            executor.submit(abs, -1).result(WITHIN)
        assert isinstance(caught.value.__cause__, LookupError)
        assert caught.value.node == "worker-0"
        with pytest.raises(futures.BrokenExecutor):
            executor.submit(abs, -1)
    assert "Exception in initializer:" in caplog.text
    assert "# said in the worker" in caplog.text


def test_an_initializer_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="initializer must be callable"):
        ProcessExecutor(1, initializer=3)  # type: ignore[arg-type]


# Death.


def test_a_worker_that_dies_breaks_the_pool(
    make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]
) -> None:
    executor = make(2)
    gates = [gate() for _ in range(2)]
    calls = [executor.submit(each.wait) for each in gates]
    calls += [executor.submit(abs, -1) for _ in range(5)]
    for each in gates:
        each.arrival()
    pids = {node: stats.pid for node, stats in executor.session.stats().items()}
    cancelled = executor.submit(abs, -1)
    assert cancelled.cancel()
    os.kill(pids["worker-1"], signal.SIGKILL)
    for call in calls:
        with pytest.raises(BrokenPoolError, match=r"worker-1.* was killed by SIGKILL") as caught:
            call.result(WITHIN)
        error = caught.value
        assert isinstance(error, (BrokenProcessPool, NodeDiedError))
        assert (error.node, error.pid, error.signal) == ("worker-1", pids["worker-1"], "SIGKILL")
        assert error.__cause__ is not None
    assert len({id(call.exception()) for call in calls}) == len(calls)
    assert futures.wait([cancelled], WITHIN).done == {cancelled}
    with pytest.raises(BrokenProcessPool):
        executor.submit(abs, -1)
    with pytest.raises(BrokenProcessPool):
        executor.map(abs, [-1])
    executor.shutdown()
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_a_call_that_ends_its_process() -> None:
    with ProcessExecutor(1) as executor:
        with pytest.raises(BrokenProcessPool, match="ended with exit code 3") as caught:
            executor.submit(os._exit, 3).result(WITHIN)
        assert isinstance(caught.value, NodeDiedError)
        assert caught.value.exitcode == 3


def test_a_worker_that_dies_idle() -> None:
    with ProcessExecutor(1) as executor:
        worker = psutil.Process(executor.submit(os.getpid).result(WITHIN))
        worker.kill()
        psutil.wait_procs([worker], WITHIN)
        with pytest.raises(BrokenProcessPool):
            executor.submit(abs, -1).result(WITHIN)


# Shutdown.


def test_after_shutdown() -> None:
    executor = ProcessExecutor(1)
    call = executor.submit(abs, -1)
    executor.shutdown()
    assert call.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, -1)
    with pytest.raises(RuntimeError):
        executor.map(abs, [-1])
    with pytest.raises(SessionClosedError):
        executor.session.submit(abs, -1)
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)


@pytest.mark.parametrize("wait", [True, False])
def test_one_that_was_never_used(wait: bool) -> None:
    executor = ProcessExecutor(4)
    executor.shutdown(wait)
    with pytest.raises(RuntimeError):
        executor.submit(abs, -1)
    with ProcessExecutor():
        pass


def test_shutdown_waits(make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]) -> None:
    first = gate()
    with make(1) as executor:
        calls = [executor.submit(first.wait), *(executor.submit(abs, x) for x in range(10))]
        opener = threading.Thread(target=first.let_through)
        opener.start()
    assert all(call.done() for call in calls)
    opener.join()


def test_shutdown_without_waiting(
    make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]
) -> None:
    first = gate()
    executor = make(1)
    calls = [executor.submit(first.wait), *(executor.submit(abs, x) for x in range(10))]
    first.arrival()
    executor.shutdown(wait=False)
    assert not any(call.done() for call in calls)
    first.open()
    assert [call.result(WITHIN) for call in calls] == [None, *range(10)]
    executor.shutdown()
    assert not executor.session.is_open()


def test_shutdown_that_cancels(
    make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]
) -> None:
    first = gate()
    executor = make(1)
    running, *waiting = [executor.submit(first.wait) for _ in range(20)]
    first.arrival()
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(call.cancelled() for call in waiting)
    assert futures.wait(waiting, WITHIN).not_done == set()
    assert running.running()
    first.open()
    executor.shutdown()
    assert running.result() is None


def test_shutdown_by_a_callback(
    make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]
) -> None:
    first = gate()
    executor = make(1)
    call = executor.submit(first.wait)
    returned = threading.Event()

    def shut_down(_: futures.Future[Any]) -> None:
        executor.shutdown()
        returned.set()

    call.add_done_callback(shut_down)
    first.let_through()
    assert returned.wait(WITHIN)
    executor.shutdown()


def test_a_callback_may_submit(one: ProcessExecutor) -> None:
    second: futures.Future[futures.Future[int]] = futures.Future()
    first = one.submit(abs, -1)
    first.add_done_callback(lambda _: second.set_result(one.submit(abs, -2)))
    assert second.result(WITHIN).result(WITHIN) == 2


def test_an_executor_that_is_dropped(
    make: Callable[..., ProcessExecutor], gate: Callable[[], Gate]
) -> None:
    first = gate()
    executor = make(1)
    calls = [executor.submit(first.wait), *(executor.submit(abs, x) for x in range(10))]
    first.arrival()
    [pid] = [stats.pid for stats in executor.session.stats().values()]
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    worker = psutil.Process(pid)
    first.open()
    assert [call.result(WITHIN) for call in calls] == [None, *range(10)]
    _, alive = psutil.wait_procs([worker], WITHIN)
    assert alive == []


# Scripts.


def run(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    (directory / "script.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )


@pytest.mark.parametrize("end", ["", "executor.shutdown(wait=False)", "del executor"])
def test_the_interpreter_waits_for_calls(tmp_path: Path, end: str) -> None:
    done = run(
        f"""\
from pathlib import Path
from time import sleep
from procession import ProcessExecutor

executor = ProcessExecutor(2)
for number in range(10):
    executor.submit(lambda n: (sleep(0.05), Path(f"mark-{{n}}").touch()), number)
{end}
""",
        tmp_path,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert len([*tmp_path.glob("mark-*")]) == 10


def test_at_the_interpreters_end_it_is_too_late(tmp_path: Path) -> None:
    done = run(
        """\
import atexit
from procession import ProcessExecutor

@atexit.register
def late():
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        print(error)

executor = ProcessExecutor(1)
print(executor.submit(abs, -1).result())
""",
        tmp_path,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == "1\ncannot schedule new futures after interpreter shutdown\n"


def test_what_a_manager_of_multiprocessing_has_can_be_used(tmp_path: Path) -> None:
    done = run(
        """\
import multiprocessing
from procession import ProcessExecutor

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Manager() as manager, ProcessExecutor(1) as executor:
        queue = manager.Queue()
        executor.submit(queue.put, "word").result()
        print(queue.get())
""",
        tmp_path,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("word\n", "", 0)


def test_a_forked_copy_cannot_use_it(tmp_path: Path) -> None:
    done = run(
        """\
import os
import sys
import warnings
from procession import ProcessExecutor

warnings.simplefilter("ignore")
executor = ProcessExecutor(1)
executor.submit(abs, -1).result()
waiting = executor.submit(lambda: sys.stdin.read())
if not os.fork():
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        print(error, flush=True)
    # Nobody waits here for a call that ends elsewhere.
    sys.exit()
print(os.waitstatus_to_exitcode(os.wait()[1]), waiting.result() == "")
""",
        tmp_path,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert "a forked copy of that cannot use it\n0 True\n" in done.stdout
