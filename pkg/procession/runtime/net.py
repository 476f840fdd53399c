"""A net, ready to run any number of times in any number of workspaces.

The first turns in a workspace go item by item (see `procession.runtime.items`): an operation finds
its blobs by name and notes down what its result looks like. Then the net is *bound* to the
workspace: its items become one generated function (see `procession.runtime.generated`) over the
arrays of the blobs, without a lookup or a comparison left in it. The function for blobs that look
the same in another workspace is there already (`procession.runtime.draft`): one turn there is
enough, which makes the blobs. A function is right as long as every
blob keeps its shape and dtype and nobody looks at what is going to be written. The blobs tell the
binding when it is not (see `procession.blobs.blob`); the function then returns between two items,
and the rest of the turn goes item by item.

What became of it decides how the next turn begins. A blob that was only looked at has moved, or
will be free again: the binding holds as soon as that is so. A blob of another shape makes a
new binding necessary. One that changes its shape again and again is not relied upon any more.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from procession.blobs.blob import Blob, is_tensor
from procession.runtime.binding import Binding, Slot
from procession.runtime.draft import Draft, Vocabulary
from procession.runtime.generated import item_at
from procession.runtime.items import Item
from procession.runtime.operation import PreparedOperation
from procession.runtime.run import TaskRun
from procession.runtime.workspace import Workspace

ONCE = (None,)
RECORDED = 2
"""So many turns in a workspace go item by item before a function is written for it."""
STRIKES = 3
"""A blob that has ended so many bindings by changing its shape is not relied upon any more..."""
WORTHWHILE = 16
"""... unless the binding had been used so many times."""
DRAFTS = 8
"""How many drafts of its function a net keeps."""


class _Home:
    """What a net knows of one workspace."""

    __slots__ = ("binding", "strikes", "turns")

    def __init__(self) -> None:
        self.binding: Binding | None = None
        self.turns = 0
        self.strikes: Counter[str] = Counter()

    def lose(self, binding: Binding) -> None:
        """The binding is not right any more."""
        self.binding = None
        # The next turn shows what things look like.
        self.turns = min(self.turns, RECORDED - 1)
        if binding.calls < WORTHWHILE:
            self.strikes.update(binding.changes)
        else:
            self.strikes.clear()


class PreparedNet:
    """A net's items, and the functions that they have become.

    What a step runs one after the other is prepared like a net.

    Args:
        name: What it is called.
        items: What it is made of.
    """

    def __init__(self, name: str, items: Sequence[Item]) -> None:
        self.name = name
        self.items = tuple(items)
        self._homes: weakref.WeakKeyDictionary[Workspace, _Home] = weakref.WeakKeyDictionary()
        # The workspace of the last run, so as not to look it up; replaced as one.
        self._last: tuple[Callable[[], Workspace | None], _Home] = (lambda: None, _Home())
        self._vocabulary: Vocabulary | None = None
        self._drafts: dict[tuple[Any, ...], Draft] = {}

    def run(self, workspace: Workspace, task: TaskRun, turns: Iterable[Any] = ONCE) -> None:
        """Run it once for each of `turns`, or until one of its items leaves the loop.

        Raises:
            Cancelled: And whatever the monitor raises.
            Exception: See `PreparedOperation.run`.
        """
        last, home = self._last
        if last() is not workspace:
            home = self._homes.setdefault(workspace, _Home())
            self._last = weakref.ref(workspace), home
        left = iter(turns)
        over = False
        while not over:
            binding = home.binding
            if (
                binding is None
                or binding.broken.cell_contents
                or binding.board is (task.note is None)
            ):
                binding = self._renewed(workspace, task, home)
                if binding is None:
                    over = True
                    for _ in left:
                        over = self._slowly(workspace, task, 0)
                        break
                    continue
            binding.calls += 1
            try:
                if binding.board:
                    index = binding.function(
                        left, workspace, task, task.stop, task.note, task.called, task.run
                    )
                else:
                    index = binding.function(left, workspace, task, task.stop)
            except BaseException as error:
                index = self._after(error, binding, workspace, task)
                if index < 0:
                    raise
            over = index < 0 or self._slowly(workspace, task, index)
        if task.note is not None:
            task.note[0] = 0

    def _slowly(self, workspace: Workspace, task: TaskRun, start: int) -> bool:
        """One turn, or the rest of it, item by item; True if the loop is left."""
        items, index = self.items, start
        if not items:
            task.check()
        while index < len(items):
            item = items[index]
            task.enter(item.spec.number)
            index += 1
            if item.run(workspace, task):
                if item.skip is None:
                    return True
                index += item.skip
        return False

    def _after(
        self, error: BaseException, binding: Binding, workspace: Workspace, task: TaskRun
    ) -> int:
        """What to do about an error out of the function.

        Returns:
            -1 to raise it as it is, else the item to go on with.
        """
        if isinstance(error, KeyboardInterrupt) or not self.items:
            return -1
        index = item_at(binding.code, error)
        if not binding.direct[index]:
            return -1
        if binding.broken.cell_contents:
            # Another thread changed a blob at the wrong moment.
            return index
        operation = self.items[index]
        assert isinstance(operation, PreparedOperation)
        found = (workspace.find(name) for name in operation.spec.inputs)
        values = [blob.value for blob in found if blob is not None]
        operation.fail(error, workspace, task, values)

    # Binding.

    def _renewed(self, workspace: Workspace, task: TaskRun, home: _Home) -> Binding | None:
        """A binding that is right; None if this turn has to go operation by operation."""
        board = task.note is not None
        binding = home.binding
        if binding is not None and binding.changes:
            home.lose(binding)
        elif binding is not None and binding.board is board:
            return binding if binding.mended() else None
        seen = home.turns >= RECORDED
        if not seen:
            home.turns += 1
            if home.turns == 1 or not self._drafts:
                return None
        binding = home.binding = self._bound(workspace, board, home.strikes, seen)
        if binding is None:
            return None
        if binding.changes:
            # Another thread was at it meanwhile.
            return None
        return binding if binding.mended() else None

    def _bound(
        self, workspace: Workspace, board: bool, strikes: Counter[str], seen: bool
    ) -> Binding | None:
        """A binding; None if there is no draft for it, and not enough was seen to make one."""
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self.items)
        slots: dict[str, Slot | None] = {}
        numbers: dict[Blob, int] = {}
        looks: list[Any] = [board]
        for name, variable in self._vocabulary.variables.items():
            blob = workspace.find(name)
            steady = blob is not None and is_tensor(blob.value) and strikes[name] < STRIKES
            slot = slots[name] = Slot(blob, variable) if blob is not None and steady else None
            # Two names may lead to one blob.
            number = numbers.setdefault(slot.blob, variable) if slot is not None else None
            looks.append(None if slot is None else (slot.shape, slot.dtype, number))
        key = tuple(looks)
        draft = self._drafts.get(key)
        if draft is None:
            if not seen:
                return None
            draft = Draft(self.name, self.items, self._vocabulary, slots, board)
            if draft.complete:
                if len(self._drafts) >= DRAFTS:
                    self._drafts.clear()
                self._drafts[key] = draft
        return draft.bind(slots)
