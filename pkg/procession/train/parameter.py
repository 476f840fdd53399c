"""What a model knows of its parameters: where each is, how large, its gradient, who updates it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from procession import BlobReference, GraphError


class ParameterTags:
    """What a parameter is for. Caffe2: parameter_info.ParameterTags."""

    BIAS = "BIAS"
    WEIGHT = "WEIGHT"
    COMPUTED_PARAM = "COMPUTED_PARAM"
    """Not learned, but made on the way, as a running mean is."""


class ParameterInfo:
    """One parameter.

    Args:
        param_id: A number, for who wants to give one.
        param: Its blob.
        key: What it is called elsewhere.
        shape: Its shape, None if that is not known.
        length: How many there are in a row; at least 1.
        grad: The blob with its gradient, or the `GradientSlice` of two.
        blob_copy: Data type -> the blob that has the same numbers in that type.

    Raises:
        GraphError: `param` is no `BlobReference`.

    Caffe2: parameter_info.ParameterInfo.
    """

    def __init__(
        self,
        param_id: int | None,
        param: BlobReference,
        key: Any = None,
        shape: Sequence[int] | None = None,
        length: int | None = None,
        grad: Any = None,
        blob_copy: Mapping[Any, BlobReference] | None = None,
    ) -> None:
        if not isinstance(param, BlobReference):
            raise GraphError(f"a parameter is a BlobReference, not {param!r}")
        self.param_id = param_id
        self.name = str(param)
        self.blob = param
        self.key = key
        self.shape = shape
        self.size = None if shape is None else prod(shape)
        self.length = max(1, length or 1)
        self.grad = grad
        self.blob_copy = blob_copy
        self.regularizer: Any = None
        """What `regularizer.apply_regularizers_on_loss` and `..._after_optimizer` use for it."""
        self.updates = 0
        """How many optimizers have been built that update it."""
        self._optimizer: Any = None

    @property
    def parameter(self) -> BlobReference:
        """Its blob."""
        return self.blob

    @property
    def optimizer(self) -> Any:
        """Who updates it instead of the optimizer that the others get; None: nobody else.

        Raises:
            GraphError: It is set a second time.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        if self._optimizer is not None:
            raise GraphError(f"parameter {self.name!r} has an optimizer of its own already")
        self._optimizer = value

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"ParameterInfo({self.name!r}, shape={self.shape})"
