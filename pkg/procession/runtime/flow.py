"""Flow: nets and steps, opened up into items.

What goes around once is opened up: a step's nets and substeps, what stands before a stop blob, and
the nets of `If`. So it becomes part of one generated function, its conditions `if`s. What goes
around again is a prepared net of its own, and a call from there: each time around begins with the
function anew. Everything that needs threads, or a workspace of its own, is a call of the
executable's. So is what is long, or nested deep, as it may be used in many places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import repeat

import numpy as np

from procession.errors import OperatorError
from procession.operators import Definition
from procession.operators.control import Branch, Loop, truth
from procession.runtime.items import Call, Check, Item, Job, Jump
from procession.runtime.net import PreparedNet
from procession.runtime.operation import PreparedOperation, describe
from procession.runtime.program import NetProgram, Operation, StepProgram
from procession.runtime.run import TaskRun
from procession.runtime.threads import run_all
from procession.runtime.workspace import Workspace

LONG = 200
"""What has more items is called, not opened up..."""
FULL = 1000
"""... and so is what would come into a list that is longer than that already."""
DEEP = 12
"""What has so many checks nested into each other is called, not opened up."""


def side_by_side(jobs: Sequence[Job], workspace: Workspace, task: TaskRun) -> None:
    """Run jobs at once, each in a thread; one that fails stops the run."""
    whole = task.whole
    run_all([partial(whole.guarded, partial(job, workspace, task)) for job in jobs], whole.stop)


def _is_small(items: Sequence[Item]) -> bool:
    """Whether the items may be put into other lists."""
    if len(items) > LONG:
        return False
    ends: list[int] = []
    for index, item in enumerate(items):
        ends = [end for end in ends if end > index]
        if item.skip is not None:
            ends.append(index + 1 + item.skip)
        if len(ends) > DEEP:
            return False
    return True


class Around:
    """A body that goes around.

    Args:
        body: What goes around.
        turns: How often, at most; None: until it is left.
    """

    def __init__(self, body: PreparedNet, turns: int | None) -> None:
        self._body = body
        self._turns = turns

    def run(self, workspace: Workspace, task: TaskRun) -> None:
        """Go around."""
        turns = repeat(None) if self._turns is None else repeat(None, self._turns)
        self._body.run(workspace, task, turns)


class Flow:
    """Opens up a program's nets and steps.

    Args:
        definitions: Operator -> its definition.
        writes: All blobs that the program may write.
        spread: Runs a step that needs more than to be run through.
        written_by: What a message says about who writes a blob.

    Raises:
        UnknownOperatorError: A net uses an operator that is not known.
    """

    def __init__(
        self,
        definitions: Mapping[str, Definition],
        writes: frozenset[str],
        spread: Callable[[StepProgram], Job],
        written_by: Callable[[str], str],
    ) -> None:
        self._written_by = written_by
        self._definitions = definitions
        self._writes = writes
        self._spread = spread
        self.nets: dict[int, PreparedNet] = {}
        """The nets that are prepared, by identity."""
        self._steps: dict[int, list[Item]] = {}
        self._jobs: dict[int, Job] = {}
        self._bodies: dict[int, Job] = {}

    def net(self, net: NetProgram) -> PreparedNet:
        """A net, prepared; once."""
        prepared = self.nets.get(id(net))
        if prepared is None:
            items: list[Item] = []
            for spec in net.operations:
                items += self._operation(spec, FULL - len(items))
            prepared = self.nets[id(net)] = PreparedNet(net.name, items)
        return prepared

    def job(self, part: NetProgram | StepProgram) -> Job:
        """What runs a net or a step once."""
        if isinstance(part, NetProgram):
            return self.net(part).run
        job = self._jobs.get(id(part))
        if job is None:
            job = self._jobs[id(part)] = self._job(self._step(part), part.name)
        return job

    def body(self, step: StepProgram) -> Job:
        """What runs a step's parts, one after the other, as often as the step says."""
        job = self._bodies.get(id(step))
        if job is None:
            job = self._bodies[id(step)] = self._job(self._body(step), step.name)
        return job

    # Operators.

    def _operation(self, spec: Operation, room: int) -> list[Item]:
        definition = self._definitions[spec.type]
        if not definition.flow:
            return [PreparedOperation(spec, definition)]
        flow: Branch | Loop = definition.kernel(*spec.inputs, **spec.arguments)
        operation = PreparedOperation(spec, definition)
        jumps = partial(self._is_false, operation, flow.condition)
        condition = partial(Check, jumps, blob=flow.condition, unless=True, boolean=True)
        if isinstance(flow, Branch):
            then = self._opened(flow.then_net, room)
            other = self._opened(flow.else_net, room - len(then))
            if other:
                then = [*then, Jump(len(other))]
            return [condition(skip=len(then)), *then, *other]
        before, body = self._opened(flow.before, FULL), self._opened(flow.body, FULL)
        around = PreparedNet(spec.net, [*before, condition(skip=None), *body])
        return [Call(Around(around, None).run)]

    @staticmethod
    def _is_false(
        operation: PreparedOperation, name: str, workspace: Workspace, task: TaskRun
    ) -> bool:
        task.enter(operation.spec.number)
        value = operation.blob(name, workspace, task).value
        try:
            return not truth(value, operation.spec.type, name)
        except (TypeError, ValueError) as error:
            operation.fail(error, workspace, task, [value])

    # Steps.

    def _step(self, step: StepProgram) -> list[Item]:
        """All that a step does, as items."""
        if id(step) not in self._steps:
            self._steps[id(step)] = self._whole(step)
        return self._steps[id(step)]

    def _whole(self, step: StepProgram) -> list[Item]:
        if step.copies > 1 or step.create_workspace or step.report is not None or step.recurring:
            items: list[Item] = [Call(self._spread(step))]
        else:
            items = self._body(step)
        # With a stop blob, `only_once` is about the loop.
        if step.only_once and step.should_stop is None:
            items = [Check(partial(self._was_run, step), len(items)), *items]
        return items

    @staticmethod
    def _was_run(step: StepProgram, workspace: Workspace, task: TaskRun) -> bool:
        return not task.whole.first_time(step)

    def _body(self, step: StepProgram) -> list[Item]:
        most = step.iterations
        if most is None and (step.should_stop is None or step.only_once):
            most = 1
        parts: list[list[Item]] = []
        if step.at_once or not step.parts:
            parts.append([Call(self._at_once(step))] if step.parts else [])
        else:
            room = FULL
            for part in step.parts:
                parts.append(self._opened(part, room))
                room -= len(parts[-1])
        items: list[Item] = []
        once = most == 1
        if once and step.should_stop is not None and len(parts) < DEEP:
            for opened in reversed(parts):
                # Behind the last part there is nothing to pass over.
                items = [*opened, *self._stop_check(step, len(items)), *items]
            return items
        for opened in parts:
            items += [*opened, *self._stop_check(step, None)]
        if once and step.should_stop is None:
            return items
        if len(step.parts) == 1 and step.should_stop is None:
            (only,) = step.parts
            if isinstance(only, NetProgram):
                return [Call(Around(self.net(only), most).run)]
        return [Call(Around(PreparedNet(step.name, items), most).run)]

    def _at_once(self, step: StepProgram) -> Job:
        """Run the parts at once: `instances` copies of each substep."""
        jobs = [self.job(part) for part in step.parts]
        if step.copies == 1:
            jobs *= step.instances
        return partial(side_by_side, jobs)

    def _stop_check(self, step: StepProgram, skip: int | None) -> list[Item]:
        if step.should_stop is None:
            return []
        return [Check(partial(self._stops, step), skip, step.should_stop)]

    def _stops(self, step: StepProgram, workspace: Workspace, task: TaskRun) -> bool:
        assert step.should_stop is not None
        blob = workspace.find(step.should_stop)
        if blob is None:
            if step.should_stop in self._writes:
                return False  # not written yet
            error = workspace.not_found(step.should_stop)
            error.task = task.name
            error.message += (
                f" Step {step.name!r} stops by it, and nothing in the run writes it "
                f"(task {task.name!r})."
            )
            raise error
        value = blob.value
        if not isinstance(value, np.ndarray) or value.size != 1:
            raise OperatorError(
                f"step {step.name!r} stops by blob {step.should_stop!r}, which should hold one "
                f"truth value and holds {describe(value)} (task {task.name!r})"
                f"{self._written_by(step.should_stop)}",
                task=task.name,
                node=workspace.node,
            )
        return bool(value.item())

    # Opening up.

    def _opened(self, part: NetProgram | StepProgram | None, room: int) -> list[Item]:
        """The items of a net or step; a call of it if they are too many, or more than `room`."""
        if part is None:
            return []
        items: Sequence[Item]
        items = self.net(part).items if isinstance(part, NetProgram) else self._step(part)
        if len(items) <= max(room, 1) and _is_small(items):
            return list(items)
        return [Call(self.job(part))]

    @staticmethod
    def _job(items: list[Item], name: str) -> Job:
        """Run the items once."""
        if len(items) == 1 and isinstance(items[0], Call):
            return items[0].run
        return PreparedNet(name, items).run
