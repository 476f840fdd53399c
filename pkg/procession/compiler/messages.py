"""From messages, as they are read from files or written by hand, to programs."""

from __future__ import annotations

from procession.compiler.compiled import CompiledRunnable
from procession.compiler.lower import Lowering
from procession.compiler.worlds import worlds_of
from procession.errors import GraphError, did_you_mean
from procession.graph.device import check_device
from procession.graph.proto import ExecutionStep, NetDef, PlanDef
from procession.graph.task import LOCAL
from procession.runtime.program import NetProgram, StepProgram, TaskProgram


class _Messages:
    """Lowers messages of one runnable."""

    def __init__(self) -> None:
        self._lowering = Lowering(LOCAL)
        self._nets: dict[str, NetDef] = {}
        self._lowered: dict[str, NetProgram] = {}

    def know(self, net: NetDef) -> None:
        if net.name in self._nets:
            raise GraphError(f"the plan has two nets called {net.name!r}")
        self._nets[net.name] = net

    def net(self, net: NetDef) -> NetProgram:
        check_device(net.__dict__.get("device_option"), f"net {net.name!r}")
        return self._lowering.message(net, strict=False)

    def net_called(self, name: str, step: str) -> NetProgram:
        if name not in self._nets:
            raise GraphError(
                f"step {step!r} runs net {name!r}, which is not in the plan."
                f"{did_you_mean(name, self._nets)}"
            )
        if name not in self._lowered:
            self._lowered[name] = self.net(self._nets[name])
        return self._lowered[name]

    def step(self, step: ExecutionStep) -> StepProgram:
        if step.network and step.substep:
            raise GraphError(f"step {step.name!r} has both nets and steps")
        body: list[NetProgram | StepProgram] = [self.step(each) for each in step.substep]
        body += [self.net_called(name, step.name) for name in step.network]
        report = None
        if step.report_net:
            report = (self.net_called(step.report_net, step.name), float(step.report_interval))
        return StepProgram(
            name=step.name,
            body=tuple(body),
            iterations=step.num_iter if step.HasField("num_iter") else None,
            should_stop=step.should_stop_blob or None,
            only_once=step.only_once,
            concurrent=step.concurrent_substeps,
            create_workspace=step.create_workspace,
            instances=max(step.num_concurrent_instances, 1),
            every_millis=step.run_every_ms if step.HasField("run_every_ms") else None,
            report=report,
        )

    def compiled(self, name: str, step: StepProgram) -> CompiledRunnable:
        self._lowering.tasks.append(TaskProgram(f"{LOCAL}/{name}", step))
        program = self._lowering.program(private=False)
        return CompiledRunnable(name, (program,), (), worlds=worlds_of((program,)))


def lower_net(net: NetDef) -> CompiledRunnable:
    """Compile a net's message. Arguments that an operator does not have are passed over.

    Raises:
        UnknownOperatorError, OperatorSignatureError: An operator that makes no sense.
        GraphError: Something is to run on another device than the CPU.
    """
    messages = _Messages()
    return messages.compiled(net.name, StepProgram(net.name, (messages.net(net),)))


def lower_plan(plan: PlanDef) -> CompiledRunnable:
    """Compile a plan's message; see `lower_net`.

    Raises:
        GraphError: A step runs a net that is not in the message, or both nets and steps.
    """
    messages = _Messages()
    for net in plan.network:
        messages.know(net)
    steps = tuple(messages.step(step) for step in plan.execution_step)
    return messages.compiled(plan.name, StepProgram(plan.name, steps))
