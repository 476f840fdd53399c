"""A net, ready to run any number of times in any number of workspaces.

The first turns in a workspace go item by item (see `procession.runtime.items`): an operation finds
its blobs by name and notes down what its result looks like. Then the net is *bound* to the
workspace: its items become one generated function (see `procession.runtime.generated`) over the
arrays of the blobs, without a lookup or a comparison left in it. If there is one already, for blobs
that look the same in another workspace (see `procession.runtime.draft`), one turn is enough.

The function is right as long as every blob keeps its shape and dtype and nobody looks at what is
going to be written. The blobs tell the binding when it is not (see `procession.blobs.blob`); the
function then returns between two items, and the rest of the turn goes item by item.

What became of it decides how the next turn begins. A blob that was only looked at has moved, or
will be free again: the binding holds as soon as that is so. A blob of another shape makes a
new binding necessary. One that changes its shape again and again is not relied upon any more.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import CodeType
from typing import Any

from procession.blobs.blob import Blob, is_tensor
from procession.runtime.binding import Binding, Slot
from procession.runtime.draft import Draft, Vocabulary
from procession.runtime.generated import compile_text, item_at
from procession.runtime.items import Item
from procession.runtime.operation import PreparedOperation
from procession.runtime.run import TaskRun
from procession.runtime.workspace import Workspace

ONCE = (None,)
RECORDED = 2
"""So many turns in a workspace go item by item before a function is written for it."""
STRIKES = 3
"""A blob that has ended so many bindings by changing its shape is not relied upon any more..."""
WORTHWHILE = 10
"""... unless the binding had been used so many times, or has lasted so many times as long as it
took to make. That long has to pass as well before a better one is made."""
DRAFTS = 8
"""How many drafts of its function a net keeps."""
TEXTS = 16
"""How many texts of it."""


_NO_STRIKES: Counter[str] = Counter()


class _Home:
    """What a net knows of one workspace."""

    __slots__ = ("__weakref__", "binding", "cost", "strikes", "tried", "turns", "waited")

    def __init__(self) -> None:
        self.binding: Binding | None = None
        self.cost = 0.0
        """Seconds that it took to make."""
        self.turns = 0
        """How many went item by item; no more than matter."""
        # There may be thousands of workspaces: they share what is empty.
        self.strikes: Counter[str] = _NO_STRIKES
        self.tried: frozenset[int] = frozenset()
        """The items that have waited; see `Draft`."""
        self.waited = False
        """Whether one of them has done so since the binding was made."""

    def lose(self, binding: Binding) -> None:
        """The binding is not right any more."""
        self.binding = None
        # The next turn shows what things look like.
        self.turns = min(self.turns, RECORDED - 1)
        self.tried = frozenset()
        if binding.calls < WORTHWHILE and not self.has_lasted(binding):
            self.strikes = self.strikes + Counter(binding.changes)
        else:
            self.strikes = _NO_STRIKES

    def has_lasted(self, binding: Binding) -> bool:
        """Whether it was worth its making."""
        return time.perf_counter() - binding.made > WORTHWHILE * self.cost


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
        self._last: tuple[Callable[[], Workspace | None], Callable[[], _Home | None]]
        self._last = (lambda: None, lambda: None)
        self._vocabulary: Vocabulary | None = None
        self._drafts: dict[tuple[Any, ...], Draft] = {}
        self._codes: dict[str, CodeType] = {}

    def run(self, workspace: Workspace, task: TaskRun, turns: Iterable[Any] = ONCE) -> None:
        """Run it once for each of `turns`, or until one of its items leaves the loop.

        Raises:
            Cancelled: And whatever the monitor raises.
            Exception: See `PreparedOperation.run`.
        """
        last, its_home = self._last
        home = its_home()
        if home is None or last() is not workspace:
            home = self._homes.setdefault(workspace, _Home())
            self._last = weakref.ref(workspace), weakref.ref(home)
        left = iter(turns)
        over = False
        while not over:
            binding = home.binding
            if (
                binding is None
                or binding.broken.cell_contents
                or binding.board is (task.note is None)
                or home.waited
            ):
                binding = self._renewed(workspace, task, home)
                if binding is None:
                    over = True
                    for _ in left:
                        home.turns += 1
                        over = self._slowly(workspace, task, 0) or turns is ONCE
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
            if index < 0:
                break
            if index - 1 in binding.waits and not binding.broken.cell_contents:
                home.tried |= {index - 1}
                home.waited = True
            over = self._slowly(workspace, task, index)
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
        if not isinstance(operation, PreparedOperation):
            # Looking at a truth value does not fail: a signal's handler has.
            return -1
        found = (workspace.find(name) for name in operation.spec.inputs)
        values = [blob.value for blob in found if blob is not None]
        operation.fail(error, workspace, task, values)

    # Binding.

    def _renewed(self, workspace: Workspace, task: TaskRun, home: _Home) -> Binding | None:
        """A binding that is right; None if this turn has to go item by item."""
        board = task.note is not None
        binding = home.binding
        if binding is not None and binding.changes:
            home.lose(binding)
        elif (
            binding is not None
            and binding.board is board
            and not (home.waited and home.has_lasted(binding))
        ):
            return binding if binding.mended() else None
        if home.turns < RECORDED and not (home.turns and self._drafts):
            return None
        before = time.perf_counter()
        binding = home.binding = self._bound(workspace, board, home)
        if binding is None:
            return None
        home.cost = binding.made - before
        home.waited = False
        return binding if binding.mended() else None

    def _bound(self, workspace: Workspace, board: bool, home: _Home) -> Binding | None:
        """A binding; None if there is no draft for it, and not enough was seen to make one."""
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self.items)
        slots: dict[str, Slot | None] = {}
        numbers: dict[Blob, int] = {}
        looks: list[Any] = [board, home.tried]
        for name, variable in self._vocabulary.variables.items():
            blob = workspace.find(name)
            if blob is None:
                looks.append(None)
                continue
            value = blob.value
            if not is_tensor(value) or home.strikes[name] >= STRIKES:
                slots[name] = None
                looks.append(False)
                continue
            slots[name] = Slot(blob, value, variable)
            # Two names may lead to one blob.
            looks.append((value.shape, value.dtype, numbers.setdefault(blob, variable)))
        key = tuple(looks)
        draft = self._drafts.get(key)
        if draft is None:
            if home.turns < RECORDED:
                return None
            draft = Draft(self.items, self._vocabulary, slots, board, home.tried, self._code)
            if len(self._drafts) >= DRAFTS:
                self._drafts.clear()
            self._drafts[key] = draft
        return draft.bind(slots)

    def _code(self, text: str, cells: list[str]) -> CodeType:
        code = self._codes.get(text)
        if code is None:
            if len(self._codes) >= TEXTS:
                self._codes.clear()
            code = self._codes[text] = compile_text(text, cells, f"<net {self.name}>")
        return code
