"""What a node's process is given, and what is refused before it starts, and when it does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from procession import Node, NodePropertyError
from procession.cluster import placement
from procession.graph.properties import NodeProperties

linux = pytest.mark.skipif(sys.platform != "linux", reason="CPUs and RLIMIT_NICE are Linux's")
CPUS = sorted(placement.usable_cpus() or [])


def refused(*, node: str = "n", **properties: Any) -> NodePropertyError:
    with pytest.raises(NodePropertyError) as caught:
        placement.check(node, Node(node, **properties).properties)
    return caught.value


def test_what_can_be_had_is_let_through() -> None:
    placement.check("n", NodeProperties())
    placement.check("n", NodeProperties(threads=1000, nice=19))
    placement.check("n", NodeProperties(nice=psutil.Process().nice()))
    if CPUS:
        placement.check("n", NodeProperties(cpus=CPUS))
        placement.check("n", NodeProperties(cpus=CPUS[-1:]))


@linux
def test_a_cpu_that_this_process_may_not_use() -> None:
    error = refused(cpus=[CPUS[0], 4095])
    assert (error.node, error.property, error.asked, error.possible) == (
        "n",
        "cpus",
        [CPUS[0], 4095],
        CPUS,
    )
    assert f"node 'n' cannot have cpus=[{CPUS[0]}, 4095]: this process may use CPU" in str(error)
    assert f"said at {__file__}:" in str(error)


@pytest.mark.parametrize(
    ("cpus", "text"),
    [([3], "CPU 3"), ([0, 1], "CPUs 0-1"), ([8, 2, 0, 1, 9, 5], "CPUs 0-2, 5, 8-9")],
)
def test_cpus_in_words(cpus: list[int], text: str) -> None:
    assert placement._counted(cpus) == text


def test_where_processes_cannot_choose_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "usable_cpus", lambda: None)
    assert "cannot be held to CPUs on" in str(refused(cpus=[0]))


def test_a_priority_that_this_user_may_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "least_nice", lambda: 3)
    error = refused(nice=2)
    assert (error.property, error.asked, error.possible) == ("nice", 2, 3)
    assert "below 3 is for privileged users" in str(error)
    placement.check("n", NodeProperties(nice=3))


@linux
@pytest.mark.parametrize(("limit", "least"), [(0, None), (5, 15), (20, 0), (40, -20)])
def test_how_high_a_priority_may_be(
    monkeypatch: pytest.MonkeyPatch, limit: int, least: int | None
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    present = psutil.Process().nice()
    monkeypatch.setattr(placement, "_privileged", lambda: False)
    assert placement.least_nice() == (present if least is None else min(least, present))
    monkeypatch.setattr(placement, "_privileged", lambda: True)
    assert placement.least_nice() == -20


def in_process(program: str) -> str:
    """What a program prints, in a process of its own."""
    head = (
        "import os, resource, threading\n"
        "from procession import Node, NodePropertyError\n"
        "from procession.cluster import placement\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


AS_NOBODY = """
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)
present = os.getpriority(os.PRIO_PROCESS, 0)
"""


@linux
def test_a_user_without_privileges_cannot_raise_the_priority() -> None:
    told = in_process(
        AS_NOBODY
        + "assert placement.least_nice() == present\n"
        + "placement.check('n', Node('n', nice=present).properties)\n"
        + "try: placement.check('n', Node('n', nice=present - 1).properties)\n"
        + "except NodePropertyError as error: print(error.possible == present)"
    )
    assert told == "True"


@linux
def test_the_system_has_the_last_word_on_the_priority() -> None:
    told = in_process(
        AS_NOBODY + "try: placement.apply('n', Node('n', nice=present - 1).properties)\n"
        "except NodePropertyError as error: print(error, type(error.__cause__).__name__)"
    )
    assert "node 'n' cannot have nice=-1: the system refuses it (" in told
    assert told.endswith("PermissionError")


@linux
def test_the_system_has_the_last_word_on_cpus() -> None:
    told = in_process(
        "try: placement.apply('n', Node('n', cpus=[4095]).properties)\n"
        "except NodePropertyError as error: print(error, error.asked)"
    )
    assert "node 'n' cannot have cpus=[4095]: the system refuses it (" in told
    assert told.endswith("[4095]")


@linux
def test_cpus_that_the_system_leaves_out_are_noticed() -> None:
    told = in_process(
        f"try: placement.apply('n', Node('n', cpus=[{CPUS[0]}, 4000]).properties)\n"
        "except NodePropertyError as error: print(error.property, error.possible)"
    )
    assert told == f"cpus [{CPUS[0]}]"


@linux
def test_threads_that_are_there_already_and_later_ones_are_placed_too() -> None:
    told = in_process(
        f"""
inside, done = threading.Event(), threading.Event()
known = []

def wait():
    known.append(threading.get_native_id())
    inside.set()
    done.wait(30)

def tell(which):
    cpus, nice = os.sched_getaffinity(which), os.getpriority(os.PRIO_PROCESS, which)
    print(sorted(cpus), nice)

thread = threading.Thread(target=wait)
thread.start()
inside.wait(30)
placement.apply('n', Node('n', cpus=[{CPUS[-1]}], nice=7).properties)
tell(0)
tell(known[0])
later = threading.Thread(target=lambda: tell(threading.get_native_id()))
later.start()
later.join()
done.set()
"""
    )
    assert told.splitlines() == [f"[{CPUS[-1]}] 7"] * 3


def test_nothing_said_changes_nothing() -> None:
    before = psutil.Process().nice(), placement.usable_cpus()
    placement.apply("n", NodeProperties(threads=3))
    assert (psutil.Process().nice(), placement.usable_cpus()) == before


@pytest.mark.parametrize(
    ("properties", "session", "shared_out", "threads"),
    [
        (NodeProperties(), None, False, None),
        (NodeProperties(), 3, False, 3),
        (NodeProperties(threads=1), 3, False, 1),
        (NodeProperties(threads=5), 2, True, 5),
        (NodeProperties(threads=5), None, False, 5),
        (NodeProperties(cpus=(0,)), 4, True, 1),
        (NodeProperties(cpus=(0, 1, 2)), 2, True, 2),
        # What somebody chose stays.
        (NodeProperties(cpus=(0,)), 4, False, 4),
        (NodeProperties(cpus=(0,)), None, False, None),
        (NodeProperties(threads=3, cpus=(0,)), 4, True, 3),
    ],
)
def test_threads_of_a_node(
    properties: NodeProperties, session: int | None, shared_out: bool, threads: int | None
) -> None:
    assert placement.threads(properties, session, shared_out) == threads


def test_privileges_are_read_where_they_stand() -> None:
    assert placement._privileged() in (True, False)
    if os.geteuid() != 0:
        assert not placement._privileged()
