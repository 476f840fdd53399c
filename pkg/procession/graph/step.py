"""ExecutionStep and Plan: when, and how often, nets run."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from procession.errors import GraphError, RunnableTypeError
from procession.graph import names
from procession.graph.blob import BlobReference, ScopedBlobReference
from procession.graph.net import Net


class ExecutionStep:
    """Runs nets, or other steps, one after the other or at once, once or repeatedly.

    Args:
        name: What it is called.
        nets: A net or a list of nets to run one after the other.
        num_iter: How often; left out, once.

    Caffe2: core.ExecutionStep.
    """

    def __init__(
        self, name: str, nets: Net | Iterable[Net] | None = None, num_iter: int | None = None
    ) -> None:
        self._name = name or names.unique("step", "step")
        self._body: list[Net | ExecutionStep] = []
        self.iterations: int | None = None
        self.should_stop: BlobReference | None = None
        self.only_once = False
        self.concurrent = False
        self.create_workspace = False
        self.concurrent_instances = 1
        self.every_millis: int | None = None
        self.report: tuple[Net, float] | None = None
        self._attributes: dict[str, list[Any]] = {}
        self._changes = 0
        listed: Iterable[Net] = () if nets is None else [nets] if isinstance(nets, Net) else nets
        for net in listed:
            self.AddNet(net)
        if num_iter is not None:
            self.SetIter(num_iter)

    def Name(self) -> str:
        """The step's name."""
        return self._name

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"ExecutionStep({self._name!r}, {self._body!r})"

    @property
    def revision(self) -> int:
        """Grows with every change of the step itself (not of its nets and substeps)."""
        return self._changes

    @property
    def body(self) -> tuple[Net | ExecutionStep, ...]:
        """What it runs, in order: all nets, or all steps."""
        return tuple(self._body)

    def HasNets(self) -> bool:
        """Whether it runs nets."""
        return any(isinstance(part, Net) for part in self._body)

    def HasSubsteps(self) -> bool:
        """Whether it runs other steps."""
        return any(isinstance(part, ExecutionStep) for part in self._body)

    def Nets(self) -> list[Net]:
        """The nets it runs itself."""
        return [part for part in self._body if isinstance(part, Net)]

    def Substeps(self) -> list[ExecutionStep]:
        """The steps it runs."""
        return [part for part in self._body if isinstance(part, ExecutionStep)]

    def AddNet(self, net: Net) -> None:
        """Run this net behind the others."""
        if not isinstance(net, Net):
            raise RunnableTypeError(f"step {self._name!r}: AddNet takes a Net, not {net!r}")
        if self.HasSubsteps():
            raise GraphError(f"step {self._name!r} runs steps; it cannot run nets as well")
        self._body.append(net)
        self._changes += 1

    def AddSubstep(self, substep: ExecutionStep) -> None:
        """Run this step behind the others."""
        if not isinstance(substep, ExecutionStep):
            raise RunnableTypeError(
                f"step {self._name!r}: AddSubstep takes an ExecutionStep, not {substep!r}"
            )
        if self.HasNets():
            raise GraphError(f"step {self._name!r} runs nets; it cannot run steps as well")
        self._body.append(substep)
        self._changes += 1

    def SetIter(self, num_iter: int) -> None:
        """Run so many times; 0 is never."""
        if self.should_stop is not None:
            raise GraphError(f"step {self._name!r} stops by a blob; it cannot count as well")
        self.iterations = self._count(num_iter, 0, "iterations")
        self._changes += 1

    def _count(self, number: Any, least: int, what: str) -> int:
        try:
            count = operator.index(number)
        except TypeError:
            count = -1
        if count < least:
            raise GraphError(f"step {self._name!r}: {number!r} is no number of {what}")
        return count

    def SetShouldStopBlob(self, should_stop_blob: BlobReference | str) -> None:
        """Run until this blob, one truth value, is true; it is read after each net or substep."""
        if self.iterations is not None:
            raise GraphError(f"step {self._name!r} counts; it cannot stop by a blob as well")
        if isinstance(should_stop_blob, str):
            should_stop_blob = ScopedBlobReference(should_stop_blob)
        if not isinstance(should_stop_blob, BlobReference):
            raise RunnableTypeError(
                f"step {self._name!r}: a should-stop blob is a BlobReference or a name, "
                f"not {should_stop_blob!r}"
            )
        self.should_stop = should_stop_blob
        self._changes += 1

    def SetOnlyOnce(self, only_once: bool) -> None:
        """Run at most once in a run of the session, however often the step around it does."""
        self.only_once = bool(only_once)
        self._changes += 1

    def SetConcurrentSubsteps(self, concurrent_substeps: bool) -> None:
        """Run what it runs at once, each in a thread, instead of one after the other."""
        self.concurrent = bool(concurrent_substeps)
        self._changes += 1

    def SetNumConcurrentInstances(self, num_concurrent_instances: int) -> None:
        """Run so many copies of the step at once, each in a thread."""
        self.concurrent_instances = self._count(num_concurrent_instances, 1, "instances")
        self._changes += 1

    def SetCreateWorkspace(self, create_workspace: bool) -> None:
        """Run each instance in a child workspace of its own: new blobs are gone when it ends."""
        self.create_workspace = bool(create_workspace)
        self._changes += 1

    def RunEveryMillis(self, interval: int) -> None:
        """In a concurrent step: run again every `interval` ms for as long as its siblings run."""
        self.every_millis = int(interval)
        self._changes += 1

    def SetReportNet(self, report_net: Net, report_interval: float) -> None:
        """Run this net every `report_interval` seconds while the step runs, and at its end."""
        if not isinstance(report_net, Net):
            raise RunnableTypeError(f"step {self._name!r}: {report_net!r} is no Net")
        self.report = (report_net, float(report_interval))
        self._changes += 1

    def get_all_attributes(self, name: str) -> list[Any]:
        """What `Net.add_attribute` hung under that name on any net in it, in order."""
        found: list[Any] = []
        for part in self._body:
            if isinstance(part, Net):
                found += part.get_attributes(name)
            else:
                found += part.get_all_attributes(name)
        return found


