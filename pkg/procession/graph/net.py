"""Net: operators, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from procession.errors import (
    BlobNotFoundError,
    GraphError,
    OperatorSignatureError,
    did_you_mean,
)
from procession.graph import names
from procession.graph.blob import BlobReference, ScopedBlobReference, ScopedName
from procession.graph.gradient import gradient_operators
from procession.graph.operator import Operator, check_operator
from procession.graph.source import user_line
from procession.operators import REGISTRY
from procession.operators.datatype import numpy_dtype

Blob = str | BlobReference
# Inside the class, `Net` is also a method.
NetLike: TypeAlias = "Net"


def _kept(value: Any) -> Any:
    """An argument's value, safe from what the caller does to it later."""
    if isinstance(value, (list, dict, set, np.ndarray)):
        return value.copy()
    return value


class Net:
    """A list of operators that run one after the other, each reading and writing named blobs.

    Operators are methods, made from the registry: `net.FC([x, w, b])`, `net.Relu(h, h)`.
    Their first parameter are the inputs (a blob or a list of them; a string is a name in the scope
    in force), the second the outputs: names, or a number of them, or nothing for names made from
    net and operator. They return a `BlobReference`, or a tuple of several, or None.

    A blob that is read before any operator of this net wrote it is an external input: it must
    be in the workspace when the net runs.

    Args:
        name: What it is called; the second net of that name is called `name_1`.

    Caffe2: core.Net.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a net's name is a string, not {name!r}")
        self._name = names.unique("net", name)
        self._operators: list[Operator] = []
        self._external_inputs: dict[str, BlobReference] = {}
        self._external_outputs: dict[str, BlobReference] = {}
        self._declared: set[str] = set()
        self._written: set[str] = set()
        self._reserved: set[str] = set()
        self._blobs_named = 0
        self._last_index: dict[str, int] = {}
        self._attributes: dict[str, list[Any]] = {}
        self._seed: tuple[int, bool] | None = None
        self._revision = 0

    # What it is.

    def Name(self) -> str:
        """The net's name, unique in this process."""
        return self._name

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        lines = [f"Net({self._name!r})"]
        lines += [f"    {operator}" for operator in self._operators]
        return "\n".join(lines)

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators, in order."""
        return tuple(self._operators)

    @property
    def revision(self) -> int:
        """Grows with every change, so that what was compiled from the net can be told stale."""
        return self._revision

    @property
    def external_inputs(self) -> list[BlobReference]:
        """Blobs that must be there before the net runs, in order of appearance."""
        return list(self._external_inputs.values())

    @property
    def external_outputs(self) -> list[BlobReference]:
        """What `AddExternalOutput` was called with."""
        return list(self._external_outputs.values())

    @property
    def declared_inputs(self) -> frozenset[str]:
        """External inputs named by `AddExternalInput`: said to come from the node's workspace."""
        return frozenset(self._declared)

    @property
    def seed(self) -> tuple[int, bool] | None:
        """(seed, whether it counts up from operator to operator), None when not seeded."""
        return self._seed

    def is_external_input(self, blob: Blob) -> bool:
        """Whether the net needs that blob from outside."""
        return str(blob) in self._external_inputs

    def BlobIsDefined(self, blob: Blob) -> bool:
        """Whether an operator of this net writes the blob, or it is an external input."""
        return str(blob) in self._written or str(blob) in self._external_inputs

    def UsesBlob(self, blob: Blob) -> bool:
        """Whether the blob occurs in this net at all."""
        return self.BlobIsDefined(blob)

    def UsedBlobNames(self) -> set[str]:
        """The names of all blobs of this net."""
        return self._written | set(self._external_inputs)

    def GetBlobRef(self, blob_name: Blob) -> BlobReference:
        """A reference to a blob of this net.

        Raises:
            BlobNotFoundError: It has no such blob.
        """
        if not self.BlobIsDefined(blob_name):
            raise BlobNotFoundError(
                f"net {self._name!r} defines no blob {str(blob_name)!r}."
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
            return f"{self._name}_blob_{self._blobs_named - 1}"
        ending = "" if output_id is None else f":{output_id}"
        base = f"{self._name}/{prefix}"
        name = plain = base + ending
        # Numbers go on from scope to scope, as in Caffe2.
        while self.BlobIsDefined(ScopedName(name)):
            index = self._last_index.get(plain, 1) + 1
            self._last_index[plain] = index
            name = f"{base}_{index}{ending}"
        return name

    def NextBlob(self, prefix: str = "unnamed") -> BlobReference:
        """A reference to a blob this net has not yet: `prefix`, then `prefix_auto_0`, ..."""
        name, index = prefix, 0
        while self.BlobIsDefined(name) or name in self._reserved:
            name = f"{prefix}_auto_{index}"
            index += 1
        # Taken by being named: two calls in a row give two blobs.
        self._reserved.add(name)
        return BlobReference(name, self)

    def NextScopedBlob(self, prefix: str = "unnamed") -> BlobReference:
        """`NextBlob` in the scope in force."""
        return self.NextBlob(ScopedName(prefix))

    # Adding operators.

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        if operator.startswith("_"):
            raise AttributeError(f"a Net has no {operator!r}")
        definition = REGISTRY[operator]

        def add(inputs: Any = (), outputs: Any = None, **arguments: Any) -> Any:
            return self._add(operator, inputs, outputs, arguments)

        add.__name__ = add.__qualname__ = operator
        add.__doc__ = definition.documentation
        return add

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *REGISTRY]

    def _add(self, type: str, inputs: Any, outputs: Any, arguments: dict[str, Any]) -> Any:
        definition = REGISTRY[type]
        name = arguments.pop("name", "")
        given = [str(blob) for blob in self._references(inputs, type)]
        if outputs is None:
            # One output is called after the operator alone, several by their number as well.
            outputs = None if definition.min_outputs == 1 else definition.min_outputs
        if outputs is None:
            references = [ScopedBlobReference(self.NextName(type), self)]
        elif isinstance(outputs, int) and not isinstance(outputs, bool):
            references = [
                ScopedBlobReference(self.NextName(type, output_id=index), self)
                for index in range(outputs)
            ]
        else:
            references = self._references(outputs, type)
        self._append(
            Operator(
                type,
                tuple(given),
                tuple(str(blob) for blob in references),
                {argument: _kept(value) for argument, value in arguments.items()},
                name,
                user_line(),
            )
        )
        if not references:
            return None
        return references[0] if len(references) == 1 else tuple(references)

    def _references(self, blobs: Any, operator: str) -> list[BlobReference]:
        """What a caller may give as inputs or outputs, as references."""
        listed: Iterable[Any] = blobs if isinstance(blobs, (list, tuple)) else [blobs]
        references = []
        for blob in listed:
            if isinstance(blob, str):
                references.append(ScopedBlobReference(blob, self))
            elif isinstance(blob, BlobReference):
                references.append(BlobReference(blob, self))
            else:
                hint = ""
                if isinstance(blob, (int, float, np.ndarray, np.generic)):
                    hint = " (for a constant, use net.Const(value))"
                raise OperatorSignatureError(
                    f"net.{operator}: a blob is a BlobReference or a name, not {blob!r} of type "
                    f"{blob.__class__.__name__}{hint}",
                    operator=operator,
                )
        return references

    def _append(self, operator: Operator) -> None:
        check_operator(operator)
        for blob in operator.inputs:
            if not self.BlobIsDefined(blob):
                self._external_inputs[blob] = BlobReference(blob, self)
        self._written.update(operator.outputs)
        self._operators.append(operator)
        self._revision += 1

    def Const(self, array: Any, blob_out: Blob | None = None, dtype: Any = None) -> BlobReference:
        """Add a blob with a value given here. Caffe2: the same.

        Args:
            array: A number, string, array, or nested lists. Integers become int64 (int32 stays),
                truth values bool, text strings, all other numbers float32.
            blob_out: The blob to write; left out, it is named after the operator.
            dtype: Convert to this dtype first.
        """
        value = np.asarray(array, dtype=None if dtype is None else numpy_dtype(dtype))
        kinds = {
            np.dtype(np.bool_): "GivenTensorBoolFill",
            np.dtype(np.int32): "GivenTensorIntFill",
        }
        if value.dtype.kind in "OUS":
            # As they are: NumPy's own text would cut zeros off, and make text of numbers.
            value = np.asarray(array, dtype=object)
            strange = [item for item in value.ravel() if not isinstance(item, (str, bytes))]
            if strange:
                raise TypeError(
                    f"Const takes numbers of at most 64 bits, or text, but not both: {array!r}"
                )
            operator = "GivenTensorStringFill"
        elif value.dtype == np.float64 and dtype is not None:
            operator = "GivenTensorDoubleFill"
        else:
            rest = "GivenTensorInt64Fill" if value.dtype.kind in "iu" else "GivenTensorFill"
            operator = kinds.get(value.dtype, rest)
        if value.dtype.kind == "c":
            raise TypeError("Const: complex values are not supported")
        reference: BlobReference = self._add(
            operator,
            [],
            1 if blob_out is None else [blob_out],
            {"shape": list(value.shape), "values": value.flatten()},
        )
        return reference

    def Python(
        self,
        f: Any,
        grad_f: Any = None,
        python_func_type: Any = None,
        pass_workspace: bool = False,
        grad_output_indices: Sequence[int] | None = None,
        grad_input_indices: Sequence[int] | None = None,
    ) -> Callable[..., Any]:
        """An operator that calls a Python function: `net.Python(f)([x], [y])`. Caffe2: the same.

        The function travels to the worker by value (cloudpickle) if it was defined in the
        script itself. It is called as `f(inputs, outputs)`; the documentation of the operator
        says what those are.

        Args:
            f: The function, or (builder, args, kwargs): the builder is then called where
                the net runs, once, and returns the function.
            grad_f: Its gradient; None: it has none.
            python_func_type: A class to be made of `f`, whose `forward` and `backward` are called.
            pass_workspace: Call `f(inputs, outputs, workspace)`.
            grad_output_indices: Which outputs' gradients `grad_f` wants, default all.
            grad_input_indices: Which inputs have gradients, default all.
        """
        function = f[0] if isinstance(f, (tuple, list)) and f else f
        if python_func_type is None and not callable(function):
            raise OperatorSignatureError(
                f"net.Python takes a function, or (builder, args, kwargs), not {f!r}; what it "
                f"returns is called with inputs and outputs: net.Python(f)([x], [y])",
                operator="Python",
            )
        if python_func_type is not None:
            instance = python_func_type(f)
            f, grad_f = instance.forward, instance.backward

        def add(inputs: Any = (), outputs: Any = None, **arguments: Any) -> Any:
            if outputs is None:
                outputs = [ScopedBlobReference(self.NextName("Python"), self)]
            if isinstance(outputs, int) and not isinstance(outputs, bool):
                count = outputs
            else:
                count = len(outputs) if isinstance(outputs, (list, tuple)) else 1
            arguments |= {
                "func": f,
                "grad_func": grad_f,
                "pass_workspace": pass_workspace,
                "grad_output_indices": grad_output_indices,
                "grad_input_indices": grad_input_indices,
                "n_outputs": count,
            }
            return self._add("Python", inputs, outputs, arguments)

        return add

    def AppendNet(self, net: NetLike) -> NetLike:
        """Add the operators of another net behind those of this one. Caffe2: the same."""
        for blob in net._external_inputs:
            if not self.BlobIsDefined(blob):
                self._external_inputs[blob] = BlobReference(blob, self)
            if blob in net._declared and blob in self._external_inputs:
                self._declared.add(blob)
        self._revision += 1
        for operator in tuple(net._operators):
            self._append(operator)
        self.AddExternalOutput(*net._external_outputs)
        return self

    # Gradients.

    def AddGradientOperators(
        self, ys: Sequence[Blob] | Mapping[Any, Any], skip: int = 0
    ) -> dict[BlobReference, BlobReference]:
        """Append the operators that compute gradients. Caffe2: the same.

        Args:
            ys: The blobs to differentiate, each starting with a gradient of ones; or a mapping of
                blob to the blob that holds its gradient.
            skip: How many operators at the beginning to leave alone.

        Returns:
            Blob -> the blob with its gradient, for every blob on the way.

        Raises:
            GradientError: See `procession.graph.gradient`.
            BlobNotFoundError: The net has no such blob to differentiate.
        """
        if isinstance(ys, Mapping):
            starts = {str(y): None if g is None else str(g) for y, g in ys.items()}
        elif isinstance(ys, (list, tuple)):
            starts = {str(y): None for y in ys}
        else:
            raise TypeError(f"AddGradientOperators takes a list or a dict of blobs, not {ys!r}")
        for y in starts:
            self.GetBlobRef(y)
        added, gradients = gradient_operators(self._operators, starts, skip, user_line())
        for operator in added:
            self._append(operator)
        return {
            BlobReference(blob, self): BlobReference(gradient, self)
            for blob, gradient in gradients.items()
        }

    # Inputs, outputs, attributes, seeds.

    def AddExternalInput(self, *inputs: Blob) -> Any:
        """Say that these blobs come from the workspace; returns references to them.

        Naming a blob here also says that the *node's own* blob is meant: a session leaves it
        to the run to find out whether it is there. Caffe2: the same name.
        """
        references = tuple(BlobReference(str(blob), self) for blob in inputs)
        for reference in references:
            if str(reference) in self._external_inputs:
                raise GraphError(f"net {self._name!r} already has an input {str(reference)!r}")
            self._external_inputs[str(reference)] = reference
            self._declared.add(str(reference))
        self._revision += 1
        return references[0] if len(references) == 1 else references

    def AddScopedExternalInputs(self, *inputs: Blob) -> list[BlobReference]:
        """`AddExternalInput` of names in the scope in force."""
        references = [ScopedBlobReference(str(blob), self) for blob in inputs]
        for reference in references:
            self.AddExternalInput(reference)
        return references

    def AddExternalOutput(self, *outputs: Blob) -> None:
        """Say that these blobs are what the net is for; `external_outputs` lists them."""
        for blob in outputs:
            self._external_outputs[str(blob)] = self.GetBlobRef(blob)

    def add_attribute(self, name: str, obj: Any) -> None:
        """Hang something of the user's on the net; `get_attributes` returns all under a name."""
        self._attributes.setdefault(name, []).append(obj)

    def get_attributes(self, name: str) -> list[Any]:
        """What `add_attribute` was given under that name, in order."""
        return list(self._attributes.get(name, ()))

    def set_rand_seed(self, seed: int = 100, sequence_seed: bool = True) -> None:
        """Make the net's random operators give the same numbers each time it is compiled and run.

        Args:
            seed: The first operator's seed.
            sequence_seed: Give each operator one more than the one before; otherwise all the same.

        Caffe2: the same name. Run again, a compiled net goes on with the numbers it began.
        """
        self._seed = (int(seed), bool(sequence_seed))
        self._revision += 1

    # New nets from this one.

    def Net(self, name: str) -> NetLike:
        """A new, empty net."""
        return Net(name)

    def Clone(
        self,
        name: str | None = None,
        blob_remap: Mapping[Any, Any] | None = None,
        op_id_mask: Iterable[int] | None = None,
    ) -> NetLike:
        """A copy that can be changed on its own. Caffe2: the same; there the name is required.

        Args:
            name: The copy's name; left out, this net's, made unique.
            blob_remap: Blob -> what it is called in the copy.
            op_id_mask: Which operators to copy, by number; default all.
        """
        remap = {str(old): str(new) for old, new in (blob_remap or {}).items()}
        copy = Net(self._name if name is None else name)
        chosen = range(len(self._operators)) if op_id_mask is None else op_id_mask
        if op_id_mask is None:
            for blob in self._external_inputs:
                renamed = remap.get(blob, blob)
                copy._external_inputs.setdefault(renamed, BlobReference(renamed, copy))
                if blob in self._declared:
                    copy._declared.add(renamed)
        for index in chosen:
            operator = self._operators[index]
            copy._append(
                Operator(
                    operator.type,
                    tuple(remap.get(blob, blob) for blob in operator.inputs),
                    tuple(remap.get(blob, blob) for blob in operator.outputs),
                    operator.arguments,
                    operator.name,
                    operator.source,
                )
            )
        for blob in self._external_outputs:
            renamed = remap.get(blob, blob)
            if copy.BlobIsDefined(renamed):
                copy.AddExternalOutput(renamed)
        copy._attributes = {key: list(values) for key, values in self._attributes.items()}
        copy._seed = self._seed
        return copy

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
