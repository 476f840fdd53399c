"""ExecutionStep and Plan: when, and how often, nets run."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from procession.errors import GraphError, RunnableTypeError, did_you_mean
from procession.graph import names, proto
from procession.graph.blob import BlobReference, ScopedBlobReference, ScopedName
from procession.graph.net import Net

Self = TypeVar("Self", bound="ExecutionStep")


class ExecutionStep:
    """Runs nets, or other steps, one after the other or at once, once or repeatedly.

    A step that was put into another step or a plan cannot be changed any more. One that runs
    nothing is left out there.

    Args:
        name: What it is called.
        nets: A net or a list of nets to run one after the other.
        num_iter: How often; left out, once.

    Caffe2: core.ExecutionStep.
    """

    def __init__(
        self,
        name: str | None,
        nets: Net | Iterable[Net] | None = None,
        num_iter: int | None = None,
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
        self.own_setup = False
        """Whether what hangs on its nets has been seen to: then nobody else is told of it."""
        self._once_by_default = False
        self._used_in: str | None = None
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
        # All parts are of one kind.
        return isinstance(next(iter(self._body), None), Net)

    def HasSubsteps(self) -> bool:
        """Whether it runs other steps."""
        return isinstance(next(iter(self._body), None), ExecutionStep)

    def Nets(self) -> list[Net]:
        """The nets in it and in its substeps, each once, in order of use."""
        found: list[Net] = []
        add_nets_in_order(self, found)
        return found

    def Substeps(self) -> list[ExecutionStep]:
        """The steps it runs."""
        return [part for part in self._body if isinstance(part, ExecutionStep)]

    def _changing(self) -> None:
        if self._used_in is not None:
            raise GraphError(
                f"step {self._name!r} has been put into {self._used_in}: it cannot be changed"
            )
        self._changes += 1

    def use(self, where: str) -> None:
        """Let nobody change it any more, because it is part of what is described."""
        self._used_in = self._used_in or where

    @property
    def used(self) -> bool:
        """Whether it is part of something, and cannot be changed any more."""
        return self._used_in is not None

    def AddNet(self: Self, net: Net) -> Self:
        """Run this net behind the others."""
        if not isinstance(net, Net):
            raise RunnableTypeError(f"step {self._name!r}: AddNet takes a Net, not {net!r}")
        if self.HasSubsteps():
            raise GraphError(f"step {self._name!r} runs steps; it cannot run nets as well")
        self._changing()
        self._body.append(net)
        return self

    def AddSubstep(self: Self, substep: ExecutionStep) -> Self:
        """Run this step behind the others, unless it runs nothing."""
        if not isinstance(substep, ExecutionStep):
            raise RunnableTypeError(
                f"step {self._name!r}: AddSubstep takes an ExecutionStep, not {substep!r}"
            )
        if self.HasNets():
            raise GraphError(f"step {self._name!r} runs nets; it cannot run steps as well")
        self._changing()
        substep.use(f"step {self._name!r}")
        if substep.body:
            self._body.append(substep)
        return self

    def SetIter(self, num_iter: int) -> None:
        """Run so many times; 0 is never."""
        if self.should_stop is not None:
            raise GraphError(f"step {self._name!r} stops by a blob; it cannot count as well")
        self._changing()
        self.iterations = self._count(num_iter, 0, "iterations")

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
        self._changing()
        self.should_stop = should_stop_blob

    def SetOnlyOnce(self, only_once: bool) -> None:
        """Run at most once in a run of the session, however often the step around it does.

        With a stop blob: one iteration each time instead.
        """
        self._changing()
        self.only_once = bool(only_once)

    def SetConcurrentSubsteps(self, concurrent_substeps: bool) -> None:
        """Run what it runs at once, each in a thread, instead of one after the other."""
        self._changing()
        self.concurrent = bool(concurrent_substeps)

    def SetNumConcurrentInstances(self, num_concurrent_instances: int) -> None:
        """Run so many copies of each substep at once, each in a thread.

        A step of nets has no substeps: so many copies of the whole step run at once.
        """
        self._changing()
        self.concurrent_instances = self._count(num_concurrent_instances, 1, "instances")

    def SetCreateWorkspace(self, create_workspace: bool) -> None:
        """Run in a child workspace, made each time: new blobs are gone when the step ends."""
        self._changing()
        self.create_workspace = bool(create_workspace)

    def RunEveryMillis(self, interval: int) -> None:
        """Run every `interval` ms beside the siblings, and once more when they have ended.

        It takes no part in the iterations of the step it is in. Ignored at the top of a plan.
        """
        self._changing()
        self.every_millis = int(interval)

    def SetReportNet(self, report_net: Net, report_interval: float) -> None:
        """Run this net every `report_interval` seconds while the step runs, and at its end."""
        if not isinstance(report_net, Net):
            raise RunnableTypeError(f"step {self._name!r}: {report_net!r} is no Net")
        self._changing()
        self.report = (report_net, float(report_interval))

    def Proto(self) -> proto.ExecutionStep:
        """A picture of the step as a message. Nets are in it by name; see `Plan.Proto`."""
        unlimited = self.iterations is None and self.should_stop is None
        made = proto.ExecutionStep(
            name=self._name,
            substep=[step.Proto() for step in self.Substeps()],
            network=[part.Name() for part in self._body if isinstance(part, Net)],
            num_iter=1 if self._once_by_default and unlimited else self.iterations,
            should_stop_blob=None if self.should_stop is None else str(self.should_stop),
            run_every_ms=self.every_millis,
        )
        if self.only_once:
            made.only_once = True
        if self.concurrent:
            made.concurrent_substeps = True
        if self.create_workspace:
            made.create_workspace = True
        if self.concurrent_instances > 1:
            made.num_concurrent_instances = self.concurrent_instances
        if self.report is not None:
            made.report_net = self.report[0].Name()
            made.report_interval = round(self.report[1])
        return made

    @classmethod
    def create_from_proto(
        cls,
        step_proto: proto.ExecutionStep,
        net_obj_dict: dict[str, Net],
        net_proto_dict: Mapping[str, proto.NetDef],
    ) -> ExecutionStep:
        """A step of a message. Caffe2: the same.

        Args:
            step_proto: The message.
            net_obj_dict: Name -> net, for nets that were made already; the others are added.
            net_proto_dict: Name -> message, for all others.

        Raises:
            GraphError: A net is in neither, or the message has both nets and steps.
        """
        if step_proto.network and step_proto.substep:
            raise GraphError(f"step {step_proto.name!r} has both nets and steps")

        def net_of(name: str) -> Net:
            if name not in net_obj_dict:
                if name not in net_proto_dict:
                    raise GraphError(
                        f"step {step_proto.name!r} runs net {name!r}, which is not in the plan."
                        f"{did_you_mean(name, [*net_obj_dict, *net_proto_dict])}"
                    )
                net_obj_dict[name] = Net(net_proto_dict[name])
            return net_obj_dict[name]

        made = cls(step_proto.name)
        if step_proto.HasField("num_iter"):
            made.iterations = step_proto.num_iter
        if step_proto.HasField("should_stop_blob"):
            made.should_stop = BlobReference(step_proto.should_stop_blob)
        made.only_once = step_proto.only_once
        made.concurrent = step_proto.concurrent_substeps
        made.create_workspace = step_proto.create_workspace
        made.concurrent_instances = max(step_proto.num_concurrent_instances, 1)
        if step_proto.HasField("run_every_ms"):
            made.every_millis = step_proto.run_every_ms
        if step_proto.report_net:
            made.report = (net_of(step_proto.report_net), float(step_proto.report_interval))
        for name in step_proto.network:
            made.AddNet(net_of(name))
        for substep in step_proto.substep:
            made.AddSubstep(cls.create_from_proto(substep, net_obj_dict, net_proto_dict))
        return made

    def get_net(self, name: str) -> Net:
        """The net of that name in this step or the steps in it.

        Raises:
            GraphError: There is none.
        """
        nets: list[Net] = []
        add_nets_in_order(self, nets)
        for net in nets:
            if net.Name() == name:
                return net
        raise GraphError(
            f"step {self._name!r} has no net {name!r}."
            f"{did_you_mean(name, [net.Name() for net in nets])}"
        )

    def get_all_attributes(self, name: str) -> list[Any]:
        """What `Net.add_attribute` hung under that name on any net in it, net by net, in order."""
        nets: list[Net] = []
        _add_nets(self, nets, told=True)
        return [each for net in nets for each in net.get_attributes(name)]


def add_nets_in_order(step: ExecutionStep, net_list: list[Net]) -> None:
    """Add the nets of a step to a list, each once, in order of use. Caffe2: the same.

    There they are added by name; here the nets themselves.
    """
    _add_nets(step, net_list, told=False)


def _add_nets(step: ExecutionStep, net_list: list[Net], told: bool) -> None:
    """Add the nets; told: but those of steps that have seen to what hangs on their nets."""
    if told and step.own_setup:
        return
    seen = set(map(id, net_list))
    parts: list[Any] = [step]
    while parts:
        part = parts.pop()
        if isinstance(part, Net):
            if id(part) not in seen:
                seen.add(id(part))
                net_list.append(part)
        elif not (told and part.own_setup):
            report = () if part.report is None else (part.report[0],)
            parts += [*report, *reversed(part.body)]


@runtime_checkable
class MakesStep(Protocol):
    """What can be made a step: a `NetBuilder`, a `TaskGroup`."""

    def as_step(self, default_name: str | None = None) -> ExecutionStep:
        """A step that runs it."""


Steps = ExecutionStep | Net | MakesStep | list[Any] | tuple[Any, ...]


def _add_all(step: ExecutionStep, parts: Iterable[Any]) -> None:
    parts = list(parts)
    for part in parts:
        if not isinstance(part, (Net, ExecutionStep, MakesStep)):
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
    default_name: str | None,
    steps_or_nets: Steps | None,
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
    """Make a step of a net, a step, a NetBuilder, or a list of them. Caffe2: core.execution_step.

    None is no nets; to say neither how often nor a blob to stop by is once.

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
    step._once_by_default = True
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
    elif steps_or_nets is not None:
        _add_all(step, [steps_or_nets])
    return step