Steps = ExecutionStep | Net | list[Any] | tuple[Any, ...]


def _add_all(step: ExecutionStep, parts: Iterable[Any]) -> None:
    parts = list(parts)
    for part in parts:
        if not isinstance(part, (Net, ExecutionStep)):
            raise RunnableTypeError(
                f"step {step.Name()!r}: a step is made of nets and steps, not {part!r}"
            )
    if all(isinstance(part, Net) for part in parts) and not step.concurrent:
        for net in parts:
            step.AddNet(net)
    else:
        for part in parts:
            step.AddSubstep(to_execution_step(part))


def execution_step(
    default_name: str,
    steps_or_nets: Steps,
    num_iter: int | None = None,
    report_net: Net | None = None,
    report_interval: float | None = None,
    concurrent_substeps: bool | None = None,
    should_stop_blob: BlobReference | str | None = None,
    only_once: bool | None = None,
    num_concurrent_instances: int | None = None,
    create_workspace: bool = False,
    run_every_ms: int | None = None,
) -> ExecutionStep:
    """Make a step of a net, a step, or a list of them. Caffe2: core.execution_step.

    What the options mean stands with the setters of `ExecutionStep`: SetIter, SetReportNet,
    SetConcurrentSubsteps, SetShouldStopBlob, SetOnlyOnce, SetNumConcurrentInstances,
    SetCreateWorkspace, RunEveryMillis.

    Raises:
        RunnableTypeError: Something else than nets and steps.
        GraphError: Both a number of iterations and a blob to stop by.
    """
    step = ExecutionStep(default_name)
    if should_stop_blob is not None and num_iter is not None:
        raise GraphError(f"step {default_name!r}: give num_iter or should_stop_blob, not both")
    if num_iter is not None:
        step.SetIter(num_iter)
    if should_stop_blob is not None:
        step.SetShouldStopBlob(should_stop_blob)
    if concurrent_substeps is not None:
        step.SetConcurrentSubsteps(concurrent_substeps)
    if only_once is not None:
        step.SetOnlyOnce(only_once)
    if num_concurrent_instances is not None:
        step.SetNumConcurrentInstances(num_concurrent_instances)
    if create_workspace:
        step.SetCreateWorkspace(True)
    if run_every_ms is not None:
        step.RunEveryMillis(run_every_ms)
    if report_net is not None:
        if report_interval is None:
            raise GraphError(f"step {default_name!r}: a report net needs a report_interval")
        step.SetReportNet(report_net, report_interval)
    if isinstance(steps_or_nets, (list, tuple)):
        _add_all(step, steps_or_nets)
    else:
        _add_all(step, [steps_or_nets])
    return step


def to_execution_step(step_or_nets: Steps, default_name: str | None = None) -> ExecutionStep:
    """The step itself, or a new one that runs the net or list. Caffe2: core.to_execution_step."""
    if isinstance(step_or_nets, ExecutionStep):
        return step_or_nets
    return execution_step(default_name or names.unique("step", "step"), step_or_nets)


class Plan:
    """Steps that run one after the other. Caffe2: core.Plan.

    Args:
        name_or_step: The plan's name, or its first step, after which it is then called.
    """

    def __init__(self, name_or_step: str | ExecutionStep) -> None:
        self._steps: list[ExecutionStep] = []
        self._nets: list[Net] = []
        if isinstance(name_or_step, ExecutionStep):
            self._name = name_or_step.Name()
            self.AddStep(name_or_step)
        elif isinstance(name_or_step, str):
            self._name = name_or_step
        else:
            raise RunnableTypeError(f"a Plan takes a name or a step, not {name_or_step!r}")

    def Name(self) -> str:
        """The plan's name."""
        return self._name

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"Plan({self._name!r}, {self._steps!r})"

    @property
    def revision(self) -> int:
        """Grows with every step added."""
        return len(self._steps)

    def AddStep(self, step: ExecutionStep) -> None:
        """Run this step behind the others."""
        if not isinstance(step, ExecutionStep):
            raise RunnableTypeError(f"plan {self._name!r}: {step!r} is no ExecutionStep")
        self._steps.append(step)

    def AddNets(self, nets: Iterable[Net]) -> None:
        """Make nets known to the plan; those of its steps are known already."""
        for net in nets:
            if not isinstance(net, Net):
                raise RunnableTypeError(f"plan {self._name!r}: {net!r} is no Net")
            if net not in self._nets:
                self._nets.append(net)

    def Steps(self) -> list[ExecutionStep]:
        """Its steps, in order."""
        return list(self._steps)

    def Nets(self) -> list[Net]:
        """All nets of the plan, each once."""
        found = list(self._nets)

        def collect(step: ExecutionStep) -> None:
            for part in step.body:
                if isinstance(part, ExecutionStep):
                    collect(part)
                elif part not in found:
                    found.append(part)

        for step in self._steps:
            collect(step)
        return found
