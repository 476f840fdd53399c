"""What a node's process is given of this machine: its CPUs, its priority, its BLAS threads.

`check` is for the coordinator, before it starts a process: it refuses what this machine cannot
give, or what this user may not have. `apply` is for the process itself, when it starts. There the
system has the last word, and whatever it does not grant is an error as well: a node never runs
otherwise than it was asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from procession.graph.properties import LEAST_NICE, NodeProperties

_CAP_SYS_NICE = 23
_THREADS = Path("/proc/self/task")


def threads(properties: NodeProperties, session: int | None, shared_out: bool) -> int | None:
    """The cap on a node's BLAS threads; None leaves them alone.

    Args:
        properties: What was said of the node.
        session: What the session gives each of its nodes.
        shared_out: Whether that is a share of the cores, and nobody's choice.
    """
    if properties.threads is not None:
        return properties.threads
    if shared_out and session is not None and properties.cpus is not None:
        return min(session, len(properties.cpus))
    return session


def check(node: str, properties: NodeProperties) -> None:
    """See that a process of this machine and this user can have that.

    Raises:
        NodePropertyError: It cannot. The message says what it can have.
    """
    if properties.cpus is not None:
        usable = usable_cpus()
        if usable is None:
            raise properties.refused(
                "cpus", f"processes cannot be held to CPUs on {sys.platform}", node=node
            )
        if not usable.issuperset(properties.cpus):
            why = f"this process may use {_counted(usable)}"
            raise properties.refused("cpus", why, possible=sorted(usable), node=node)
    if properties.nice is not None:
        least = least_nice()
        if properties.nice < least:
            raise properties.refused(
                "nice",
                f"below {least} is for privileged users (CAP_SYS_NICE, or `ulimit -e`)",
                possible=least,
                node=node,
            )


def usable_cpus() -> frozenset[int] | None:
    """The CPUs that this process may use; None where the system does not let processes choose."""
    if not hasattr(psutil.Process, "cpu_affinity"):
        return None
    return frozenset(psutil.Process().cpu_affinity() or ())


def least_nice() -> int:
    """The highest priority, which is the lowest number, that a process of this user may have."""
    if _privileged():
        return LEAST_NICE
    present = psutil.Process().nice()
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NICE)
    except (ImportError, AttributeError):
        return present
    if limit == resource.RLIM_INFINITY:
        return LEAST_NICE
    return max(LEAST_NICE, min(present, 20 - limit))


def _privileged() -> bool:
    """Whether it may give processes any priority."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return os.geteuid() == 0
    # In a container root may be without it.
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_NICE & 1)
    return os.geteuid() == 0


def _counted(cpus: Iterable[int]) -> str:
    """CPU 3; CPUs 0-5, 8."""
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
    return f"CPU {text}" if text.isdecimal() else f"CPUs {text}"


def apply(node: str, properties: NodeProperties) -> None:
    """Give this process its CPUs and its priority. BLAS threads are left to `blas`.

    Threads that it has already are given the same; those that it starts later inherit it from the
    thread that starts them.

    Raises:
        NodePropertyError: The system refuses, or gives something else.
    """
    if properties.cpus is not None:
        _set("cpus", os.sched_setaffinity, node, properties)
        # A cpuset takes away what is not in it, and says nothing.
        given = sorted(os.sched_getaffinity(0))
        if given != list(properties.cpus):
            why = f"the system gave it {_counted(given)}"
            raise properties.refused("cpus", why, possible=given, node=node)
    if properties.nice is not None:
        _set("nice", partial(os.setpriority, os.PRIO_PROCESS), node, properties)
        present = os.getpriority(os.PRIO_PROCESS, 0)
        if present != properties.nice:
            why = f"the system gave it {present}"
            raise properties.refused("nice", why, possible=present, node=node)


def _set(
    name: str, setter: Callable[[int, Any], None], node: str, properties: NodeProperties
) -> None:
    """Set for each thread what is each thread's own on Linux; elsewhere it is the process's."""
    threads = [0]
    if _THREADS.is_dir():
        # 0 is the one that calls, and it is first: those that it starts meanwhile inherit.
        threads += [int(each.name) for each in _THREADS.iterdir()]
    for thread in threads:
        try:
            setter(thread, getattr(properties, name))
        except ProcessLookupError:
            if thread == 0:
                raise
            continue  # it has ended
        except OSError as error:
            why = f"the system refuses it ({error.strerror})"
            raise properties.refused(name, why, node=node) from error
