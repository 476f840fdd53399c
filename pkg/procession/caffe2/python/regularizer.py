"""`caffe2.python.regularizer`: what keeps parameters small, sparse or within bounds."""

from procession.train.penalties import (
    ElasticNet,
    ElasticNetL1NormTrimmed,
    GroupL1Norm,
    L0ApproxNorm,
    L1Norm,
    L1NormTrimmed,
    L2Norm,
    LpNorm,
)
from procession.train.projections import (
    BoundedGradientProjection,
    ConstantNorm,
    LogBarrier,
    MaxNorm,
    SparseL1Norm,
    SparseL2Norm,
    SparseLpNorm,
)
from procession.train.regularizer import RegularizationBy, Regularizer

__all__ = [
    "BoundedGradientProjection",
    "ConstantNorm",
    "ElasticNet",
    "ElasticNetL1NormTrimmed",
    "GroupL1Norm",
    "L0ApproxNorm",
    "L1Norm",
    "L1NormTrimmed",
    "L2Norm",
    "LogBarrier",
    "LpNorm",
    "MaxNorm",
    "RegularizationBy",
    "Regularizer",
    "SparseL1Norm",
    "SparseL2Norm",
    "SparseLpNorm",
]
