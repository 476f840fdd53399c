"""Whether what an optimizer has added to a model does what was meant.

What comes too late changes nothing, and what is built twice is done twice: nobody is told by the
numbers. Nets are free to do so; who has an optimizer added by a function can be told.
"""

from __future__ import annotations

from procession import GraphError
from procession.core import GradientSlice
from procession.train.model import ModelHelper


def see_that_it_trains(model: ModelHelper, since: int) -> None:
    """Look at what was added behind the gradients of a model.

    Args:
        model: The model, with gradients and optimizer.
        since: How many operators its net had before the optimizer.

    Raises:
        GraphError: No parameter is updated, or one by two optimizers; or a gradient is changed
            behind the update that it is for.
    """
    added = list(model.net.message.op)[since:]
    if any(hasattr(value, "external_input") for op in added for value in op.arguments.values()):
        # What is written inside has names of its own.
        return
    written = {blob for operator in added for blob in operator.output}
    params = {str(param): gradient for param, gradient in model.param_to_grad.items()}
    if written.isdisjoint(params):
        raise GraphError(
            f"optimize has added nothing that updates a parameter of model {model.name!r}: have it "
            f"call build_sgd(model, 0.1), say, with a rate above 0"
        )
    for each in model.params:
        info = model.get_param_info(each)
        if info is not None and info.updates > 1:
            raise GraphError(
                f"optimize has had {info.updates} optimizers built that update {info.name!r}: call "
                f"one build_... only. UseOptimizer gives a parameter an optimizer of its own"
            )
    for param, gradient in params.items():
        if param not in written:
            continue
        name = str(gradient.values if isinstance(gradient, GradientSlice) else gradient)
        update = next(at for at, operator in enumerate(added) if param in operator.output)
        writes = [
            at
            for at, operator in enumerate(added)
            # Some optimizers leave their step in the gradient's place.
            if name in operator.output and params.keys().isdisjoint(operator.output)
        ]
        if not writes or writes[-1] < update:
            continue
        late = writes[-1]
        if not any(name in operator.input for operator in added[late + 1 :]):
            raise GraphError(
                f"optimize changes the gradient of {param!r} when that has been used already: "
                f"{added[late].type} comes behind {added[update].type}, and does nothing. Call "
                f"GradientClipping, add_weight_decay and the like before build_..."
            )
