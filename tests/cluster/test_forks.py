"""Forked copies of the coordinator: what they have fetched stays good as long as they live."""

from __future__ import annotations

import textwrap

from tests.faults.moments import run_script

COPY = """
import os, signal, warnings
import numpy as np
from procession import NodeDiedError, ProcessSession, SessionClosedError

SIZE = 1 << 17

def copy_of_this(look):
    go, tell = os.pipe()
    with warnings.catch_warnings():
        # That there are threads is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(tell)
            os.read(go, 1)
            code = look()
        finally:
            os._exit(code)
    os.close(go)
    return pid, tell

def ended(pid, tell):
    os.write(tell, b"x")
    os.close(tell)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def files():
    return len(os.listdir("/proc/self/fd"))
"""


def test_what_the_original_lets_go_of(tmp_path):
    text = """
    with ProcessSession(["a"]) as session:
        a = session.workspace("a")
        a.feed_blob("x", np.ones(SIZE))
        array = a.fetch_blob("x")
        result = session.submit(np.ones, SIZE, node="a").result()
        pid, tell = copy_of_this(lambda: 3 if array.all() and result.all() else 4)
        del array, result
        for number in range(5):
            a.feed_blob("x", np.zeros(SIZE) * number)
            a.feed_blob(f"y{number}", np.zeros(SIZE))
            session.submit(np.zeros, SIZE, node="a").result()
        print(ended(pid, tell))
        # Its memory is used again.
        for number in range(5, 50):
            a.feed_blob("x", np.zeros(SIZE))
        assert session.stats()["a"].shared_bytes < 14 * 8 * SIZE, session.stats()
    """
    assert run_script(tmp_path, _script(text)) == "3\n"


def test_over_a_restart(tmp_path):
    text = """
    with ProcessSession(["a"], on_node_failure="restart") as session:
        a = session.workspace("a")
        a.feed_blob("x", np.ones(SIZE))
        a.feed_blob("s", np.ones(1000))
        arrays = [a.fetch_blob("x"), a.fetch_blob("s")]
        pid, tell = copy_of_this(lambda: 3 if all(map(np.all, arrays)) else 4)
        del arrays
        os.kill(session.stats()["a"].pid, signal.SIGKILL)
        try:
            while True:
                session.submit(abs, 1, node="a").result()
        except NodeDiedError:
            pass
        for number in range(9):
            a.feed_blob("x", np.zeros(SIZE))
            a.feed_blob("s", np.zeros(1000))
            a.feed_blob(f"{number}", np.zeros(1000))
        print(ended(pid, tell))
    """
    assert run_script(tmp_path, _script(text)) == "3\n"


def test_copies_leave_no_files(tmp_path):
    text = """
    with ProcessSession(["a"]) as session:
        a = session.workspace("a")
        a.feed_blob("x", np.ones(SIZE))
        array = a.fetch_blob("x")
        counts = []
        for _ in range(5):
            assert ended(*copy_of_this(lambda: int(array[0]))) == 1
            counts.append(files())
        assert counts[1:] == counts[:1] * 4, counts
    """
    assert run_script(tmp_path, _script(text)) == ""


def test_a_copy_cannot_call_off_a_run(tmp_path):
    text = """
    from procession import Net, Node, execution_step
    begun, more = os.pipe()
    with ProcessSession(["a"]) as session:
        a = session.workspace("a")
        a.feed_blob("n", np.zeros(1))
        net = Net("add")
        net.Add(["n", "n"], ["n"])
        with Node("a"):
            run = session.run_async(execution_step("steps", net, num_iter=300_000))

        def look():
            try:
                session.cancel()
            except SessionClosedError:
                return 3

        assert run.running()
        print(ended(*copy_of_this(look)))
        print(run.result())
    """
    assert run_script(tmp_path, _script(text)) == "3\nNone\n"


def _script(text: str) -> str:
    return COPY + textwrap.dedent(text)
