"""The state of a training in a file, and out of it again.

save("at_500.npz", session.workspace(), model)
load("at_500.npz", session.workspace(), model)
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from procession import GraphError, infer_shapes_and_types
from procession.train.model import ModelHelper


class _Blobs(Protocol):
    def fetch_blob(self, name: str, /) -> object: ...
    def feed_blob(self, name: str, value: object, /) -> object: ...


def state_blobs(model: ModelHelper) -> list[str]:
    """The blobs that a training needs to go on: parameters, and what changes with them.

    Those are all parameters, and what `param_init_net` makes and `net` changes: momenta, running
    means, the counter of steps.

    Raises:
        GraphError: It is no model.
    """
    if not isinstance(model, ModelHelper):
        it = f"not {type(model).__name__}"
        if isinstance(getattr(model, "model", None), ModelHelper):
            it += "; it has one, .model"
        raise GraphError(f"what has a state is a model (ModelHelper), {it}")
    changed = {blob for operator in model.net.message.op for blob in operator.output}
    found = {str(param): None for param in [*model.params, *model._computed_params]}
    for operator in model.param_init_net.message.op:
        found.update(dict.fromkeys(blob for blob in operator.output if blob in changed))
    return list(found)


def save(path: str | os.PathLike[str], workspace: _Blobs, model: ModelHelper) -> None:
    """Write the state of a training to a file of NumPy's (".npz").

    Whoever reads it, sees the old file or the new one, whole. Blobs are fetched one after the
    other: nothing may run meanwhile that changes them, as a step of training in another thread.

    Args:
        path: The file.
        workspace: Where the model was trained: `session.workspace()`, or a `Workspace`.
        model: The model, with its optimizer.

    Raises:
        BlobNotFoundError: The model has not been initialised there.
        GraphError: Something that is no workspace, or no model; or a blob that holds objects.
    """
    _see_that_it_is_a_workspace(workspace)
    values = {name: np.asarray(workspace.fetch_blob(name)) for name in state_blobs(model)}
    for name, value in values.items():
        if value.dtype.hasobject:
            raise GraphError(f"the state of a model is arrays of numbers: {name!r} is not")
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            _write(file, values)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], workspace: _Blobs, model: ModelHelper) -> None:
    """Feed the state of a training from a file; `param_init_net` is run before.

    Args:
        path: The file.
        workspace: Where the model is to go on.
        model: A model of the same parameters, with the same optimizer.

    Raises:
        GraphError: The file has not all that the model needs, or has it in other shapes; nothing
            is fed then. Or it is no file of `save`, or not whole; or something is no workspace, or
            no model.
        FileNotFoundError: There is no such file.
    """
    _see_that_it_is_a_workspace(workspace)
    wanted = state_blobs(model)
    try:
        with zipfile.ZipFile(path) as stored:
            there = {*stored.namelist()}
            missing = [name for name in wanted if f"{name}.npy" not in there]
            values = {} if missing else {name: _read(stored, name) for name in wanted}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise GraphError(
            f"{os.fspath(path)!r} is no file that save has written, or is not whole: {error}"
        ) from error
    if missing:
        raise GraphError(f"{os.fspath(path)!r} is of another model: it has no {missing}")
    shapes, _ = infer_shapes_and_types(model.param_init_net)
    for param in model.GetAllParams(""):
        info = model.get_param_info(param)
        if info is not None and info.shape is not None:
            shapes[str(param)] = list(info.shape)
    for name, value in values.items():
        found, shape = value.shape, tuple(shapes.get(name, value.shape))
        if shape != found:
            raise GraphError(
                f"{os.fspath(path)!r} is of another model: {name!r} has the shape {found} "
                f"there, not {shape}"
            )
    for name, value in values.items():
        workspace.feed_blob(name, value)


def _see_that_it_is_a_workspace(workspace: Any) -> None:
    if hasattr(workspace, "fetch_blob") and hasattr(workspace, "feed_blob"):
        return
    it = f"not {type(workspace).__name__}"
    if hasattr(workspace, "workspace"):
        it += "; that of a session is session.workspace(), of one of its nodes "
        it += "session.workspace(node)"
    raise GraphError(f"a model's blobs are in a workspace, {it}")


# The file is as `np.savez` writes it. That takes arrays by name, and has two such names itself.


def _write(file: IO[bytes], values: Mapping[str, Any]) -> None:
    with zipfile.ZipFile(file, "w") as stored:
        for name, value in values.items():
            with stored.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)


def _read(stored: zipfile.ZipFile, name: str) -> Any:
    with stored.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)
