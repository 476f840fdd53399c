"""The operators: what nets are made of.

An operator is declared in one place, together with its gradient: see `registry`. Importing
this package fills `REGISTRY` with those of all families. In reading order:

    registry    how operators are declared
    datatype    Caffe2's numbers for data types
    arrays      what kernels share
    arithmetic, reduction, linear, activation, loss, fill, logic, optimizer, flow, python
                the families; in each file an operator stands beside its gradient
"""

from procession.operators import (  # noqa: F401
    activation,
    arithmetic,
    fill,
    flow,
    linear,
    logic,
    loss,
    optimizer,
    python,
    reduction,
)
from procession.operators.registry import REGISTRY, STOPS, Definition, alias, emit, operator

__all__ = ["REGISTRY", "STOPS", "Definition", "alias", "emit", "operator"]
