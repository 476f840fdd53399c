"""What Caffe2 makes of some inputs, kept in files, for the tests that hold operators to it.

The scripts in `record/` describe cases and call `record`, under a Python that has Caffe2; it may be
as old as 3.8 and need not have Procession. The tests of recordings call `replay` and `check`.

    record(RECORDED / "linear.npz", [Case("small", "FC", [x, w, b], {"axis": 1})])
    for recorded in replay(RECORDED / "linear.npz"): check(recorded)
"""

from __future__ import annotations

import json
import os
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


class Recorded(NamedTuple):
    """One use of an operator, and what came out."""

    id: str
    operator: str
    inputs: list[Any]
    arguments: dict[str, Any]
    outputs: list[Any]


def run(case: Case) -> list[Any]:
    """What Caffe2 makes of a case, one array per output."""
    from caffe2.python import core, workspace

    inputs = [f"in{index}" for index in range(len(case.inputs))]
    outputs = [f"out{index}" for index in range(case.n_outputs)]
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
    write(path, [Recorded(c.id, c.operator, list(c.inputs), c.arguments, run(c)) for c in cases])


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
        index.append({**line, "n_inputs": len(each.inputs), "places": places})
    if len({each.id for each in recordings}) < len(recordings):
        raise ValueError("two cases have the same id")
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
            line["id"], line["operator"], values[:split], line["arguments"], values[split:]
        )


def check(
    recorded: Recorded, rtol: float = 1e-4, atol: float = 1e-6, n_outputs: int | None = None
) -> None:
    """Run our operator on what was recorded, and compare shapes, dtypes and values.

    Floats may be off by `rtol` and `atol`, all else is exactly the same.
    """
    from procession.testing.gradcheck import run_operator

    made = run_operator(
        recorded.operator, *recorded.inputs, n_outputs=n_outputs, **recorded.arguments
    )
    outputs = made if isinstance(made, tuple) else () if made is None else (made,)
    assert len(outputs) == len(recorded.outputs)
    for place, (output, expected) in enumerate(zip(outputs, recorded.outputs)):  # noqa: B905
        where = f"{recorded.operator} {recorded.id}: output {place}"
        assert output.shape == expected.shape, f"{where}: {output.shape}, not {expected.shape}"
        if _texts(expected):
            assert output.tolist() == expected.tolist(), where
            continue
        assert output.dtype == expected.dtype, f"{where}: {output.dtype}, not {expected.dtype}"
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(output, expected, rtol=rtol, atol=atol, err_msg=where)
        else:
            np.testing.assert_array_equal(output, expected, err_msg=where)
