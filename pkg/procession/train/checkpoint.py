"""The state of a training in a file, and out of it again.

save("at_500.npz", session.workspace(), model)
load("at_500.npz", session.workspace(), model)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

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
    """
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
    """
    values = {name: np.asarray(workspace.fetch_blob(name)) for name in state_blobs(model)}
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **values)  # type: ignore[arg-type]
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
            is fed then.
        FileNotFoundError: There is no such file.
    """
    with np.load(path, allow_pickle=False) as stored:
        wanted = state_blobs(model)
        missing = [name for name in wanted if name not in stored]
        if missing:
            raise GraphError(f"{os.fspath(path)!r} is of another model: it has no {missing}")
        values = {name: stored[name] for name in wanted}
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
