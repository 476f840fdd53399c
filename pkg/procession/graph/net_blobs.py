"""What a net is besides its operators: a message, and which blobs it knows, needs and names."""

from __future__ import annotations

from typing import Any

import numpy as np

from procession.errors import BlobNotFoundError, GraphError, did_you_mean
from procession.graph import names
from procession.graph.blob import BlobReference, ScopedName
from procession.graph.operator import kept, signature_of
from procession.graph.proto import Argument, NetDef, OperatorDef

Blob = str | BlobReference


def _mark(value: Any) -> Any:
    """Something hashable that changes when the value does."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, NetDef):
        return _fingerprint(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(_mark, value))
    return value if isinstance(value, (str, bytes, int, float)) else id(value)


def _fingerprint(net: NetDef) -> int:
    return hash(
        tuple(
            (
                operator.type,
                tuple(operator.input),
                tuple(operator.output),
                tuple((argument.name, _mark(argument.value)) for argument in operator.arg),
                operator.device_option.random_seed,
            )
            for operator in net.op
        )
    )


class NetBlobs:
    """The message of a net, its blobs, and what is hung on it. `Net` adds operators to it.

    What it knows beyond the message (which blobs are written, which come from outside) is looked
    up anew once the message was handed out to be changed by hand.
    """

    def __init__(self, name_or_proto: str | NetDef) -> None:
        self._net = NetDef()
        if isinstance(name_or_proto, NetDef):
            self._net.CopyFrom(name_or_proto)
            name = name_or_proto.name
        elif isinstance(name_or_proto, str):
            name = name_or_proto
        else:
            raise TypeError(f"a net's name is a string, not {name_or_proto!r}")
        self._net.name = names.unique("net", "/".join(filter(None, (names.prefix(), name))))
        self._declared: set[str] = set()
        self._named: set[str] = set()
        self._blobs_named = 0
        self._last_index: dict[str, int] = {}
        self._attributes: dict[str, list[Any]] = {}
        self._input_record: Any = None
        self._output_record: Any = None
        self._changes = 0
        self._handed_out = False
        self._look_up()
        if self._net.op:
            self._blobs_named = self._first_free_number()

    def _look_up(self) -> None:
        """Note down what the message says."""
        self._stale = False
        self._written = {blob for operator in self._net.op for blob in operator.output}
        self._from_outside = dict.fromkeys(self._net.external_input)

    def _first_free_number(self) -> int:
        prefix = f"{self._net.name}_blob_"
        endings = [blob[len(prefix) :] for blob in self.UsedBlobNames() if blob.startswith(prefix)]
        return max((int(ending) + 1 for ending in endings if ending.isdecimal()), default=0)

    # What it is.

    def Name(self) -> str:
        """The net's name, unique in this process."""
        return str(self._net.name)

    def Proto(self) -> NetDef:
        """The net as a message. It is the net: what is changed in it is changed in the net."""
        self._stale = self._handed_out = True
        return self._net

    @property
    def message(self) -> NetDef:
        """What `Proto()` returns, to be looked at only."""
        return self._net

    @staticmethod
    def current_prefix() -> str:
        """What comes before the names of new nets: that of the `NetBuilder` one is in."""
        return names.prefix()

    def __str__(self) -> str:
        return self.Name()

    def __repr__(self) -> str:
        lines = [f"Net({self.Name()!r})"]
        lines += [f"    {signature_of(operator)}" for operator in self._net.op]
        return "\n".join(lines)

    @property
    def operators(self) -> tuple[OperatorDef, ...]:
        """The operators, in order. To change them, go through `Proto()`."""
        return tuple(self._net.op)

    @property
    def revision(self) -> int:
        """Differs after every change, so that what was compiled from the net can be told stale."""
        return _fingerprint(self._net) if self._handed_out else self._changes

    @property
    def external_inputs(self) -> list[BlobReference]:
        """Blobs that must be there before the net runs, in order of appearance."""
        return [BlobReference(blob, self) for blob in self._net.external_input]

    @property
    def external_outputs(self) -> list[BlobReference]:
        """What `AddExternalOutput` was called with."""
        return [BlobReference(blob, self) for blob in self._net.external_output]

    @property
    def declared_inputs(self) -> frozenset[str]:
        """External inputs named by `AddExternalInput`: said to come from the node's workspace."""
        return frozenset(self._declared)

    def is_external_input(self, blob: Blob) -> bool:
        """Whether the net needs that blob from outside."""
        if self._stale:
            self._look_up()
        return str(blob) in self._from_outside

    def BlobIsDefined(self, blob: Blob) -> bool:
        """Whether an operator of this net writes the blob, or it is an external input."""
        if self._stale:
            self._look_up()
        name = str(blob)
        return name in self._written or name in self._from_outside

    def UsesBlob(self, blob: Blob) -> bool:
        """Whether an operator of this net reads the blob, or it is an external input."""
        name = str(blob)
        return self.is_external_input(name) or any(name in op.input for op in self._net.op)

    def UsedBlobNames(self) -> set[str]:
        """The names of all blobs of this net."""
        found = set(self._net.external_input) | set(self._net.external_output)
        for operator in self._net.op:
            found.update(operator.input, operator.output)
        return found

    def GetBlobRef(self, blob_name: Blob) -> BlobReference:
        """A reference to a blob of this net.

        Raises:
            BlobNotFoundError: It has no such blob.
        """
        if not self.BlobIsDefined(blob_name):
            raise BlobNotFoundError(
                f"net {self.Name()!r} defines no blob {str(blob_name)!r}."
                f"{did_you_mean(str(blob_name), self.UsedBlobNames())}",
                blob=str(blob_name),
            )
        return BlobReference(str(blob_name), self)

    # Names for new blobs.

    def NextName(self, prefix: str | None = None, output_id: int | None = None) -> str:
        """A name for a blob that this net has not yet: `net/prefix`, then `net/prefix_2`, ...

        With `output_id` it ends in `:output_id`; without a prefix it is `net_blob_0`, ...
        """
        if prefix is None:
            self._blobs_named += 1
            return f"{self.Name()}_blob_{self._blobs_named - 1}"
        ending = "" if output_id is None else f":{output_id}"
        base = f"{self._net.name}/{prefix}"
        name = plain = base + ending
        # Numbers go on from scope to scope, as in Caffe2.
        while self.BlobIsDefined(ScopedName(name)):
            index = self._last_index.get(plain, 1) + 1
            self._last_index[plain] = index
            name = f"{base}_{index}{ending}"
        return name

    def NextBlob(self, prefix: str = "unnamed") -> BlobReference:
        """A reference to a blob this net has not yet: `prefix`, then `prefix_auto_0`, ..."""
        prefix = str(prefix)
        name, index = prefix, 0
        while self.BlobIsDefined(name) or name in self._named:
            name = f"{prefix}_auto_{index}"
            index += 1
        # Taken by being named: two calls in a row give two blobs.
        self._named.add(name)
        return BlobReference(name, self)

    def NextScopedBlob(self, prefix: str = "unnamed") -> BlobReference:
        """`NextBlob` in the scope in force."""
        return self.NextBlob(ScopedName(prefix))

    # Inputs, outputs, attributes.

    def AddExternalInput(self, *inputs: Blob) -> Any:
        """Say that these blobs come from the workspace; returns a reference, or a list of them.

        Naming a blob here also says that the *node's own* blob is meant: a session leaves it
        to the run to find out whether it is there. Caffe2: the same name.

        Raises:
            GraphError: No blob is given, or one that is an external input already.
        """
        if not inputs:
            raise GraphError(f"net {self.Name()!r}: AddExternalInput takes at least one blob")
        given = [str(blob) for blob in inputs]
        for index, blob in enumerate(given):
            if self.is_external_input(blob) or blob in given[:index]:
                raise GraphError(f"net {self.Name()!r} already has an input {blob!r}")
        for blob in given:
            self._net.external_input.append(blob)
            self._from_outside[blob] = None
            self._declared.add(blob)
        self._changes += 1
        references = [BlobReference(blob, self) for blob in given]
        return references[0] if len(references) == 1 else references

    def AddExternalInputs(self, *inputs: Blob) -> Any:
        """`AddExternalInput`. Caffe2: the same."""
        return self.AddExternalInput(*inputs)

    def AddScopedExternalInputs(self, *inputs: Blob) -> list[BlobReference]:
        """`AddExternalInput` of names in the scope in force; returns a list."""
        made = self.AddExternalInput(*(ScopedName(str(blob)) for blob in inputs))
        return made if isinstance(made, list) else [made]

    def AddExternalOutput(self, *outputs: Blob) -> None:
        """Say that these blobs are what the net is for; `external_outputs` lists them.

        Raises:
            BlobNotFoundError: The net has no such blob.
        """
        for blob in outputs:
            self.GetBlobRef(blob)
        self._net.external_output.extend([str(blob) for blob in outputs])

    def AddExternalOutputs(self, *outputs: Blob) -> None:
        """`AddExternalOutput`. Caffe2: the same."""
        self.AddExternalOutput(*outputs)

    def AddScopedExternalOutputs(self, *outputs: Blob) -> None:
        """`AddExternalOutput` of names in the scope in force."""
        self.AddExternalOutput(*(ScopedName(str(blob)) for blob in outputs))

    def AddArgument(self, arg_name: str, arg_value: Any) -> None:
        """Hang an argument on the net's message. Caffe2: the same."""
        self._net.arg.append(Argument.of(arg_name, kept(arg_value)))

    def add_attribute(self, name: str, obj: Any) -> None:
        """Hang something of the user's on the net; `get_attributes` returns all under a name."""
        self._attributes.setdefault(name, []).append(obj)

    def get_attributes(self, name: str) -> list[Any]:
        """What `add_attribute` was given under that name, in order."""
        return list(self._attributes.get(name, ()))
