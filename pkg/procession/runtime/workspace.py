"""Workspace: names to blobs, with a parent to look into; Scope, which sees only some of it.

A blob may be *torn*: there is none of that name, and it is remembered why. Looking for it raises
another error then, until it is written again, or removed. To write it from inside a child is to
write it, as if it were there.

A workspace may keep a journal of its own blobs (see `procession.blobs.journal`): the global one of
a worker process that is to be replaced when it dies.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, KeysView, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from procession.blobs import snapshot
from procession.blobs.blob import Blob, Pool, as_value, is_tensor
from procession.blobs.heap import HeapPool
from procession.blobs.journal import Journal, Torn
from procession.blobs.snapshot import Array
from procession.blobs.unfinished import Unfinished, description
from procession.errors import BlobNotFoundError, TornBlobError, did_you_mean
from procession.runtime.worlds import Worlds


def not_found(
    blob: str,
    where: str,
    names: Any,
    node: str | None = None,
    elsewhere: tuple[str, ...] = (),
    torn: Torn | None = None,
) -> BlobNotFoundError | TornBlobError:
    """The error for a blob that is not there.

    Args:
        blob: Its name.
        where: What to call the workspace.
        names: The blobs that are there; those with names like it are mentioned.
        node: The node that the workspace is of.
        elsewhere: Nodes that have a blob of that name.
        torn: Why its value is lost, if there was one.
    """
    if torn is not None:
        text = (
            f"the value of blob {blob!r} in {where} is lost: {torn.reason}. "
            f"Feed it, or run what writes it."
        )
        return TornBlobError(text, blob=blob, node=node, operator=torn.operator)
    text = f"no blob {blob!r} in {where}."
    text += did_you_mean(blob, names)
    if elsewhere:
        text += f" There is one of that name on {', '.join(map(repr, elsewhere))}."
    return BlobNotFoundError(text, blob=blob, node=node, elsewhere=elsewhere)


def name_of(blob: Any) -> str:
    """The name of a blob, given as a string or a BlobReference (which this room has not heard of).

    Raises:
        TypeError: It is neither.
    """
    if type(blob) is str:
        return blob
    if isinstance(blob, str):
        # One of another kind, as NumPy's, does not reach a worker as it is.
        return str.__str__(blob)
    if hasattr(type(blob), "GetUnscopedName"):
        return str(blob)
    raise TypeError(f"a blob's name is a string or a BlobReference, not {blob!r}")


class BlobHandle:
    """One blob of a workspace, by name."""

    def __init__(self, workspace: WorkspaceView, name: str) -> None:
        self._workspace = workspace
        self.name = name

    def fetch(self) -> Any:
        """Its value; see `WorkspaceView.fetch_blob`."""
        return self._workspace.fetch_blob(self.name)

    def feed(self, value: Any) -> None:
        """Give it a value; see `WorkspaceView.feed_blob`."""
        self._workspace.feed_blob(self.name, value)

    def __repr__(self) -> str:
        return f"BlobHandle({self.name!r})"


class Blobs(Mapping[str, BlobHandle]):
    """The blobs of a workspace: name -> handle, as they are when asked."""

    def __init__(self, workspace: WorkspaceView) -> None:
        self._workspace = workspace

    def __getitem__(self, name: str) -> BlobHandle:
        if not self._workspace.has_blob(name):
            raise self._workspace.not_found(str(name))
        return BlobHandle(self._workspace, str(name))

    def __contains__(self, name: object) -> bool:
        try:
            return self._workspace.has_blob(name)
        except TypeError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._workspace.names())

    def __len__(self) -> int:
        return len(self._workspace.names())

    def __repr__(self) -> str:
        return f"Blobs({self._workspace.names()})"


class WorkspaceView(ABC):
    """What a user can do with a workspace, wherever it lives."""

    @property
    def blobs(self) -> Blobs:
        """The blobs: a mapping of name to a handle with `fetch()` and `feed(value)`."""
        return Blobs(self)

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all blobs that can be seen from here, sorted."""

    @abstractmethod
    def has_blob(self, name: Any) -> bool:
        """Whether there is a blob of that name."""

    @abstractmethod
    def fetch_blob(self, name: Any) -> Any:
        """The value of a blob, as it is at this moment.

        An array is read-only and never changes, whatever is run or fed afterwards. A large one is
        a view of the blob's own memory (but a copy inside a worker). Objects are copies.

        Raises:
            BlobNotFoundError: There is no such blob.
            TornBlobError: Its value is lost.
        """

    @abstractmethod
    def feed_blob(self, name: Any, value: Any) -> None:
        """Give a blob a value, making it if need be; the value is copied.

        Arrays keep dtype and shape. Numbers become 0-dimensional arrays: bool, int64, float32.
        Anything else is kept as the object that it is; to a worker process it goes by pickle, and
        so do arrays of objects.

        Raises:
            DataTypeError: An array of a type that is not NumPy's own, such as bfloat16.
            SerializationError: An object that cannot be pickled, or not be unpickled in the worker.
            OutOfSharedMemoryError: No shared memory for it.
        """

    @contextmanager
    def new_blob(self, name: Any, shape: Any, dtype: Any = np.float32) -> Iterator[Array]:
        """Give a blob a value by filling it in place, with no copy in between.

            with workspace.new_blob("x", (1000, 1000)) as x:
                np.multiply(a, b, out=x)

        The blob has the value when the block ends well, and not at all when it ends with an error.
        From then on the array is read-only, and a snapshot like one that was fetched. If another
        array or memoryview of its memory is kept beyond the block, the value is copied after all,
        so that nobody can change it. Inside the block anything may be run, fed and fetched.

        Args:
            name: The blob; one that exists keeps its value until the block ends.
            shape: A length, or a sequence of them.
            dtype: Any of NumPy's, but for objects.

        Returns:
            A context manager that gives the array. What is in it at first may be anything.

        Raises:
            DataTypeError: An array of objects, or of a type that is not NumPy's own.
            OutOfSharedMemoryError: The machine, or the node's limit, does not have the memory.
            ValueError, TypeError: It is no shape, or no dtype.
        """
        name = name_of(name)
        shape, dtype, _ = description(shape, dtype)
        draft = self._draft(shape, dtype)
        try:
            yield draft.array
            if draft.finish():
                self._adopt(name, draft, shape, dtype)
            else:
                self.feed_blob(name, draft.array)
        finally:
            draft.release()

    @abstractmethod
    def _draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        """An array to be filled, and what its memory is."""

    @abstractmethod
    def _adopt(
        self, name: str, draft: Unfinished, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        """Make the memory of a finished draft the value of a blob."""

    @abstractmethod
    def remove_blob(self, name: Any) -> None:
        """Remove a blob and give its memory back.

        Raises:
            BlobNotFoundError: There is no such blob.
        """

    @abstractmethod
    def not_found(self, name: str) -> BlobNotFoundError | TornBlobError:
        """The error for a blob that is not here."""


def _copied(value: Any) -> Any:
    """A copy of an object, so that neither side sees what the other does to it later."""
    if is_tensor(value):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:
        # What cannot be copied (a lock, a generator, an open file) can only be shared.
        return value


class Workspace(WorkspaceView):
    """Blobs by name, in this process. Caffe2: workspace.C.Workspace.

    A child workspace sees its parent's blobs under their names; writing such a blob writes the
    parent's. A blob that is new is the child's own, and goes with it.

    Args:
        parent: The workspace to look into for blobs that are not here.
        node: The node it belongs to, for messages; left out, that is said to be "local", but blobs
            are missing in "this workspace".
        pool: Where large tensors live; left out, this process's heap.
    """

    def __init__(
        self,
        parent: Workspace | None = None,
        *,
        node: str | None = None,
        pool: Pool | None = None,
    ) -> None:
        self._parent = parent
        self.node: str = parent.node if parent is not None else node or "local"
        self.place: str = "this workspace"
        """What messages call it."""
        if parent is not None:
            self.place = parent.place
        elif node is not None:
            self.place = f"the workspace of node {node!r}"
        self._pool: Pool = (
            pool if pool is not None else parent._pool if parent is not None else HeapPool()
        )
        self._blobs: dict[str, Blob] = {}
        self._torn: dict[str, Torn] = parent._torn if parent is not None else {}
        """Of the workspace that has no parent, for all that are inside."""
        self._journal: Journal | None = None
        self._worlds: Worlds | None = None
        self._forward: Mapping[str, str] | None = None
        self.exported: frozenset[str] = frozenset()
        """Names that belong to the parent even when they are made here."""

    def child(self, exported: frozenset[str] = frozenset()) -> Workspace:
        """A new workspace inside this one."""
        workspace = Workspace(self)
        workspace.exported = exported
        return workspace

    def scope(self, forward: Mapping[str, str]) -> Scope:
        """A new workspace inside this one that sees nothing of it but some blobs.

        Args:
            forward: Name in there -> name in here.
        """
        return Scope(self, forward)

    def find(self, name: str) -> Blob | None:
        """The blob of that name, here or in a parent."""
        workspace: Workspace | None = self
        while workspace is not None:
            blob = workspace._blobs.get(name)
            if blob is not None:
                return blob
            if workspace._forward is not None:
                if name not in workspace._forward:
                    return None
                name = workspace._forward[name]
            workspace = workspace._parent
        return None

    def make(self, name: str) -> Blob:
        """The blob of that name, or a new one, which `keep` makes visible once it has a value."""
        return self.find(name) or Blob(self._pool)

    def keep(self, name: str, blob: Blob) -> None:
        """Make a blob from `make` visible. Does nothing for one that is."""
        if self.find(name) is blob:
            return
        home = self
        while home._parent is not None:
            if home._forward is not None and name in home._forward:
                name = home._forward[name]
            elif name not in home.exported and home._torn_home(name) is None:
                # If the parent has lost one of that name, that is what is written.
                break
            home = home._parent
        if home._journal is None:
            kept = home._blobs.setdefault(name, blob)
        else:
            kept = home._keep_on_record(name, blob, home._journal)
        if home._torn and home._parent is None:
            home._torn.pop(name, None)
        if home._parent is not None and home._forward is None:
            outer = home._parent.find(name)
            if outer is not None:
                # Another thread made that meanwhile; who found it from here finds this one instead.
                outer.tell_changed()
        if kept is not blob:
            # Another thread made it meanwhile; the later value counts.
            kept.store(blob.value)
            blob.close()

    def _keep_on_record(self, name: str, blob: Blob, journal: Journal) -> Blob:
        """Make a blob visible that the journal knows of before anybody finds it."""
        with journal.lock:
            kept = self._blobs.get(name)
            if kept is not None:
                return kept
            try:
                blob.attach(journal.entry(name))
            except BaseException:
                blob.close()
                raise
            self._blobs[name] = blob
        return blob

    def keep_journal(self, journal: Journal) -> None:
        """Have a journal know of all blobs of this workspace itself. Only while there are none."""
        assert not self._blobs
        assert self._parent is None
        self._journal = journal

    def forget_journal(self) -> None:
        """Write nothing into the journal any more, as in a copy of the process."""
        self._journal = None
        for blob in self._blobs.values():
            blob.entry = None

    @property
    def worlds(self) -> Worlds:
        """The common worlds of the workspace that has no parent."""
        if self._parent is not None:
            return self._parent.worlds
        if self._worlds is None:
            self._worlds = Worlds()
        return self._worlds

    @property
    def has_worlds(self) -> bool:
        """Whether there ever was a run with common worlds."""
        return self._worlds is not None if self._parent is None else self._parent.has_worlds

    @property
    def torn(self) -> Mapping[str, Torn]:
        """The blobs of the workspace that has no parent whose values are lost, and why."""
        return MappingProxyType(self._torn)

    def tear(self, name: str, torn: Torn) -> None:
        """The value of a blob is lost; there need not be one. Not for a child."""
        assert self._parent is None
        if self._journal is not None:
            self._journal.entry(name).torn(torn)
        blob = self._blobs.pop(name, None)
        if blob is not None:
            # The entry has been told.
            blob.entry = None
            blob.close()
        self._torn[name] = torn

    def _torn_home(self, name: str) -> tuple[Workspace, str] | None:
        """The workspace without a parent, and the blob's name there, if it is torn there."""
        if not self._torn:
            return None
        workspace = self
        while workspace._parent is not None:
            if workspace._forward is not None:
                if name not in workspace._forward:
                    return None
                name = workspace._forward[name]
            workspace = workspace._parent
        return (workspace, name) if name in self._torn else None

    def own_names(self) -> KeysView[str]:
        """The names of the blobs of this workspace itself, as they are when looked at."""
        return self._blobs.keys()

    def names(self) -> list[str]:
        found = set(self._blobs)
        if self._parent is not None:
            outside = set(self._parent.names())
            if self._forward is not None:
                outside = {name for name, outer in self._forward.items() if outer in outside}
            found |= outside
        return sorted(found)

    def has_blob(self, name: Any) -> bool:
        return self.find(name_of(name)) is not None

    def fetch_blob(self, name: Any) -> Any:
        blob = self.find(name_of(name))
        if blob is None:
            raise self.not_found(name_of(name))
        value = blob.value
        if not is_tensor(value):
            copied = _copied(value)
            return snapshot.of_copy(copied) if isinstance(copied, np.ndarray) else copied
        if blob.buffer is None or not hasattr(blob.buffer, "snapshot"):
            return snapshot.of_copy(value)
        taken = blob.buffer.snapshot(value.shape, value.dtype)
        blob.tell_leased()
        return taken

    def feed_blob(self, name: Any, value: Any) -> None:
        value = _copied(as_value(value, name_of(name)))
        blob = self.make(name_of(name))
        blob.store(value)
        self.keep(name_of(name), blob)

    def _draft(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Unfinished:
        return self._pool.draft(shape, dtype)

    def _adopt(
        self, name: str, draft: Unfinished, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        blob = self.make(name)
        blob.take(draft.buffer, shape, dtype)
        self.keep(name, blob)

    def remove_blob(self, name: Any) -> None:
        workspace: Workspace | None = self
        inner = name_of(name)
        while workspace is not None:
            blob = workspace._blobs.pop(inner, None)
            if blob is not None:
                blob.close()
                return
            if workspace._forward is not None:
                if inner not in workspace._forward:
                    break
                inner = workspace._forward[inner]
            workspace = workspace._parent
        torn = self._torn_home(name_of(name))
        if torn is None:
            raise self.not_found(name_of(name))
        home, inner = torn
        home._torn.pop(inner, None)
        if home._journal is not None:
            home._journal.entry(inner).remove()

    def not_found(self, name: str) -> BlobNotFoundError | TornBlobError:
        home = self._torn_home(name)
        torn = None if home is None else home[0]._torn.get(home[1])
        return not_found(name, self.place, self.names(), node=self.node, torn=torn)

    def close(self) -> None:
        """Give all blobs' memory back. What was fetched stays good."""
        blobs, self._blobs = self._blobs, {}
        for blob in blobs.values():
            blob.close()

    def __repr__(self) -> str:
        return f"Workspace(node={self.node!r}, blobs={self.names()})"


_NONE: Mapping[str, Any] = MappingProxyType({})


class Scope(Workspace):
    """A workspace that sees nothing of its parent but the blobs that are forwarded to it.

    They have names of their own in here. Reading and writing them reads and writes the parent's;
    one that the parent does not have is made there when it is written. Everything else that is
    written is the scope's own.
    """

    def __init__(self, parent: Workspace, forward: Mapping[str, str]) -> None:
        super().__init__(parent)
        # There may be thousands of scopes: what they have in common is not copied.
        self._forward: Mapping[str, str] = forward
        self._kept: Mapping[str, Blob] = _NONE

    def is_of(self, parent: Workspace, forward: Mapping[str, str]) -> bool:
        """Whether these blobs of that workspace are forwarded, by these names and no others."""
        return self._parent is parent and all(
            self._forward.get(name) == outer for name, outer in forward.items()
        )

    def begin(self) -> None:
        """See the parent's blobs again where `keep_copies` had put copies in their places."""
        for name in self._kept:
            self._blobs.pop(name, None)

    def keep_copies(self, names: Iterable[str]) -> None:
        """From here on see copies of these forwarded blobs, as they are at this moment."""
        assert self._parent is not None
        kept = self._kept = dict(self._kept)
        for name in names:
            blob = self._parent.find(self._forward[name])
            if blob is not None:
                copy_ = kept.setdefault(name, Blob(self._pool))
                copy_.store(_copied(blob.value))
                self._blobs[name] = copy_

    def forward(self, more: Mapping[str, str]) -> None:
        """See more of the parent's blobs, unless there is one of the name in here."""
        assert self._parent is not None
        for name, outer in more.items():
            known = self._forward.get(name)
            if name in self._blobs or known == outer:
                continue
            if known is not None:
                before = self._parent.find(known)
                if before is not None:
                    before.tell_changed()
            self._forward = {**self._forward, name: outer}

    def close(self) -> None:
        for name, blob in self._kept.items():
            if self._blobs.get(name) is not blob:
                blob.close()
        self._kept = _NONE
        super().close()
