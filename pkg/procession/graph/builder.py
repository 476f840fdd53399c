"""NetBuilder: nets and steps, built in the order in which they run.

A builder collects children: nets, other builders, task groups. `ops` (see `graph/ops.py`) adds
operators to the current net of the innermost builder, and further builders as its children:
loops, conditions and the like, which are in `graph/blocks.py`. When a builder's `with` block
ends, what it has is final, and `core.to_execution_step` makes a step of it.

There are two kinds of builders. Those of the first kind become steps, which stop by a blob:
`stop_blob`. Those of the second become one net with control operators (If, While, Do); they have
to know which blobs exist around them, which is the lexical scope.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

from procession.errors import GraphError, NoBuilderError, RunnableTypeError
from procession.graph import names
from procession.graph.blob import BlobReference
from procession.graph.net import Net
from procession.graph.scope import Managed
from procession.graph.step import ExecutionStep, MakesStep, execution_step

Builder = TypeVar("Builder", bound="NetBuilder")


class NetBuilder(Managed):
    """Collects what `ops` adds inside its `with` block. Caffe2: net_builder.NetBuilder.

        with NetBuilder() as builder:
            count = ops.Const(5)
            with ops.loop():
                ops.stop_if(ops.LE([count, ops.Const(0)]))
                ops.Add([count, ops.Const(-1)], [count])
        session.run(core.to_execution_step(builder))

    Nets that are made inside are called after it: `name/net`.

    Args:
        name: What it is called, after the builder around, if any: `around/name`.
        initial_scope: Blobs that are there before anything is built, for control operators.
        _stop_blob_required: Refuse to end before `stop` or `stop_if` was called.
        _stop_blob: The blob to stop by; left out, one is made when it is needed.
        _fullname: What it is called, whatever is around.
        _use_control_ops: Become a net with control operators, not a step.

    Raises:
        GraphError: Options that exclude each other.
    """

    net_type: type[Net] = Net
    """What the nets that it makes are. A builder within another makes what that one does."""
    written: ClassVar[str] = ""
    """How a user writes one, for messages; empty for builders that a user names."""

    def __init__(
        self,
        name: str | None = None,
        initial_scope: Iterable[Any] | None = None,
        _stop_blob_required: bool = False,
        _stop_blob: BlobReference | None = None,
        _fullname: str | None = None,
        _use_control_ops: bool = False,
    ) -> None:
        parent = NetBuilder.current(required=False)
        if _fullname and name:
            raise GraphError(f"give name ({name!r}) or _fullname ({_fullname!r}), not both")
        if _use_control_ops and (_stop_blob_required or _stop_blob is not None):
            raise GraphError("a builder of control operators does not stop by a blob")
        around = ""
        if parent is not None:
            around = parent.name
            self.net_type = parent.net_type
        self.name: str = _fullname or "/".join(filter(None, (around, name)))
        self._children: list[Any] = []
        self._current_net: Net | None = None
        self._frozen = False
        self._stop_blob = _stop_blob
        self._stop_blob_required = _stop_blob_required
        self._use_control_ops = _use_control_ops
        self._parent = parent
        self._given_scope = {str(blob) for blob in initial_scope or ()}
        # What is around is collected for those only who ask, because that takes time.
        self._known_scope = self._scope_around() if _use_control_ops else None
        self._seen: dict[int, int] = {}
        self._found: set[str] = set()
        self._prefix: AbstractContextManager[None] | None = None

    @classmethod
    def new_net(cls, name: str) -> Net:
        """A net of the type that the builder one is in makes."""
        return (cls.current(required=False) or cls).net_type(name)

    @classmethod
    def _outside(cls: type[Builder]) -> Builder:
        raise NoBuilderError(
            "there is no NetBuilder here to build in: use `ops` inside `with NetBuilder():` or "
            "`with Task():`"
        )

    def __str__(self) -> str:
        return self.name or "Un-named NetBuilder"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def called(self) -> str:
        """What a message calls it: `ops.loop 'task/epochs'`, or `the ops.loop in task`."""
        if not self.written:
            return str(self)
        # One without a name of its own is called as what is around it.
        own = self._parent is None or self._parent.name != self.name
        return f"{self.written} {self.name!r}" if own else f"the {self.written} in {self}"

    # What it has.

    def _scope_around(self) -> set[str]:
        around = set() if self._parent is None else self._parent._lexical_scope
        return around | self._given_scope

    @property
    def _initial_scope(self) -> set[str]:
        """The names of the blobs that are there before the block."""
        return self._scope_around() if self._known_scope is None else self._known_scope

    @property
    def _lexical_scope(self) -> set[str]:
        """The names of the blobs that nets of this builder, and what is around it, have."""
        for child in self._children:
            if isinstance(child, Net) and self._seen.get(id(child)) != child.revision:
                self._seen[id(child)] = child.revision
                self._found |= child.UsedBlobNames()
        return self._initial_scope | self._found

    def _check_mutable(self) -> None:
        if self._frozen:
            raise GraphError(
                f"{self} has been built: nothing can be added to it after its `with` block, or "
                f"after a step was made of it"
            )

    def add(self, child: Any) -> Any:
        """Run a net, step, builder or task group as the next thing; returns it.

        Raises:
            GraphError: It has been built; or it is one of control operators, and the child is not.
            RunnableTypeError: That cannot be run here.
        """
        self._check_mutable()
        if not isinstance(child, (Net, ExecutionStep, MakesStep)):
            raise RunnableTypeError(
                f"{self} is built of nets, steps, builders and task groups, not {child!r}"
            )
        fits = isinstance(child, Net) or getattr(child, "_use_control_ops", False)
        if self._use_control_ops and not fits:
            raise GraphError(
                f"{self} becomes a net: inside it are operators, IfNet and WhileNet, but no "
                f"{type(child).__name__} ({child}), which becomes a step"
            )
        self._children.append(child)
        self._current_net = child if isinstance(child, Net) else None
        return child

    def current_net(self, name: str | None = None) -> Net:
        """The net that operators are added to; a new one behind the others if there is none.

        Args:
            name: Make a new one in any case, and call it so.
        """
        self._check_mutable()
        if self._current_net is None or name is not None:
            self.add(self.net_type(name or ""))
        assert self._current_net is not None
        return self._current_net

    def freeze(self) -> None:
        """Let nobody add to it, or to what it has, any more."""
        for child in self._children:
            if hasattr(type(child), "freeze"):
                child.freeze()
        self._current_net = None
        self._frozen = True

    def get(self) -> list[Any]:
        """Its children, which are final from then on."""
        self.freeze()
        return self._children

    def as_step(self, default_name: str | None = None) -> ExecutionStep:
        """A step that runs its children, until the stop blob is true if there is one."""
        name = default_name or self.name or None
        return execution_step(name, self.get(), should_stop_blob=self._stop_blob)

    # Stopping.

    def stop_blob(self) -> BlobReference:
        """The blob that the builder's step stops by, made when it is first asked for.

        It is read after each of the builder's nets and substeps. What it is before the first
        of them is not asked, so the current net, which sets it to False, may be that.

        Raises:
            GraphError: It is a builder of control operators, or has been built.
        """
        if self._use_control_ops:
            raise GraphError(
                f"{self} becomes a net, which stops nowhere: use the condition of IfNet or WhileNet"
            )
        if self._stop_blob is None:
            net = self.current_net()
            blob = BlobReference(net.NextName("stop_blob"), net)
            net.Const(False, blob_out=blob)
            self._stop_blob = blob
            if net is not self._children[0]:
                # It will be read before that net runs.
                first = self.net_type("stop_blob_init")
                first.Const(False, blob_out=blob)
                self._children.insert(0, first)
        return self._stop_blob

    def stop_if(self, blob: Any) -> None:
        """End the builder's step here if the blob, one truth value, is true."""
        stop = self.stop_blob()
        self.current_net().Or([stop, blob], [stop])
        # The stop blob is read between nets.
        self._current_net = None

    # Its `with` block.

    def __enter__(self: Builder) -> Builder:
        self._check_mutable()
        super().__enter__()
        self._prefix = names.within(self.name)
        self._prefix.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._prefix is not None
        failed = exception[:1] != (None,)
        try:
            if not failed:
                self._finish()
                if self._use_control_ops:
                    merged = self._merged()
                    self._children = [] if merged is None else [merged]
        finally:
            self._prefix.__exit__(*exception)
            super().__exit__(*exception)
            self.freeze()
        if not failed and self._stop_blob_required and self._stop_blob is None:
            raise GraphError(
                f"{self.called} never stops: call ops.stop_if(blob) or ops.stop() inside it"
            )

    def _finish(self) -> None:
        """What a kind of builder does at the end of its block, before that is left."""

    # Nets with control operators.

    def _merged(self) -> Net | None:
        """All that was built so far as one net, which is taken out; None if that is nothing."""
        children, self._children = self._children, []
        self._current_net = None
        self._seen, self._found = {}, set()
        return self.merge_nets(children, self._initial_scope)

    @staticmethod
    def merge_nets(nets_or_builders: Iterable[Any], outer_blob_names: Iterable[str]) -> Net | None:
        """The first net with all others appended to it; None if there are none.

        Args:
            nets_or_builders: Nets, and builders of control operators.
            outer_blob_names: Blobs that are there outside. Only those stay external outputs:
                one of a net inside may be made, and end, in this one.

        Raises:
            GraphError: A builder is not of control operators.
        """
        merged: Net | None = None
        for child in nets_or_builders:
            nets = [child]
            if isinstance(child, NetBuilder):
                if not child._use_control_ops:
                    raise GraphError(f"{child} becomes a step; it cannot be merged into a net")
                nets = child.get()
            for net in nets:
                merged = net if merged is None else merged.AppendNet(net)
        if merged is not None:
            outer = set(outer_blob_names)
            outputs = merged.Proto().external_output
            outputs[:] = [blob for blob in outputs if blob in outer]
        return merged
