"""Replicas of a model in one net: each in a name scope and on a device, all with equal parameters.

A blob "fc_w" that each replica has is "cpu_0/fc_w", "cpu_1/fc_w" and so on. The replica of the
first device is the master: what the others are to have, they get from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from procession.caffe2.proto import caffe2_pb2
from procession.caffe2.python import core
from procession.errors import GraphError

PREFIX = "cpu"
_SCOPED = re.compile(rf"{PREFIX}_(\d+)/(.+)", re.DOTALL)

Grouped = dict[str, dict[int, Any]]
"""Name without the scope of a replica -> device -> the blob there, or the `GradientSlice`."""


@dataclass
class Replicas:
    """What is known of the replicas in a model."""

    model: Any
    devices: list[int]
    shared: bool = False
    """Whether they all use the master's parameters."""
    grouped: Grouped = field(default_factory=dict)
    """Parameters, gradients, and what else was synchronised."""
    losses: dict[int, Any] = field(default_factory=dict)
    init_nets: list[Any] = field(default_factory=list)
    nets: list[tuple[Any, int | None]] = field(default_factory=list)
    """What a round of training runs, and how often; None: as often as is asked for."""
    warmup: tuple[int, Any] | None = None
    """How many steps to run alone, and the net that ends that."""

    @property
    def master(self) -> int:
        """The device of the replica that the others follow."""
        return self.devices[0]

    def scope(self, device: int) -> str:
        """The name scope of a replica, without a slash."""
        return f"{PREFIX}_{device}"

    def blob(self, device: int, name: str) -> Any:
        """A replica's blob of that name."""
        return core.BlobReference(f"{self.scope(device)}/{name}")

    @contextmanager
    def inside(self, device: int) -> Iterator[None]:
        """Add operators to a replica: in its name scope, on its device."""
        with core.DeviceScope(option(device)), core.NameScope(self.scope(device)):
            yield

    def each(self, add: Callable[[Any], Any]) -> dict[int, Any]:
        """Call a function with the model inside each replica: device -> what it returned."""
        returned = {}
        for device in self.devices:
            with self.inside(device):
                returned[device] = add(self.model)
        return returned

    def group(self, blobs: Iterable[Any]) -> Grouped:
        """Sort blobs by name and device; those of no replica are left out.

        Raises:
            GraphError: A replica lacks one that another one has.
        """
        found: Grouped = {}
        for blob in blobs:
            parts = blob if isinstance(blob, core.GradientSlice) else [blob]
            scoped = [match for part in parts if (match := _SCOPED.fullmatch(str(part)))]
            if len(scoped) == len(parts):
                name = ":".join(match[2] for match in scoped)
                found.setdefault(name, {})[int(scoped[-1][1])] = blob
        for name, by_device in found.items():
            lacking = [self.scope(device) for device in self.devices if device not in by_device]
            if lacking and not self.shared:
                raise GraphError(
                    f"model {self.model.name!r} has {name!r} in some of its replicas only: it is "
                    f"missing in {', '.join(lacking)}"
                )
        return found

    def filled(self) -> list[str]:
        """The names of what `param_init_net` fills in replicas, in its order."""
        operators = self.model.param_init_net.Proto().op
        outputs = [_SCOPED.fullmatch(blob) for each in operators for blob in each.output]
        return list(dict.fromkeys(match[2] for match in outputs if match))

    def to_synchronise(self) -> list[str]:
        """The names of all that replicas have alike, beginning with the parameters."""
        if self.shared:
            return list(self.group(self.model.GetComputedParams("")))
        return self.filled()

    # Operators.

    def copy_out(self, net: Any, names: Iterable[str]) -> None:
        """Give blobs of the master to the others."""
        with core.DeviceScope(option(0)):
            for name in names:
                source = self.blob(self.master, name)
                for device in self.devices[1:]:
                    net.Copy(source, self.blob(device, name))

    def add_up(self, net: Any, names: Iterable[str]) -> None:
        """Make blobs their sum over all replicas."""
        for name in names if len(self.devices) > 1 else ():
            terms = [self.blob(device, name) for device in self.devices]
            with core.DeviceScope(option(0)):
                net.Sum(terms, terms[0])
            self.copy_out(net, [name])

    def join_slices(self, net: Any, slices: Mapping[int, Any]) -> dict[int, Any]:
        """Put the replicas' slices one behind the other; each gets all."""
        name = str(slices[self.master].values)
        with core.DeviceScope(option(0)):
            indices, _ = net.Concat(
                [slices[device].indices for device in self.devices],
                [f"{name}_indices_of_all", f"{name}_indices_split"],
                axis=0,
            )
            values, _ = net.Concat(
                [slices[device].values for device in self.devices],
                [f"{name}_of_all", f"{name}_split"],
                axis=0,
            )
            # Some optimizers write to the values.
            whole = {self.master: core.GradientSlice(indices, values)}
            for device in self.devices[1:]:
                copied = net.Copy(values, f"{slices[device].values}_of_all")
                whole[device] = core.GradientSlice(indices, copied)
        return whole


