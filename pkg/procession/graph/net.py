"""Net: operators, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from procession.errors import (
    GraphError,
)
from procession.graph import cloning, names, schema
from procession.graph.blob import BlobReference, ScopedBlobReference, ScopedName
from procession.graph.device import check_device
from procession.graph.gradient import IR, GradientSlice
from procession.graph.message import Repeated
from procession.graph.net_blobs import Blob, NetBlobs
from procession.graph.operator import (
    DESCRIPTIONS,
    blob_names,
    check_operator,
    describe_operator,
    kept,
    make_operator,
    python_arguments,
    signature_of,
)
from procession.graph.proto import DeviceOption, OperatorDef
from procession.graph.scope import NameScope
from procession.graph.source import user_line
from procession.operators import REGISTRY
from procession.operators.datatype import DataType, numpy_dtype

# Inside the class, `Net` is also a method.
NetLike: TypeAlias = "Net"
Self = TypeVar("Self", bound="Net")


@dataclass(frozen=True)
class _Seed:
    """What `set_rand_seed` asked for."""

    first: int
    kind: str

    def __call__(self, index: int, operator: OperatorDef) -> int:
        """The seed of an operator."""
        if self.kind == "sequence":
            return self.first + index
        if self.kind == "definition":
            # Not `hash`, which differs from process to process.
            return names.number_of(f"{signature_of(operator)} {self.first}")
        return self.first


class Net(NetBlobs):
    """A list of operators that run one after the other, each reading and writing named blobs.

    Operators are methods, made from the registry: `net.FC([x, w, b])`, `net.Relu(h, h)`.
    Their first parameter are the inputs (a blob or a list of them; a string is a name in the scope
    in force), the second the outputs: names, or a number of them, or nothing for names made from
    net and operator. They return a `BlobReference`, or a tuple of several, or None.

    A blob that is read before any operator of this net wrote it is an external input: it must
    be in the workspace when the net runs.

    Args:
        name_or_proto: What it is called; the second net of that name is called `name_1`. Or
            a `NetDef`, of which the net gets a copy.

    Caffe2: core.Net.
    """

    strict: ClassVar[bool] = True
    """Whether an operator is held against its registration when it is added, and arguments that it
    does not have are refused. Otherwise what Caffe2 would refuse is refused before the run."""

    # Adding operators.

    _seed: _Seed | None = None

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
        read = blob_names(inputs, type)
        if outputs is None:
            # One output is called after the operator alone, several by their number as well.
            fewest = REGISTRY[type].min_outputs
            outputs = fewest if fewest != 1 else None
        if outputs is None:
            written = [ScopedName(self.NextName(type))]
        elif isinstance(outputs, int) and not isinstance(outputs, bool):
            written = [ScopedName(self.NextName(type, index)) for index in range(outputs)]
        else:
            written = blob_names(outputs, type)
        descriptions = {}
        if not DESCRIPTIONS.isdisjoint(arguments):
            descriptions = {key: arguments.pop(key) for key in DESCRIPTIONS & set(arguments)}
        made = make_operator(
            type, read, written, {key: kept(v) for key, v in arguments.items()}, user_line()
        )
        seed = descriptions.pop("random_seed", None)
        describe_operator(made, **descriptions)
        if seed is None and self._seed is not None and "rng" in REGISTRY[type].requests:
            seed = self._seed(len(self._net.op), made)
        if seed is not None:
            made.device_option.random_seed = seed
        if self.strict:
            check_operator(made)
            check_device(made.__dict__.get("device_option"), f"operator {type}")
        for blob in read:
            if not self.BlobIsDefined(blob):
                self._net.external_input.append(blob)
                self._from_outside[blob] = None
        self._extend([made])
        if not written:
            return None
        references = tuple(BlobReference(blob, self) for blob in written)
        return references[0] if len(references) == 1 else references

    def _extend(self, operators: Iterable[OperatorDef]) -> None:
        """Add operators as they are."""
        added = list(operators)
        list.extend(self._net.op, added)
        for operator in added:
            self._written.update(operator.output)
        self._changes += 1

    def extend_ops(self, new_ops: Iterable[OperatorDef]) -> None:
        """Add copies of operators, as `CreateOperator` makes them. Caffe2: the same."""
        copied = [Repeated(OperatorDef)._checked(operator) for operator in new_ops]
        if self.strict:
            for operator in copied:
                check_operator(operator)
        self._extend(copied)

    def insert_op_at_idx(self, op: OperatorDef, op_idx: int) -> None:
        """Put a copy of an operator before the one of that number. Caffe2: the same.

        What it reads and nobody here writes becomes an external input.

        Raises:
            GraphError: `op_idx` is below 0 or beyond the end.
        """
        if not 0 <= op_idx <= len(self._net.op):
            raise GraphError(
                f"net {self.Name()!r} has {len(self._net.op)} operators: one cannot be put in "
                f"at {op_idx}"
            )
        for blob in op.input:
            if not self.BlobIsDefined(blob):
                self._net.external_input.append(blob)
        self._net.op.insert(op_idx, op)
        self._look_up()
        self._changes += 1

    def reroute_tensor(
        self, tensor: Blob, new_producer: OperatorDef, can_modify: Iterable[OperatorDef] = ()
    ) -> int:
        """Let operators read what `new_producer` makes of a blob instead. Caffe2: the same.

        The producer is put behind whatever makes the blobs that it reads. Where the blob was an
        external output, the producer's output takes its place.

        Args:
            tensor: The blob.
            new_producer: An operator that reads it.
            can_modify: The operators of this net that are to read the producer's first output.

        Returns:
            How many operators were changed.

        Raises:
            GraphError: `new_producer` does not read the blob, or writes nothing.
        """
        old = str(tensor)
        if not new_producer.output or (
            old not in new_producer.input and not self.is_external_input(old)
        ):
            raise GraphError(
                f"net {self.Name()!r}: operator {signature_of(new_producer)} makes nothing of "
                f"{old!r}"
            )
        made_at: dict[str, int] = {}
        for index, operator in enumerate(self._net.op):
            for blob in operator.output:
                made_at.setdefault(blob, index)
        place = max((made_at.get(blob, -1) for blob in new_producer.input), default=-1)
        chosen = [op for op in self._net.op if op in list(can_modify or ())]
        self.insert_op_at_idx(new_producer, place + 1)
        new = new_producer.output[0]
        outputs = self._net.external_output
        outputs[:] = [new if blob == old else blob for blob in outputs]
        for operator in chosen:
            cloning.remap_input(operator, {old: new})
        self._changes += 1
        return len(chosen)

    def Const(self, array: Any, blob_out: Blob | None = None, dtype: Any = None) -> BlobReference:
        """Add a blob with a value given here. Caffe2: the same.

        Args:
            array: A number, string, array, or nested lists. Integers become int64 (int32 stays),
                truth values bool, text strings, all other numbers float32.
            blob_out: The blob to write; left out, it is named after the operator.
            dtype: Convert to this dtype first.
        """
        outputs = 1 if blob_out is None else [blob_out]
        reference: BlobReference
        if isinstance(array, bool):
            reference = self._add(
                "ConstantFill", [], outputs, {"dtype": int(DataType.BOOL), "value": array}
            )
            return reference
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
        reference = self._add(
            operator, [], outputs, {"shape": list(value.shape), "values": value.flatten()}
        )
        return reference

    def LogInfo(self, *msg_or_blobs: Any) -> None:
        """Print texts and blobs, each on a line of its own. Caffe2: the same."""
        for each in msg_or_blobs:
            if not isinstance(each, BlobReference):
                values = {"shape": [], "values": [each]}
                each = self._add("GivenTensorStringFill", [], self.NextName("log"), values)
            self._add("Print", each, [], {})

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
        python = python_arguments(
            f, grad_f, python_func_type, pass_workspace, grad_output_indices, grad_input_indices
        )

        def add(inputs: Any = (), outputs: Any = None, **arguments: Any) -> Any:
            if outputs is None:
                outputs = [ScopedBlobReference(self.NextName("Python"), self)]
            if isinstance(outputs, int) and not isinstance(outputs, bool):
                count = outputs
            else:
                count = len(outputs) if isinstance(outputs, (list, tuple)) else 1
            return self._add("Python", inputs, outputs, arguments | python | {"n_outputs": count})

        return add

    def AppendNet(self: Self, net: NetLike, device_option: DeviceOption | None = None) -> Self:
        """Add the operators of another net behind those of this one. Caffe2: the same.

        Args:
            net: The other net.
            device_option: Where its operators are to run, if not where they say.
        """
        if not isinstance(net, Net):
            raise TypeError(f"net {self.Name()!r}: AppendNet takes a Net, not {net!r}")
        if self.strict:
            check_device(device_option, f"net {net.Name()}")
        for blob in list(net._net.external_input):
            if not self.BlobIsDefined(blob):
                self._net.external_input.append(blob)
                self._from_outside[blob] = None
            if blob in net._declared and blob in self._from_outside:
                self._declared.add(blob)
        outputs = self._net.external_output
        outputs.extend([blob for blob in net._net.external_output if blob not in outputs])
        copied = [Repeated(OperatorDef)._checked(operator) for operator in net._net.op]
        if device_option is not None:
            for operator in copied:
                operator.device_option.CopyFrom(device_option)
        self._extend(copied)
        return self

    # Gradients.

    def AddGradientOperators(
        self,
        ys: Sequence[Blob] | Mapping[Any, Any],
        skip: int = 0,
        *,
        wanted: Blob | Iterable[Blob] | None = None,
    ) -> dict[BlobReference, Any]:
        """Append the operators that compute gradients. Caffe2: the same.

        Args:
            ys: The blobs to differentiate, each starting with a gradient of ones; or a mapping of
                blob to the blob or `GradientSlice` that holds its gradient, None for ones.
            skip: How many operators at the beginning to leave alone.
            wanted: The blobs whose gradients are wanted, or one, such as the parameters: what these
                are not made of is left out, such as the gradient of the data, which costs as much
                as another pass through the first layer. Left out itself, all gradients are made.

        Returns:
            Blob -> the blob with its gradient, for every blob on the way; a `GradientSlice` of
            two blobs where the gradient is sparse.

        Raises:
            GradientError: See `procession.graph.gradient`; or one that is wanted there is not.
            BlobNotFoundError: The net has no such blob to differentiate.
            TypeError: `ys` is neither a list nor a mapping.
        """
        if not isinstance(ys, (Mapping, list, tuple)):
            raise TypeError(f"AddGradientOperators takes a list or a dict of blobs, not {ys!r}")
        if self.strict:
            for y in ys:
                self.GetBlobRef(y)
        if isinstance(wanted, (str, BlobReference)):
            wanted = [wanted]
        added, gradients = IR(self._net.op[skip:]).differentiate(ys, user_line(), self, wanted)
        self._extend(added)
        if self.strict and isinstance(ys, Mapping):
            for given in ys.values():
                for blob in given if isinstance(given, GradientSlice) else [given]:
                    if blob is not None and not self.BlobIsDefined(blob):
                        self._net.external_input.append(str(blob))
                        self._from_outside[str(blob)] = None
        return gradients

    def DeduplicateGradientSlices(self, g: GradientSlice, aggregator: str = "sum") -> GradientSlice:
        """A sparse gradient in which no index occurs twice. Caffe2: the same.

        Args:
            g: The gradient: blobs with indices and values.
            aggregator: What becomes of the values of one index: "sum" or "mean".
        """
        if not isinstance(g, GradientSlice):
            raise TypeError(f"DeduplicateGradientSlices takes a GradientSlice, not {g!r}")
        operators = {"sum": "UnsortedSegmentSum", "mean": "UnsortedSegmentMean"}
        if aggregator.lower() not in operators:
            raise ValueError(f"aggregator is 'sum' or 'mean', not {aggregator!r}")
        unique, places = self._add("Unique", [g.indices], 2, {"engine": "SparseHash"})
        values = self._add(operators[aggregator.lower()], [g.values, places], 1, {})
        return GradientSlice(indices=unique, values=values)

    # Seeds and names of operators.

    def set_rand_seed(
        self, seed: int = 100, sequence_seed: bool = True, seed_on_op_def: bool = False
    ) -> None:
        """Make the net's random operators give the same numbers each time it is compiled and run.

        A seed belongs to an operator (`device_option.random_seed`). All operators that the net has
        get one, and random operators that are added later. Run again, a compiled net goes on
        with the numbers it began. Caffe2: the same, but what is added later has no seed.

        Args:
            seed: The first operator's seed.
            sequence_seed: Give each operator one more than the one before; otherwise all the same.
            seed_on_op_def: Make each operator's seed of its definition and `seed`.

        Raises:
            GraphError: Both `sequence_seed` and `seed_on_op_def`.
        """
        if sequence_seed and seed_on_op_def:
            raise GraphError("set_rand_seed: give sequence_seed or seed_on_op_def, not both")
        kind = "sequence" if sequence_seed else "definition" if seed_on_op_def else "same"
        self._seed = _Seed(int(seed), kind)
        for index, operator in enumerate(self._net.op):
            operator.device_option.random_seed = self._seed(index, operator)
        self._changes += 1

    def PopulateProtoWithFileName(self) -> None:
        """Call each operator by the line of the script that added it. Caffe2: the same."""
        for operator in self._net.op:
            if operator.source is not None:
                operator.name = ":".join(map(str, operator.source))

    # Records.

    def input_record(self) -> Any:
        """The record that `set_input_record` was given, None without one."""
        return self._input_record

    def output_record(self) -> Any:
        """The record that `set_output_record` was given, None without one."""
        return self._output_record

    def _check_record(self, what: str, known: Any, record: Any) -> None:
        if known is None:
            return
        if not record.has_blobs() or set(record.field_blobs()) != set(known.field_blobs()):
            raise GraphError(f"net {self.Name()!r} already has an {what} record: {known!r}")

    def set_input_record(self, input_record: Any) -> Any:
        """Say that the net reads the fields of a record; returns the record with blobs.

        A record without blobs gets new ones, named after the net.

        Raises:
            GraphError: The net has an input record of other blobs.
        """
        self._check_record("input", self._input_record, input_record)
        if not input_record.has_blobs():
            with NameScope(self.Name()):
                input_record = schema.NewRecord(self, input_record)
        self._input_record = input_record
        for blob in input_record.field_blobs():
            if not self.is_external_input(blob):
                self.AddExternalInput(blob)
        return input_record

    def set_output_record(self, record: Any) -> None:
        """Say that the net makes the fields of a record.

        Raises:
            GraphError: The net has an output record of other blobs.
            BlobNotFoundError: The net defines no such blob.
        """
        self._check_record("output", self._output_record, record)
        for blob in record.field_blobs():
            self.GetBlobRef(blob)
        for blob in record.field_blobs():
            if str(blob) not in self._net.external_output:
                self.AddExternalOutput(blob)
        self._output_record = record

    def AppendOutputRecordField(self, field_name: str, record: Any) -> None:
        """Add a field to the output record. Caffe2: the same.

        Raises:
            GraphError: The net has no output record.
            BlobNotFoundError: The net defines no such blob.
        """
        if self._output_record is None:
            raise GraphError(f"net {self.Name()!r} has no output record to add {field_name!r} to")
        self.AddExternalOutput(*record.field_blobs())
        self._output_record = self._output_record + schema.Struct((field_name, record))

    def _recovered(self, blobs: Iterable[str], prefix: str) -> Any:
        columns = [blob[len(prefix) :] for blob in blobs if blob.startswith(prefix)]
        if not columns:
            return None
        found = [BlobReference(prefix + column, self) for column in columns]
        return schema.from_column_list(columns, col_blobs=found)

    def recover_input_record_by_prefix(self, prefix: str) -> None:
        """Make an input record of the external inputs that begin so; what follows are columns."""
        record = self._recovered(self._net.external_input, prefix)
        if record is not None:
            self.set_input_record(record)

    def recover_output_record_by_prefix(self, prefix: str) -> None:
        """Make an output record of the external outputs that begin so."""
        record = self._recovered(self._net.external_output, prefix)
        if record is not None:
            self.set_output_record(record)

    # New nets from this one.

    def Net(self, name: str) -> NetLike:
        """A new, empty net."""
        return Net(name)

    def Clone(
        self: Self,
        name: str | None = None,
        blob_remap: Mapping[Any, Any] | None = None,
        op_id_mask: Iterable[int] | None = None,
        remap_funcs: Mapping[str, cloning.RemapFunction] | None = None,
        keep_schema: bool = True,
        update_external_list: bool = False,
    ) -> Self:
        """A copy that can be changed on its own. Caffe2: the same; there the name is required.

        Args:
            name: The copy's name; left out, this net's, made unique.
            blob_remap: Blob -> what it is called in the copy.
            op_id_mask: Which operators to copy, by number; default all.
            remap_funcs: Operator type -> a function (operator, prefix, blob_remap) that renames
                the blobs in its arguments.
            keep_schema: Whether the copy has the records of this net.
            update_external_list: Have the external inputs and outputs be those that the
                copied operators show.
        """
        remap = {str(old): str(new) for old, new in (blob_remap or {}).items()}
        name = self.Name() if name is None else name
        copied = type(self)(cloning.remapped(self._net, name, remap, op_id_mask, remap_funcs))
        copied._seed = self._seed
        copied._declared = {remap.get(blob, blob) for blob in self._declared}
        copied._attributes = {key: list(values) for key, values in self._attributes.items()}
        if update_external_list:
            cloning.list_externals(copied._net)
            copied._look_up()
        if keep_schema:
            copied._input_record = copied._remapped_record(self._input_record, remap)
            copied._output_record = copied._remapped_record(self._output_record, remap)
        return copied

    def _remapped_record(self, record: Any, remap: Mapping[str, str]) -> Any:
        if record is None:
            return None
        blobs = [remap.get(str(blob), str(blob)) for blob in record.field_blobs()]
        return schema.from_blob_list(record, [BlobReference(blob, self) for blob in blobs])

    def ClonePartial(
        self: Self,
        name: str,
        inputs: Any,
        outputs: Iterable[Blob],
        remap_funcs: Mapping[str, cloning.RemapFunction] | None = None,
    ) -> tuple[Self, list[BlobReference]]:
        """A copy of what some outputs need, and references to those. Caffe2: the same.

        Args:
            name: The copy's name, and the prefix of the blobs that only it uses.
            inputs: Blobs that are given: a list, or a mapping (or list of pairs) of their names
                here to those in the copy.
            outputs: Blobs that are wanted.
            remap_funcs: See `Clone`.

        Raises:
            GraphError: An output is not defined here, or an operator that is needed makes an input.
        """
        part, wanted = cloning.partial(self, name, inputs, outputs, remap_funcs)
        copied = type(self)(part)
        copied._declared = self._declared & set(part.external_input)
        copied._attributes = {key: list(values) for key, values in self._attributes.items()}
        return copied, [BlobReference(blob, copied) for blob in wanted]

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
