"""`caffe2.python.helpers.control_ops`: If and While operators made of models."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python.control_ops_util import add_if_op, add_while_op

__all__ = ["add_if_op", "add_while_op", "cond", "loop"]


def cond(
    model: Any, cond_blob: Any, external_blobs: Any, then_model: Any, else_model: Any = None
) -> None:
    """Have a model run the net of one of two others; see `add_if_op`."""
    otherwise = else_model.net if else_model else None
    add_if_op(model.net, cond_blob, external_blobs, then_model.net, otherwise)


def loop(
    model: Any, cond_blob: Any, external_blobs: Any, loop_model: Any, cond_model: Any = None
) -> None:
    """Have a model run the net of another again and again; see `add_while_op`."""
    condition = cond_model.net if cond_model else None
    add_while_op(model.net, cond_blob, external_blobs, loop_model.net, condition)
