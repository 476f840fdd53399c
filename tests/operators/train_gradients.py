"""Lines for the table of gradients to check: normalization, dropout, losses and images."""

from typing import Any

import numpy as np
from tests.operators.array_gradients import distinct
from tests.operators.array_samples import IDS, LENGTHS, SCATTERED, i32
from tests.operators.make import f32, ints, positive
from tests.operators.train_loss_samples import CLASSES, GRADES, SHARES, SIGNS, TARGETS

CHANNELS = [f32(3), f32(3), f32(3), positive(3)]
AFFINE = [f32(4), f32(4)]
WEIGHTED = [f32(4, 2), f32(4), SCATTERED]

TRAIN_GRADIENTS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("AffineChannel", [f32(2, 3, 2), f32(3), f32(3)], {}),
    ("AffineChannel", [f32(2, 3, 2), f32(3), f32(3)], {"is_learnable": True}),
    ("AffineChannel", [f32(2, 2, 3), f32(3), f32(3)], {"is_learnable": True, "order": "NHWC"}),
    ("Dropout", [f32(5, 4)], {"is_test": 0, "ratio": 0.3, "n_outputs": 2}),
    ("Dropout", [f32(5, 4)], {"is_test": 1, "ratio": 0.3, "n_outputs": 1}),
    ("GroupNorm", [f32(2, 4, 3, 2), *AFFINE], {"group": 2, "n_outputs": 3}),
    ("GroupNorm", [f32(2, 3, 4), *AFFINE], {"group": 2, "order": "NHWC", "n_outputs": 3}),
    ("GroupNorm", [f32(3, 4), *AFFINE], {"num_groups": 1, "epsilon": 0.1, "n_outputs": 3}),
    ("InstanceNorm", [f32(2, 3, 4), f32(3), f32(3)], {"n_outputs": 1}),
    ("InstanceNorm", [f32(2, 3, 4), f32(3), f32(3)], {"n_outputs": 2}),
    ("InstanceNorm", [f32(2, 3, 2, 2), f32(3), f32(3)], {"n_outputs": 3, "epsilon": 0.1}),
    ("InstanceNorm", [f32(2, 4, 3), f32(3), f32(3)], {"n_outputs": 3, "order": "NHWC"}),
    ("LayerNorm", [f32(3, 4)], {}),
    ("LayerNorm", [f32(2, 3, 4)], {"axis": 2, "epsilon": 0.1}),
    ("LayerNorm", [f32(3, 4), *AFFINE], {"elementwise_affine": True}),
    ("LayerNorm", [f32(2, 2, 2), *AFFINE], {"elementwise_affine": True, "epsilon": 0.1}),
    ("SpatialBN", [f32(4, 3, 2), *CHANNELS], {"is_test": 0, "n_outputs": 5}),
    ("SpatialBN", [f32(5, 3), *CHANNELS], {"is_test": 0, "epsilon": 0.1, "n_outputs": 5}),
    ("SpatialBN", [f32(2, 3, 3), *CHANNELS], {"is_test": 0, "order": "NHWC", "n_outputs": 5}),
    ("SpatialBN", [f32(2, 3, 2, 2), *CHANNELS], {"is_test": 1, "n_outputs": 1}),
    ("SpatialBN", [f32(4, 3), *CHANNELS], {"is_test": 1, "order": "NHWC", "n_outputs": 1}),
    ("BernoulliJSD", [SHARES, SHARES[::-1].copy()], {}),
    ("RMSNorm", [f32(3, 4), *AFFINE], {}),
    ("RMSNorm", [f32(2, 2, 2, 2), *AFFINE], {"axis": 2, "eps": 0.1}),
    *(
        (f"SortedSegmentRange{kind}", [distinct(4, 2), IDS], {})
        for kind in ("LogMeanExp", "LogSumExp", "Max", "Mean", "Sum")
    ),
    ("BatchToSpace", [f32(4, 2, 2, 3)], {"pad": 1}),
    ("ChannelShuffle", [f32(2, 6, 2)], {"group": 3}),
    ("ChannelShuffle", [f32(2, 2, 6)], {"group": 2, "order": "NHWC"}),
    ("CosineEmbeddingCriterion", [f32(3), SIGNS], {"margin": 0.1}),
    ("LRN", [f32(2, 3, 1, 2)], {"size": 2, "alpha": 0.4, "beta": 0.6, "n_outputs": 2}),
    ("MarginRankingCriterion", [f32(3), f32(3), SIGNS], {}),
    ("MarginRankingCriterion", [f32(3, 1), f32(3, 1), SIGNS], {"margin": 3.0}),
    ("PadImage", [f32(1, 2, 3, 4)], {"pads": [1, 0, 2, -1]}),
    ("PadImage", [f32(1, 2, 3, 4)], {"pad": 2, "mode": "reflect"}),
    ("PadImage", [f32(1, 2, 3, 4)], {"pads": [3, -1, -1, 2], "mode": "edge"}),
    ("PadImage", [f32(1, 3, 4, 2)], {"pads": [2, -1, -1, 3], "mode": "reflect", "order": "NHWC"}),
    ("PairWiseLoss", [f32(5, 1), GRADES.reshape(5, 1)], {}),
    ("PairWiseLoss", [f32(5), GRADES, i32(3, 0, 2)], {}),
    ("ResizeNearest", [f32(1, 2, 3, 4)], {"width_scale": 1.5, "height_scale": 0.5}),
    ("ResizeNearest", [f32(1, 3, 4, 2), np.float32([2, 0.5])], {"order": "NHWC"}),
    ("SigmoidCrossEntropyWithLogits", [f32(2, 3), TARGETS], {}),
    ("SigmoidCrossEntropyWithLogits", [f32(3), TARGETS[0]], {}),
    ("SigmoidCrossEntropyWithLogits", [f32(2, 3), TARGETS], {"log_D_trick": True}),
    ("SigmoidCrossEntropyWithLogits", [f32(2, 3), TARGETS], {"unjoined_lr_loss": True}),
    ("SoftmaxWithLoss", [f32(3, 4), ints(0, 2, 1), f32(3)], {"average_by_batch_size": True}),
    ("SortedSegmentWeightedSum", [f32(4, 2), f32(4), IDS], {}),
    ("SpaceToBatch", [f32(2, 1, 4, 6)], {"pad": 1}),
    ("SparseLengthsWeightedSum", [*WEIGHTED, LENGTHS], {"grad_on_weights": True}),
    ("SparseSortedSegmentWeightedSum", [*WEIGHTED, IDS], {}),
    ("SparseUnsortedSegmentWeightedSum", [*WEIGHTED, i32(1, 0, 1, 3)], {}),
    ("SpatialSoftmaxWithLoss", [f32(1, 3, 2, 2), CLASSES], {}),
    ("SpatialSoftmaxWithLoss", [f32(1, 3, 2, 2), CLASSES, positive(1, 2, 2)], {"scale": 2.0}),
    ("UnsortedSegmentWeightedSum", [f32(4, 2), f32(4), SCATTERED], {}),
    ("UpsampleBilinear", [f32(1, 2, 3, 4)], {"width_scale": 1.5, "height_scale": 2.0}),
    ("UpsampleBilinear", [f32(1, 3, 4, 2), np.float32([0.5, 2])], {"order": "NHWC"}),
    ("WeightedSigmoidCrossEntropyWithLogits", [f32(2, 3), TARGETS, positive(2, 3)], {}),
]
