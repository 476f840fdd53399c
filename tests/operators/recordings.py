"""What Caffe2 makes of some inputs, kept in files, for the tests that hold operators to it.

The scripts in `record/` describe cases and call `record`, under a Python that has Caffe2; it may be
as old as 3.8 and need not have Procession. The tests of recordings call `replay` and `check`.

    record(RECORDED / "linear.npz", [Case("small", "FC", [x, w, b], {"axis": 1})])
    for recorded in replay(RECORDED / "linear.npz"): check(recorded)

`slopes` makes of a case one whose results are the gradients of the inputs, in a net.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RECORDED = Path(os.path.abspath(__file__)).parent / "recorded"
LARGEST = 200_000
"""How many bytes a file of recordings may have."""


class Case(NamedTuple):
    """One use of an operator, to be recorded."""

    id: str
    """Unique in its file."""
    operator: str
    inputs: Sequence[Any]
    arguments: dict[str, Any] = {}  # noqa: RUF012
    n_outputs: int = 1
    in_place: dict[int, int] = {}  # noqa: RUF012
    """Output -> the input whose blob it is written to, for operators that insist on it."""
    wrt: Sequence[int] = ()
    """The inputs whose gradients are recorded, in the place of the outputs; see `slopes`."""
    n_slopes: int = 0
    """How many of the last inputs are the gradients of the first outputs."""


class Recorded(NamedTuple):
    """One use of an operator, and what came out."""

    id: str
    operator: str
    inputs: list[Any]
    arguments: dict[str, Any]
    outputs: list[Any]
    wrt: Sequence[int] = ()
    n_slopes: int = 0
    n_outputs: int = 1


def slopes(case: Case, *wrt: int, count: int = 1) -> Case:
    """The same use of an operator, of which the gradients of some inputs are to be recorded.

    Random gradients of the first `count` outputs become further inputs. Without `wrt` it is the
    gradient of the first input that is recorded.
    """
    random = np.random.RandomState(zlib.crc32(case.id.encode()) % 2**31)
    given = [random.normal(size=y.shape).astype(y.dtype) for y in run(case)[:count]]
    inputs = [*case.inputs, *given]
    return case._replace(
        id=case.id + " gradient", inputs=inputs, wrt=wrt or (0,), n_slopes=count, in_place={}
    )


def _names(case: Any) -> tuple[list[str], list[str], list[str]]:
    """What the inputs, the gradients of outputs, and the outputs are called."""
    names = [f"in{index}" for index in range(len(case.inputs))]
    split = len(names) - case.n_slopes
    return names[:split], names[split:], [f"out{index}" for index in range(case.n_outputs)]


def _dense(like: Any, places: Any, rows: Any) -> Any:
    dense = np.zeros_like(like)
    np.add.at(dense, places, rows.reshape(places.shape + dense.shape[1:]))
    return dense


def _run_gradient(case: Case) -> list[Any]:
    from caffe2.python import core, workspace

    read, given, outputs = _names(case)
    workspace.ResetWorkspace()
    for name, value in zip(read + given, case.inputs):  # noqa: B905
        workspace.FeedBlob(name, np.asarray(value))
    net = core.Net("gradient")
    net.AddExternalInput(*given)
    getattr(net, case.operator)(read, outputs, **case.arguments)
    gradients = net.AddGradientOperators(dict(zip(outputs, given)))  # noqa: B905
    workspace.RunNetOnce(net)
    made = []
    for index in case.wrt:
        gradient = gradients[read[index]]
        if isinstance(gradient, core.GradientSlice):
            parts = [workspace.FetchBlob(each) for each in gradient]
            made.append(_dense(case.inputs[index], *parts))
        else:
            made.append(np.asarray(workspace.FetchBlob(gradient)))
    return made


def run(case: Case) -> list[Any]:
    """What Caffe2 makes of a case, one array per output."""
    from caffe2.python import core, workspace

    if case.wrt:
        return _run_gradient(case)
    inputs, _, outputs = _names(case)
    for output, source in case.in_place.items():
        outputs[output] = inputs[source]
    workspace.ResetWorkspace()
    for name, value in zip(inputs, case.inputs):  # noqa: B905
        workspace.FeedBlob(name, np.asarray(value))
    made = core.CreateOperator(case.operator, inputs, outputs, **case.arguments)
    workspace.RunOperatorOnce(made)
    return [np.asarray(workspace.FetchBlob(name)) for name in outputs]


def record(path: Any, cases: Iterable[Case]) -> None:
    """Run the cases with Caffe2, and write them and their outputs to a file."""
    write(
        path,
        [
            Recorded(
                c.id,
                c.operator,
                list(c.inputs),
                c.arguments,
                run(c),
                c.wrt,
                c.n_slopes,
                c.n_outputs,
            )
            for c in cases
        ],
    )


def write(path: Any, recordings: Sequence[Recorded]) -> None:
    """Write what was recorded to a file, for `replay`.

    The file has one long array per dtype, since many small ones would take more room for their
    headers than for what is in them; and an index that says what is where.
    """
    parts: dict[str, list[Any]] = {}
    index: list[dict[str, Any]] = []
    for each in recordings:
        places = []
        for value in list(each.inputs) + list(each.outputs):
            array = np.asarray(value)
            # Strings are objects for Caffe2; a file of arrays has them as bytes.
            name = "texts" if _texts(array) else array.dtype.name
            parts.setdefault(name, []).append(array.astype("S") if _texts(array) else array)
            places.append((name, array.shape))
        line = {"id": each.id, "operator": each.operator, "arguments": each.arguments}
        if each.wrt:
            line.update(wrt=each.wrt, n_slopes=each.n_slopes, n_outputs=each.n_outputs)
        index.append({**line, "n_inputs": len(each.inputs), "places": places})
    ids = [each.id for each in recordings]
    twice = {each for each in ids if ids.count(each) > 1}
    if twice:
        raise ValueError(f"two cases have the same id: {sorted(twice)}")
    joined = {name: np.concatenate([p.ravel() for p in each]) for name, each in parts.items()}
    joined["index"] = np.array(json.dumps(index).encode())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(str(path), **joined)
    if Path(path).stat().st_size > LARGEST:
        raise ValueError(f"{path} has {Path(path).stat().st_size} bytes: too many")


def _texts(array: Any) -> bool:
    return array.dtype.kind in "OSU"


def replay(path: Any) -> Iterator[Recorded]:
    """What `record` has written to the file, case by case."""
    with np.load(str(path)) as arrays:
        joined = {name: arrays[name] for name in arrays}
    used = dict.fromkeys(joined, 0)
    for line in json.loads(joined["index"].item().decode()):
        values = []
        for name, shape in line["places"]:
            start = used[name]
            used[name] += int(np.prod(shape))
            array = joined[name][start : used[name]].reshape(shape)
            values.append(array.astype(object) if name == "texts" else array)
        split = line["n_inputs"]
        yield Recorded(
            line["id"],
            line["operator"],
            values[:split],
            line["arguments"],
            values[split:],
            line.get("wrt", ()),
            line.get("n_slopes", 0),
            line.get("n_outputs", len(values) - split),
        )


def check(recorded: Recorded, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Run our operator, or a net with its gradient, and compare shapes, dtypes and values.

    Floats may be off by `rtol` and `atol`, all else is exactly the same.
    """
    from procession.testing.gradcheck import run_operator

    if recorded.wrt:
        outputs = _our_gradient(recorded)
    else:
        made = run_operator(
            recorded.operator,
            *recorded.inputs,
            n_outputs=recorded.n_outputs,
            **recorded.arguments,
        )
        outputs = made if isinstance(made, tuple) else () if made is None else (made,)
    assert len(outputs) == len(recorded.outputs)
    for place, (output, expected) in enumerate(zip(outputs, recorded.outputs)):  # noqa: B905
        where = f"{recorded.operator} {recorded.id}: output {place}"
        assert output.shape == expected.shape, f"{where}: {output.shape}, not {expected.shape}"
        if _texts(expected):
            made = [x.encode() if isinstance(x, str) else x for x in output.ravel()]
            assert made == expected.ravel().tolist(), where
            continue
        assert output.dtype == expected.dtype, f"{where}: {output.dtype}, not {expected.dtype}"
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(output, expected, rtol=rtol, atol=atol, err_msg=where)
        else:
            np.testing.assert_array_equal(output, expected, err_msg=where)


def _our_gradient(recorded: Recorded) -> tuple[Any, ...]:
    from procession import LocalSession, Net
    from procession.graph.gradient import GradientSlice

    read, given, outputs = _names(recorded)
    net = Net("gradient")
    getattr(net, recorded.operator)(read, outputs, **recorded.arguments)
    gradients = net.AddGradientOperators(dict(zip(outputs, given)))  # noqa: B905
    made = []
    with LocalSession() as session:
        workspace = session.workspace()
        for name, value in zip(read + given, recorded.inputs):  # noqa: B905
            workspace.feed_blob(name, value)
        session.run(net)
        for index in recorded.wrt:
            gradient = gradients[read[index]]
            if isinstance(gradient, GradientSlice):
                parts = [workspace.fetch_blob(str(each)) for each in gradient]
                made.append(_dense(recorded.inputs[index], *parts))
            else:
                made.append(workspace.fetch_blob(str(gradient)))
    return tuple(made)
