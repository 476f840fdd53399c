"""Setup: what runs once before, and once after, the steps on whose nets it hangs.

An object with a method `setup(init_net)` or `exit(exit_net)`, or both, is hung on a net by
`net.add_attribute(key, object)`. The key says when it runs: before and after each task that runs
the net (`TASK_SETUP`), each instance of such a task (`TASK_INSTANCE_SETUP`), or everything that a
task group does on that node (`LOCAL_SETUP`). The methods may add operators to the net they are
given, and return further nets and steps to run after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from procession.errors import RunnableTypeError
from procession.graph.builder import NetBuilder
from procession.graph.net import Net
from procession.graph.step import ExecutionStep, Plan, add_nets_in_order, execution_step

TASK_SETUP = "task_setup"
TASK_INSTANCE_SETUP = "task_instance_setup"
LOCAL_SETUP = "local_setup"
REPORT_STEP = "report_step"

Parts = list[Any]
"""Nets and steps, to run one after the other."""


class SetupNets:
    """Nets to run at the beginning and at the end of tasks or task groups. Caffe2: the same.

    One that hangs on several nets of a task, or group, runs once in each run of that.

    Args:
        init_nets: A net, a step, or a list of them, to run before.
        exit_nets: The same, to run after.
    """

    def __init__(self, init_nets: Any = None, exit_nets: Any = None) -> None:
        self.init_nets = init_nets
        self.exit_nets = exit_nets

    def setup(self, init_net: Net) -> Any:
        """What runs before."""
        return self.init_nets

    def exit(self, exit_net: Net) -> Any:
        """What runs after."""
        return self.exit_nets

    def __repr__(self) -> str:
        return f"SetupNets(init_nets={self.init_nets}, exit_nets={self.exit_nets})"


def _hanging(part: Any, key: str) -> list[Any]:
    """What hangs by a key on a net, or on the nets of a step or plan."""
    find = part.get_attributes if isinstance(part, Net) else part.get_all_attributes
    return list(find(key))


def _kind(parts: Iterable[Any], key: str) -> type[Net] | None:
    """The class of the first net that something hangs on by a key."""
    for part in parts:
        nets = [part] if isinstance(part, Net) else part.Nets() if isinstance(part, Plan) else []
        if isinstance(part, ExecutionStep):
            add_nets_in_order(part, nets)
        for net in nets:
            if net.get_attributes(key):
                return type(net)
    return None


def _pair(key: str, parts: Iterable[Any]) -> tuple[Net, Net]:
    """Nets to run before and after others, of the class of those that something hangs on."""
    made = _kind(parts, key) or NetBuilder.new_net
    return made(f"{key}/init"), made(f"{key}/exit")


def _ask(hung: Any, method: str, net: Net) -> Parts:
    """The nets and steps that an object has run, beyond the net that it may add to."""
    if not hasattr(hung, method):
        return []
    answer = getattr(hung, method)(net)
    parts = [] if answer is None else answer
    if isinstance(parts, (Net, ExecutionStep)):
        return [parts]
    if not isinstance(parts, (list, tuple)):
        raise RunnableTypeError(
            f"{method}() of {hung!r}, which hangs on a net to be run at its setup, "
            f"returns a net, a step, a list of them, or None, not {answer!r}"
        )
    return list(parts)


def collect_setups(
    key: str, runs: Mapping[str, Iterable[Any]], target: Any
) -> dict[str, tuple[Parts, Parts]]:
    """What has to run before and after, at several places.

    Args:
        key: What it hangs by.
        runs: Place -> the steps and nets that run there.
        target: What the setup is for; objects with another `_setup_target` are left alone.

    Returns:
        Place -> what runs before, and what runs after. An object is asked once, even if it hangs
        on nets of several places; it is run at each.

    Raises:
        RunnableTypeError: A method returned something that cannot be run.
    """
    objects: dict[int, Any] = {}
    places: dict[int, list[str]] = {}
    for place, parts in runs.items():
        for part in parts:
            for hung in _hanging(part, key):
                if getattr(hung, "_setup_target", target) == target:
                    objects[id(hung)] = hung
                    at = places.setdefault(id(hung), [])
                    if place not in at:
                        at.append(place)
    found: dict[str, tuple[Parts, Parts]] = {place: ([], []) for place in runs}
    # What hangs at the same places shares the nets that it may add to.
    nets: dict[tuple[str, ...], tuple[Net, Net]]
    nets = {(place,): _pair(key, parts) for place, parts in runs.items()}
    for number, hung in objects.items():
        at_places = tuple(places[number])
        if at_places not in nets:
            nets[at_places] = _pair(key, runs[at_places[0]])
        for when, method in enumerate(("setup", "exit")):
            parts = _ask(hung, method, nets[at_places][when])
            for place in at_places:
                found[place][when].extend(parts)
    for at_places, pair in nets.items():
        for when, net in enumerate(pair):
            if net.operators:
                for place in at_places:
                    found[place][when].insert(0, net)
    return found


def is_set_up(runs: Any) -> bool:
    """Whether something to run before, beside or after hangs on nets of a net, step or plan."""
    keys = (TASK_SETUP, TASK_INSTANCE_SETUP, LOCAL_SETUP, REPORT_STEP)
    return any(_hanging(runs, key) for key in keys)


def get_setup_nets(
    key: str, steps_or_nets: Iterable[Any], target: Any
) -> tuple[list[Any], list[Any]]:
    """What has to run before and after these steps and nets. Caffe2: task.get_setup_nets."""
    return collect_setups(key, {"": list(steps_or_nets)}, target)[""]


def add_setup_steps(
    step: ExecutionStep, init_nets: Sequence[Any], exit_nets: Sequence[Any], name: str
) -> ExecutionStep:
    """A step with something before and after it; the step itself if there is nothing.

    Caffe2: task.add_setup_steps.
    """
    if not init_nets and not exit_nets:
        return step
    steps = [step]
    if init_nets:
        steps.insert(0, execution_step(f"{name}:init", list(init_nets)))
    if exit_nets:
        steps.append(execution_step(f"{name}:exit", list(exit_nets)))
    return execution_step(name, steps)
