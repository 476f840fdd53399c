"""What was fetched reads right for as long as it is held, whatever becomes of its node.

| who ends | who holds the array |
| --- | --- |
| the worker, by a signal | a variable, slices, a memoryview, another thread |
| the session, orderly or not | the same |
| the interpreter | a global, a cycle, a class, a thread, an atexit handler, a finalizer |

Scripts end without a word on standard error, and with 0.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from tests.faults.moments import MIB, WITHIN, adding, gone, pid_of, run_script, send
from tests.session.process_nodes import segments

from procession import Node, NodeDiedError, ProcessSession, Task, TaskGroup, WorkspaceType

SIZES = [10, 5000, MIB]


def held(session: ProcessSession, node: str) -> list[tuple[Any, np.ndarray]]:
    """Views of all kinds, each with what it has to show."""
    found: list[tuple[Any, np.ndarray]] = []
    workspace = session.workspace(node)
    for size in SIZES:
        value = np.random.default_rng(size).random(size)
        workspace.feed_blob(f"x{size}", value)
        view = workspace.fetch_blob(f"x{size}")
        assert not view.flags.writeable
        found += [(view, value), (view[1:-1], value[1:-1]), (view[::-2], value[::-2])]
        found.append((memoryview(view), value))
        found.append((workspace.fetch_blob(f"x{size}").reshape(-1, 2).T, value.reshape(-1, 2).T))
    with workspace.new_blob("filled", (MIB,), np.float64) as array:
        array[:] = value
    found.append((array, value))
    with TaskGroup(WorkspaceType.GLOBAL) as group, Node(node):
        task = Task(step=adding(f"x{MIB}"), outputs=[f"x{MIB}"])
    session.run(group)
    found.append((task.outputs()[0].fetch(), value + 1))
    found.append((session.submit(np.negative, value, node=node).result(), -value))
    return found


def check(views: list[tuple[Any, np.ndarray]]) -> None:
    for view, value in views:
        np.testing.assert_array_equal(np.asarray(view), value)


class TestInThisProcess:
    @pytest.mark.parametrize("number", ["SIGKILL", "SIGSEGV"])
    def test_of_a_node_that_was_killed(self, session, number):
        views = held(session, "a")
        pid = pid_of(session, "a")
        send(pid, number)
        assert gone([pid])
        check(views)
        with pytest.raises(NodeDiedError):
            session.workspace("a").fetch_blob("x10")
        check(views)
        # What comes into memory next comes elsewhere.
        for _ in range(20):
            session.workspace("b").feed_blob("y", np.zeros(MIB))
        check(views)
        session.close()
        check(views)

    def test_of_a_session_that_was_closed(self, session):
        views = held(session, "a")
        session.close()
        check(views)
        assert segments() == set()
        with ProcessSession(["a", "b"]) as other:
            for _ in range(5):
                other.workspace("a").feed_blob("y", np.zeros(MIB))
            check(views)

    def test_of_a_session_that_was_dropped(self):
        session = ProcessSession(["a"])
        views = held(session, "a")
        del session
        gc.collect()
        assert segments() == set()
        check(views)

    def test_in_threads(self, session):
        """Each fetches, and holds what it has while the nodes die around it."""
        pids = [pid_of(session, node) for node in "ab"]
        ready, ended = threading.Barrier(5), threading.Event()
        wrong: list[BaseException] = []

        def work(node: str) -> None:
            try:
                value = np.random.default_rng(5).random(100_000)
                session.workspace(node).feed_blob("x", value)
                views = [session.workspace(node).fetch_blob("x") for _ in range(5)]
                ready.wait(WITHIN)
                while not ended.is_set():
                    for view in views:
                        np.testing.assert_array_equal(view, value)
                check([(view, value) for view in views])
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(node,)) for node in "abab"]
        for thread in threads:
            thread.start()
        ready.wait(WITHIN)
        for pid in pids:
            send(pid, "SIGKILL")
        assert gone(pids)
        session.close()
        ended.set()
        for thread in threads:
            thread.join(WITHIN)
            assert not thread.is_alive()
        assert wrong == []

    def test_dropped_after_the_end(self, session):
        """Their finalizers find neither worker nor session any more."""
        views = held(session, "a")
        later = held(session, "b")
        send(pid_of(session, "a"), "SIGKILL")
        with pytest.raises(NodeDiedError):
            session.workspace("a").fetch_blob("x10")
        views.clear()
        gc.collect()
        session.close()
        later.clear()
        gc.collect()


BEGIN = """
import atexit, gc, os, signal, sys, threading, weakref
import numpy as np
from procession import NodeDiedError, ProcessSession
session = ProcessSession(["a", "b"])
value = np.arange(300_000.0)
for node in "ab":
    session.workspace(node).feed_blob("x", value)
pids = {node: stats.pid for node, stats in session.stats().items()}
total = value.sum()
"""
HOLDERS = {
    "a global": """
view = session.workspace("a").fetch_blob("x")
END
print(view.sum() == total)
""",
    "a cycle": """
class Ring:
    def __del__(self):
        print(self.view.sum() == total)
ring = Ring()
ring.self, ring.view = ring, session.workspace("a").fetch_blob("x")
END
""",
    "a class": """
class Holder:
    view = session.workspace("a").fetch_blob("x")[::3]
END
print(Holder.view.sum() == value[::3].sum())
""",
    "an atexit handler": """
view = session.workspace("a").fetch_blob("x")
atexit.register(lambda: print(view.sum() == total))
END
""",
    "a finalizer": """
class Thing: pass
thing = Thing()
view = session.workspace("a").fetch_blob("x")
weakref.finalize(thing, lambda view: print(view.sum() == total), view)
del view
END
""",
    "a thread": """
def hold():
    view = session.workspace("a").fetch_blob("x")
    there.set()
    threading.main_thread().join()
    print(view.sum() == total)
there = threading.Event()
threading.Thread(target=hold).start()
there.wait()
END
""",
    "a daemon": """
def hold():
    view = session.workspace("a").fetch_blob("x")
    if view.sum() == total:
        print(True)
    there.set()
    threading.Event().wait()
there = threading.Event()
threading.Thread(target=hold, daemon=True).start()
there.wait()
END
""",
    "a module": """
sys.held = session.workspace("a").fetch_blob("x")
del session
print(sys.held.sum() == total)
""",
}
ENDS = {
    "nothing": "",
    "its node is killed": "os.kill(pids['a'], signal.SIGKILL)",
    "its node is killed, and found dead": """
os.kill(pids['a'], signal.SIGKILL)
try:
    session.workspace("a").fetch_blob("x")
except NodeDiedError:
    pass
""",
    "closed": "session.close()",
    "all of that": """
os.kill(pids['a'], signal.SIGKILL)
session.close()
del session
gc.collect()
""",
}
PAIRS = [
    *(("a global", end) for end in ENDS),
    *((holder, "all of that") for holder in ("a cycle", "an atexit handler", "a thread")),
    *((holder, "closed") for holder in ("a class", "a finalizer", "a daemon")),
    *((holder, "nothing") for holder in ("a cycle", "a module")),
]


@pytest.mark.parametrize(("holder", "end"), PAIRS)
def test_to_the_end_of_the_interpreter(tmp_path, holder, end):
    text = BEGIN + HOLDERS[holder].replace("END", ENDS[end])
    assert run_script(tmp_path, text) == "True\n"
