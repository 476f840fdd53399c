"""What keeps parameters small, sparse or within bounds: a term of the loss, or a step afterwards.

with UseRegularizer({"WEIGHT": L2Norm(1e-4)}):
y = brew.fc(model, "x", "y", 4, 2)
loss = apply_regularizers_on_loss(model, loss)
model.AddGradientOperators([loss])
build_sgd(model, 0.1)
apply_regularizers_after_optimizer(model)
"""

from __future__ import annotations

from typing import Any

from procession import BlobReference, GraphError, Net
from procession.core import GradientSlice
from procession.train.model import ModelHelper

EPSILON = 1e-9


class RegularizationBy:
    """When a regularizer is at work. Caffe2: regularizer.RegularizationBy."""

    AFTER_OPTIMIZER = "after_optimizer"
    ON_LOSS = "on_loss"


def above_zero(**given: float) -> None:
    """Refuse numbers that are not."""
    for name, value in given.items():
        if value <= 0:
            raise GraphError(f"{name} has to be above 0, not {value}")


def not_below_zero(**given: float) -> None:
    """Refuse numbers that are."""
    for name, value in given.items():
        if value < 0:
            raise GraphError(f"{name} cannot be below 0: {value}")


class Regularizer:
    """The base of all. Those of one's own define `_run_on_loss` or `_run_after_optimizer`.

    Caffe2: regularizer.Regularizer.
    """

    kEpsilon = EPSILON  # noqa: N815
    """By how much an open bound is not reached."""

    def __call__(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None, by: Any = None
    ) -> Any:
        """Add what regularizes a parameter.

        Args:
            net: The net that is run for each step.
            param_init_net: The one that is run once before.
            param: The parameter.
            grad: Its gradient.
            by: `RegularizationBy.ON_LOSS` or `AFTER_OPTIMIZER`.

        Returns:
            On the loss: the blob to be added to it. None if there is nothing to do.

        Raises:
            GraphError: `param` is no blob, or `by` neither of the two.
        """
        if not isinstance(param, BlobReference):
            raise GraphError(f"a parameter is a BlobReference, not {param!r}")
        if by == RegularizationBy.ON_LOSS:
            return self._run_on_loss(net, param_init_net, param, grad)
        if by == RegularizationBy.AFTER_OPTIMIZER:
            return self._run_after_optimizer(net, param_init_net, param, grad)
        raise GraphError(f"a regularizer is at work 'on_loss' or 'after_optimizer', not {by!r}")

    def _run_on_loss(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any = None
    ) -> Any:
        return None

    def _run_after_optimizer(
        self, net: Net, param_init_net: Net, param: BlobReference, grad: Any
    ) -> Any:
        return None

    def _within(
        self,
        net: Net,
        param: BlobReference,
        grad: Any,
        bounds: tuple[float | None, float | None],
        left_open: bool = False,
        right_open: bool = False,
    ) -> None:
        """Bring a parameter within bounds; of a sparse gradient only the rows that it has."""
        low, high = bounds
        if low is not None and left_open:
            low += self.kEpsilon
        if high is not None and right_open:
            high -= self.kEpsilon
        rows = [grad.indices, grad.values] if isinstance(grad, GradientSlice) else []
        net.EnsureClipped([param, *rows], [param], min=low, max=high)


def apply_regularizers_on_loss(model: ModelHelper, loss: Any) -> Any:
    """Add the terms of all parameters that have a regularizer; before `AddGradientOperators`.

    Args:
        model: The model.
        loss: Its loss, of one element.

    Returns:
        The loss with the terms; the same blob if there are none.
    """
    for param in model.params:
        info = model.get_param_info(param)
        regularizer = info.regularizer if info is not None else None
        if regularizer is not None:
            term = regularizer(model.net, model.param_init_net, param, by=RegularizationBy.ON_LOSS)
            if term is not None:
                loss = model.net.Add([loss, term], [model.net.NextScopedBlob("regularized_loss")])
    return loss


def apply_regularizers_after_optimizer(model: ModelHelper) -> None:
    """Let regularizers change the parameters that were updated; after `build_...`.

    Args:
        model: The model.
    """
    for param, gradient in model.param_to_grad.items():
        info = model.get_param_info(param)
        regularizer = info.regularizer if info is not None else None
        if regularizer is not None:
            regularizer(
                model.net,
                model.param_init_net,
                param,
                gradient,
                by=RegularizationBy.AFTER_OPTIMIZER,
            )
