"""`caffe2.python.brew`: layers of a `ModelHelper`, as far as they are here: `fc`.

Any operator can be used all the same: `model.net.Relu(x)`.
"""

from __future__ import annotations

from typing import Any

from procession.caffe2.python.model_helper import ModelHelper
from procession.graph.blob import BlobReference

__all__ = ["fc", "has_helper"]

Initializer = tuple[str, dict[str, Any]]


def fc(
    model: ModelHelper,
    blob_in: Any,
    blob_out: str,
    dim_in: int,
    dim_out: int,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    **kwargs: Any,
) -> BlobReference:
    """A fully connected layer with parameters `blob_out_w` and `blob_out_b`.

    Args:
        model: The model that gets it.
        blob_in: Its input.
        blob_out: The name of its output.
        dim_in: Length of the input's rows.
        dim_out: Length of the output's rows.
        weight_init: What fills the weights; left out, XavierFill.
        bias_init: What fills the bias; left out, ConstantFill, so zeros.
        kwargs: Further arguments of the operator FC.
    """
    weight = model.create_param(
        f"{blob_out}_w", [dim_out, dim_in], weight_init or ("XavierFill", {})
    )
    bias = model.create_param(f"{blob_out}_b", [dim_out], bias_init or ("ConstantFill", {}))
    model.weights.append(weight)
    model.biases.append(bias)
    made: BlobReference = model.net.FC(
        [blob_in, weight, bias], blob_out, **{**model.arg_scope, **kwargs}
    )
    return made


_HELPERS = {"fc": fc}


def has_helper(name: str) -> bool:
    """Whether there is a layer of that name."""
    return name in _HELPERS


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"caffe2.python.brew has no layer {name!r} in Procession (yet); there are: "
        f"{', '.join(_HELPERS)}. The operators themselves are methods of model.net."
    )
