"""Samples of losses, of images resized and padded, and of weighted segments; see `samples`."""

import numpy as np
from tests.operators.array_samples import IDS, LENGTHS, SCATTERED, i32
from tests.operators.make import Sample, f32, of, positive, unary

SIGNS = i32(1, -1, 1)
TARGETS = np.float32([[0, 1, 0.25], [1, 0, 1]])
CLASSES = i32(0, 2, -1, 1).reshape(1, 2, 2)
SHARES = np.float32([0.125, 0.5, 0.75])
GRADES = np.float32([2, 0, 1, 1, 0])


def sigmoid_loss() -> list[Sample]:
    return [
        of(f32(2, 3), TARGETS),
        of(f32(2, 3), TARGETS, log_D_trick=True),
        of(f32(2, 3), TARGETS, unjoined_lr_loss=True),
        of(f32(3), TARGETS[0]),
        of(f32(), TARGETS[0, 0]),
        of(f32(0, 3), f32(0, 3)),
    ]


def padded() -> list[Sample]:
    return [
        of(f32(2, 2, 3, 4), pad=1),
        of(f32(2, 2, 3, 4), pads=[1, 0, 0, 2], value=2.5),
        of(f32(2, 2, 3, 4), pad_t=-1, pad_r=1),
        of(f32(2, 2, 3, 4), pad=2, mode="reflect"),
        of(f32(2, 3, 4, 2), pads=[0, 3, 1, 0], mode="edge", order="NHWC"),
        of(f32(2, 3, 4, 2), pad=1, order="NHWC"),
        of(f32(1, 1, 3, 4), pads=[-1, 0, 1, 0], mode="reflect"),
        of(f32(1, 1, 3, 4), pads=[-1, 0, 1, 0]),
    ]


def resized() -> list[Sample]:
    return [
        of(f32(2, 2, 3, 4), width_scale=2.0, height_scale=1.5),
        of(f32(2, 2, 3, 4), np.float32([2, 0.5])),
        of(f32(2, 3, 4, 2), width_scale=0.75, order="NHWC"),
    ]


def resized_gradient() -> list[Sample]:
    return [
        of(f32(2, 2, 4, 8), f32(2, 2, 3, 4), width_scale=2.0, height_scale=1.5),
        of(f32(2, 2, 6, 2), f32(2, 2, 3, 4), np.float32([2, 0.5])),
        of(f32(2, 3, 3, 2), f32(2, 3, 4, 2), width_scale=0.75, order="NHWC"),
    ]


