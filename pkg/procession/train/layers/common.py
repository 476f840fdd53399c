"""What layers have in common: parameters, and arguments that are about other devices."""

from __future__ import annotations

from typing import Any

from procession import BlobReference, GraphError
from procession.train.initializers import ExternalInitializer, Fill, update_initializer
from procession.train.model import ModelHelper

XAVIER: Fill = ("XavierFill", {})
ZEROS: Fill = ("ConstantFill", {})


def constant(value: float) -> Fill:
    """What fills a parameter with one number."""
    return ("ConstantFill", {"value": value})


def parameter(
    model: ModelHelper,
    name: Any,
    shape: list[int],
    tags: Any,
    default: Fill,
    fill: Fill | None = None,
    initializer: Any = None,
) -> BlobReference:
    """A parameter of a layer; from elsewhere, if the model is not to fill its parameters.

    Args:
        model: The model.
        name: Its name, or blob.
        shape: Its shape.
        tags: What it is for; see `ParameterTags`.
        default: What fills it, if neither of these is given:
        fill: An operator and its arguments.
        initializer: A class of initializers, or an initializer.
    """
    if model.init_params:
        chosen = update_initializer(initializer, fill, default)
    else:
        chosen = ExternalInitializer()
    return model.create_param(param_name=name, shape=shape, initializer=chosen, tags=tags)


def named(model: ModelHelper, blob_out: Any) -> Any:
    """A layer's output, which gives its parameters their names; one of the net's, if left out."""
    return blob_out or model.net.NextName()


def divided(what: str, number: int, parts: int) -> int:
    """A number of channels in each group.

    Raises:
        GraphError: They cannot be divided so.
    """
    if parts < 1 or number % parts:
        raise GraphError(f"{what}={number} cannot be divided into {parts} groups")
    return number // parts


def of_device(
    arguments: dict[str, Any],
    use_cudnn: bool,
    cudnn_exhaustive_search: bool | None = None,
    ws_nbytes_limit: int | None = None,
) -> dict[str, Any]:
    """Arguments of an operator, with those that Caffe2's helpers add for its GPUs.

    They name an engine, which has no effect here.
    """
    if not use_cudnn:
        return arguments
    arguments["engine"] = "CUDNN"
    if cudnn_exhaustive_search is not None:
        arguments["exhaustive_search"] = cudnn_exhaustive_search
        if ws_nbytes_limit:
            arguments["ws_nbytes_limit"] = ws_nbytes_limit
    return arguments