def scoped_execution_step(name: str, *args: Any, **kwargs: Any) -> ExecutionStep:
    """`execution_step` with a name in the scope in force. Caffe2: the same."""
    return execution_step(ScopedName(name) if name else name, *args, **kwargs)


def to_execution_step(step_or_nets: Steps, default_name: str | None = None) -> ExecutionStep:
    """The step itself, or a new one that runs what is given. Caffe2: core.to_execution_step.

    Args:
        step_or_nets: A step, a net, a list of them, a `NetBuilder` or a `TaskGroup`.
        default_name: The new step's name; left out, the builder's, or `step`, `step_1`, ...
    """
    if isinstance(step_or_nets, ExecutionStep):
        return step_or_nets
    if not isinstance(step_or_nets, (Net, list, tuple)) and isinstance(step_or_nets, MakesStep):
        return step_or_nets.as_step(default_name)
    return execution_step(default_name, step_or_nets)


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
        """Run this step behind the others, unless it runs nothing."""
        if not isinstance(step, ExecutionStep):
            raise RunnableTypeError(f"plan {self._name!r}: {step!r} is no ExecutionStep")
        step.use(f"plan {self._name!r}")
        if step.body:
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
        for step in self._steps:
            add_nets_in_order(step, found)
        return found

    def Proto(self) -> proto.PlanDef:
        """A picture of the plan as a message, with its steps and nets."""
        return proto.PlanDef(
            name=self._name,
            network=[net.message for net in self.Nets()],
            execution_step=[step.Proto() for step in self._steps],
        )

    @classmethod
    def create_from_proto(cls, plan_proto: proto.PlanDef) -> Plan:
        """A plan of a message. Caffe2: the same.

        Raises:
            GraphError: A step runs a net that is not in the message, or a name is there twice.
        """
        by_name: dict[str, proto.NetDef] = {}
        for net in plan_proto.network:
            if net.name in by_name:
                raise GraphError(f"plan {plan_proto.name!r} has two nets called {net.name!r}")
            by_name[net.name] = net
        made, nets = cls(plan_proto.name), dict[str, Net]()
        for step in plan_proto.execution_step:
            made.AddStep(ExecutionStep.create_from_proto(step, nets, by_name))
        made.AddNets(nets.values())
        return made

    def get_all_attributes(self, name: str) -> list[Any]:
        """What `Net.add_attribute` hung under that name on any net of the plan, in order."""
        return [each for net in self.Nets() for each in net.get_attributes(name)]
