"""Models, layers, optimizers, regularizers: from a few lines to a net that learns.

It stands on Procession's public names: a model is two nets, and all that is here adds operators to
them. What a model is run by is up to you: any session, on any node.

In the order in which one stands on the other:

    parameter.py     what is known of a parameter
    initializers.py  what it begins with
    sharing.py       ParameterSharing: layers that have their parameters in common
    modifiers.py     UseOptimizer, UseRegularizer: parameters that get one of their own
    model.py         ModelHelper: the two nets, and the parameters
    layers/          operators together with their parameters
    brew.py          the same by name, with the arguments of `arg_scope`
    optimizer.py     what optimizers have in common
    descent.py, adaptive.py, ftrl.py    the optimizers
    build.py         build_sgd and the others: a model gets an optimizer
    regularizer.py   what regularizers have in common, and how a model gets them
    penalties.py, projections.py        the regularizers: on the loss, after the optimizer
    gradient_clipping.py                gradients that are kept small, one by one
    predictor.py     the part of a net that is needed to predict
    checkpoint.py    the state of a training in a file
    gradient_reduction.py               gradients that become their mean over several nodes
    replica.py       a node's model, and what keeps it equal to the others
    updates.py       whether an optimizer that was added does what was meant
    data_parallel.py                    one model on several nodes
"""

from procession.train import brew, initializers
from procession.train.adaptive import (
    AdadeltaOptimizer,
    AdagradOptimizer,
    AdamOptimizer,
    StormOptimizer,
    WeightScale,
    WngradOptimizer,
)
from procession.train.brew import arg_scope
from procession.train.build import (
    add_weight_decay,
    build,
    build_adadelta,
    build_adagrad,
    build_adam,
    build_ftrl,
    build_gftrl,
    build_rms_prop,
    build_sgd,
    build_storm,
    build_wngrad,
    build_yellowfin,
)
from procession.train.checkpoint import load, save, state_blobs
from procession.train.data_parallel import DataParallel, data_parallel
from procession.train.descent import RmsPropOptimizer, SgdOptimizer, YellowFinOptimizer
from procession.train.ftrl import FtrlOptimizer, GFtrlOptimizer
from procession.train.gradient_clipping import GradientClipping, NetModifier
from procession.train.initializers import ExternalInitializer, Initializer
from procession.train.model import ModelHelper
from procession.train.modifiers import UseOptimizer, UseRegularizer
from procession.train.optimizer import Optimizer
from procession.train.parameter import ParameterInfo, ParameterTags
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
from procession.train.predictor import predictor_net
from procession.train.projections import (
    BoundedGradientProjection,
    ConstantNorm,
    LogBarrier,
    MaxNorm,
    SparseL1Norm,
    SparseL2Norm,
    SparseLpNorm,
)
from procession.train.regularizer import (
    RegularizationBy,
    Regularizer,
    apply_regularizers_after_optimizer,
    apply_regularizers_on_loss,
)
from procession.train.sharing import ParameterSharing

__all__ = [
    "AdadeltaOptimizer",
    "AdagradOptimizer",
    "AdamOptimizer",
    "BoundedGradientProjection",
    "ConstantNorm",
    "DataParallel",
    "ElasticNet",
    "ElasticNetL1NormTrimmed",
    "ExternalInitializer",
    "FtrlOptimizer",
    "GFtrlOptimizer",
    "GradientClipping",
    "GroupL1Norm",
    "Initializer",
    "L0ApproxNorm",
    "L1Norm",
    "L1NormTrimmed",
    "L2Norm",
    "LogBarrier",
    "LpNorm",
    "MaxNorm",
    "ModelHelper",
    "NetModifier",
    "Optimizer",
    "ParameterInfo",
    "ParameterSharing",
    "ParameterTags",
    "RegularizationBy",
    "Regularizer",
    "RmsPropOptimizer",
    "SgdOptimizer",
    "SparseL1Norm",
    "SparseL2Norm",
    "SparseLpNorm",
    "StormOptimizer",
    "UseOptimizer",
    "UseRegularizer",
    "WeightScale",
    "WngradOptimizer",
    "YellowFinOptimizer",
    "add_weight_decay",
    "apply_regularizers_after_optimizer",
    "apply_regularizers_on_loss",
    "arg_scope",
    "brew",
    "build",
    "build_adadelta",
    "build_adagrad",
    "build_adam",
    "build_ftrl",
    "build_gftrl",
    "build_rms_prop",
    "build_sgd",
    "build_storm",
    "build_wngrad",
    "build_yellowfin",
    "data_parallel",
    "initializers",
    "load",
    "predictor_net",
    "save",
    "state_blobs",
]