TRAIN_LOSSES: dict[str, list[Sample]] = {
    "AccumulateHistogram": [of(f32(2, 3), num_buckets=4), of(f32(0), upper_bound=2.0)],
    "BernoulliJSD": [of(SHARES, SHARES[::-1].copy())],
    "BernoulliJSDGradient": [of(f32(3), SHARES, SHARES[::-1].copy())],
    "Bucketize": [of(f32(2, 3), boundaries=[-1.0, 0.0, 1.0]), of(IDS, boundaries=[0.5])],
    "NegateGradient": unary(),
    "RMSNorm": [of(f32(2, 3), f32(3), f32(3)), of(f32(2, 3, 2), f32(2), f32(2), axis=2, eps=0.1)],
    "RMSNormGradient": [of(f32(2, 3), f32(2, 3), f32(3), positive(2))],
    **{
        f"SortedSegmentRange{kind}": [of(f32(4, 2), IDS), of(f32(4), IDS)]
        for kind in ("LogMeanExp", "LogSumExp", "Max", "Mean", "Sum")
    },
    **{
        f"SortedSegmentRange{kind}Gradient": [of(f32(4, 2), f32(3, 2), f32(3, 2), IDS)]
        for kind in ("LogMeanExp", "LogSumExp", "Max", "Mean", "Sum")
    },
    "BatchToSpace": [of(f32(4, 2, 2, 3)), of(f32(9, 1, 2, 2), block_size=3, pad=1)],
    "ChannelShuffle": [of(f32(2, 6, 2), group=3), of(f32(2, 2, 4), group=2, order="NHWC")],
    "ChannelShuffleGradient": [of(f32(2, 6, 2), group=3), of(f32(2, 6), group=2)],
    "CosineEmbeddingCriterion": [of(f32(3), SIGNS), of(f32(3, 1), SIGNS, margin=0.5)],
    "CosineEmbeddingCriterionGradient": [of(f32(3), SIGNS, f32(3), margin=0.5)],
    "MarginRankingCriterion": [
        of(f32(3), f32(3), SIGNS),
        of(f32(3, 1), f32(3, 1), SIGNS.astype(np.int64), margin=0.25),
    ],
    "MarginRankingCriterionGradient": [of(f32(3), f32(3), SIGNS, f32(3))],
    "MultiClassAccuracy": [
        of(f32(4, 3), i32(0, 2, 2, 1), n_outputs=2),
        of(f32(0, 3), i32(), n_outputs=2),
    ],
    "PadImage": padded(),
    "PadImageGradient": [
        of(f32(2, 2, 5, 6), pad=1),
        of(f32(2, 2, 5, 6), pad=1, mode="reflect"),
        of(f32(2, 5, 6, 2), pad=2, mode="edge", order="NHWC"),
        of(f32(1, 1, 3, 4), pads=[-1, 0, 1, 0], mode="reflect"),
        of(f32(1, 1, 3, 4), pads=[-1, 0, 1, 0]),
    ],
    "PairWiseLoss": [
        of(f32(5, 1), GRADES.reshape(5, 1)),
        of(f32(5), GRADES, i32(3, 0, 2)),
        of(f32(0, 1), f32(0, 1), i32()),
    ],
    "PairWiseLossGradient": [
        of(f32(5, 1), GRADES.reshape(5, 1), f32(1)),
        of(f32(5), GRADES, f32(3), i32(3, 0, 2)),
    ],
    "Perplexity": [of(positive(4)), of(positive(4, 1))],
    "ResizeNearest": resized(),
    "ResizeNearestGradient": resized_gradient(),
    "SigmoidCrossEntropyWithLogits": sigmoid_loss(),
    "SigmoidCrossEntropyWithLogitsGradient": [
        of(f32(2), f32(2, 3), TARGETS),
        of(f32(2), f32(2, 3), TARGETS, log_D_trick=True),
        of(f32(2), f32(2, 3), TARGETS, unjoined_lr_loss=True),
        of(f32(), f32(3), TARGETS[0]),
        of(f32(), f32(), TARGETS[0, 0]),
    ],
    "SortedSegmentWeightedSum": [of(f32(4, 2), f32(4), IDS), of(f32(4), f32(4), IDS)],
    "SortedSegmentWeightedSumGradient": [of(f32(4), f32(3, 2), IDS)],
    "SpaceToBatch": [of(f32(2, 2, 4, 6)), of(f32(1, 1, 4, 7), block_size=3, pad=1)],
    "SparseLengthsIndicesInGradientWeightedSumWithMainInputGradient": [
        of(f32(4), f32(3, 2), LENGTHS, f32(4, 2), SCATTERED)
    ],
    "SparseLengthsPositionalWeightedSum": [of(f32(4, 2), f32(5), SCATTERED, LENGTHS)],
    "SparseSortedSegmentWeightedSum": [of(f32(4, 2), f32(4), SCATTERED, IDS)],
    "SparseUnsortedSegmentWeightedSum": [
        of(f32(4, 2), f32(4), SCATTERED, i32(1, 0, 1, 3)),
        of(f32(4, 2), f32(4), SCATTERED, i32(1, 0, 1, 3), num_segments=6),
    ],
    "SpatialSoftmaxWithLoss": [
        of(f32(1, 3, 2, 2), CLASSES),
        of(f32(1, 3, 2, 2), CLASSES, positive(1, 2, 2), scale=2.0),
        of(f32(1, 3, 2, 2), CLASSES * 0 - 1),
    ],
    "SpatialSoftmaxWithLossGradient": [
        of(f32(1, 3, 2, 2), CLASSES, positive(1, 3, 2, 2), f32()),
        of(f32(1, 3, 2, 2), CLASSES, positive(1, 2, 2), positive(1, 3, 2, 2), f32(1), scale=2.0),
    ],
    "UnsortedSegmentWeightedSum": [
        of(f32(4, 2), f32(4), SCATTERED),
        of(f32(4), f32(4), SCATTERED, num_segments=6),
    ],
    "UnsortedSegmentWeightedSumGradient": [of(f32(4), f32(4, 2), SCATTERED)],
    "UpsampleBilinear": resized(),
    "UpsampleBilinearGradient": resized_gradient(),
    "WeightedSigmoidCrossEntropyWithLogits": [of(f32(2, 3), TARGETS, positive(2, 3))],
    "WeightedSigmoidCrossEntropyWithLogitsGradient": [
        of(f32(2), f32(2, 3), TARGETS, positive(2, 3))
    ],
}