def option(device: int) -> Any:
    """The CPU under a number."""
    return core.DeviceOption(caffe2_pb2.CPU, device)


def stripped(blob: Any) -> str:
    """A name without the first of its scopes; of a `GradientSlice`, both of them.

    Raises:
        GraphError: It is in no scope.
    """
    if isinstance(blob, core.GradientSlice):
        return f"{stripped(blob.indices)}:{stripped(blob.values)}"
    _, slash, rest = str(blob).partition("/")
    if not slash:
        raise GraphError(f"blob {str(blob)!r} is in no name scope: it belongs to no replica")
    return rest


def share_parameters(replicas: Replicas) -> None:
    """Have all replicas use the master's parameters, and fill these only.

    To be called before there are gradients: those of all replicas are added up by that.
    """
    model = replicas.model
    groups = replicas.group(model.params)
    instead = {
        str(blob): str(replicas.blob(replicas.master, name))
        for name, by_device in groups.items()
        for device, blob in by_device.items()
        if device != replicas.master
    }
    init = model.param_init_net.Proto()
    kept = [each for each in init.op if instead.keys().isdisjoint(each.output)]
    del init.op[:]
    init.op.extend(kept)
    for net in (init, model.net.Proto()):
        for operator in net.op:
            _replace(operator.input, instead)
        for blobs in (net.external_input, net.external_output):
            named = list(dict.fromkeys(instead.get(blob, blob) for blob in blobs))
            del blobs[:]
            blobs.extend(named)
    for params in (model.params, model.weights, model.biases):
        params[:] = [param for param in params if str(param) not in instead]


def _replace(names: Any, instead: Mapping[str, str]) -> None:
    for index, name in enumerate(names):
        names[index] = instead.get(name, name)


def combine_batch_norm(replicas: Replicas) -> None:
    """Have SpatialBN, and its gradient, normalise by the batches of all replicas.

    The operators of replicas take turns, so that sums can be taken between them.

    Raises:
        GraphError: Replicas are not made of the same operators, or there are others.
    """
    net = replicas.model.net.Proto()
    rows = _rows(replicas, list(net.op))
    made: list[Any] = []
    for row in rows:
        test = any(arg.name == "is_test" and arg.i for arg in row[0].arg)
        if row[0].type == "SpatialBN" and not test:
            made += _statistics(row)
        elif row[0].type == "SpatialBNGradient" and not test:
            made += _backward_statistics(row)
        made += row
    del net.op[:]
    net.op.extend(made)


def _rows(replicas: Replicas, operators: Sequence[Any]) -> list[list[Any]]:
    """The operators that do the same, one of each replica."""
    columns: dict[int, list[Any]] = {device: [] for device in replicas.devices}
    for operator in operators:
        columns.setdefault(operator.device_option.device_id, []).append(operator)
    rows = [list(row) for row in zip(*columns.values(), strict=False)]
    if sum(map(len, rows)) != len(operators) or any(
        each.type != row[0].type for row in rows for each in row
    ):
        raise GraphError(
            f"combine_spatial_bn: the replicas of model {replicas.model.name!r} are not made of "
            "the same operators, one for one"
        )
    return rows


def _arguments(row: Sequence[Any]) -> dict[str, Any]:
    order = {arg.name: arg.s for arg in row[0].arg if arg.name == "order"}
    return {**order, "device_option": option(0)}


def _with_sums(row: Sequence[Any], sums: Sequence[Sequence[str]]) -> None:
    for operator, added in zip(row, sums, strict=True):
        operator.input.extend(added)
        count = operator.arg.add()
        count.name, count.i = "num_batches", len(row)


def _statistics(row: Sequence[Any]) -> Iterator[Any]:
    arguments = _arguments(row)
    parts = [[f"{each.input[0]}_sums", f"{each.input[0]}_sumsq"] for each in row]
    for operator, sums in zip(row, parts, strict=True):
        yield core.CreateOperator("ChannelStats", operator.input[0], sums, **arguments)
    whole = [f"{first}_combined" for first in parts[0]]
    for terms, total in zip(zip(*parts, strict=True), whole, strict=True):
        yield core.CreateOperator("Sum", list(terms), total, device_option=option(0))
    _with_sums(row, [whole] * len(row))


def _backward_statistics(row: Sequence[Any]) -> Iterator[Any]:
    arguments = _arguments(row)
    parts = [list(each.output)[1:3] for each in row]
    for operator, gradients in zip(row, parts, strict=True):
        x, _, slope, mean, deviation = list(operator.input)[:5]
        read = [x, mean, deviation, slope]
        yield core.CreateOperator("ChannelBackpropStats", read, gradients, **arguments)
    for terms in zip(*parts, strict=True):
        total = f"{terms[0]}_combined"
        yield core.CreateOperator("Sum", list(terms), total, device_option=option(0))
        for gradient in terms:
            yield core.CreateOperator("Copy", total, gradient, device_option=option(0))
    _with_sums(row, parts)
