"""`caffe2.python.model_helper`: a net and the net that makes its parameters. No more than that."""

from __future__ import annotations

from typing import Any

from procession.caffe2.python import core


class ModelHelper:
    """Two nets: `net`, and `param_init_net`, which is run once before it.

    Args:
        name: What the first is called; the second is called `name_init`.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or "model"
        self.net = core.Net(self.name)
        self.param_init_net = core.Net(f"{self.name}_init")

    def Proto(self) -> Any:
        """The message of `net`."""
        return self.net.Proto()

    def AddGradientOperators(self, *args: Any, **kwargs: Any) -> Any:
        """`Net.AddGradientOperators` of `net`."""
        return self.net.AddGradientOperators(*args, **kwargs)

    def __getattr__(self, operator: str) -> Any:
        if operator.startswith("_"):
            raise AttributeError(operator)
        return getattr(self.net, operator)
