"""Inputs for the operators that update parameters."""

import numpy as np
from tests.operators.make import Sample, f32, ints, of, positive

RATE = f32(1)
TWICE = ints(2, 0, 2, 3)
ROWS = f32(4, 3)


def table() -> np.ndarray:
    return f32(5, 3)


FUSED = {
    f"{prefix}SparseAdagradFusedWithSparseLengths{kind}Gradient": [
        of(table(), positive(*moment), TWICE, f32(3, 3), RATE, np.array([1, 0, 3], np.int32))
    ]
    for kind in ("Sum", "Mean")
    for prefix, moment in (("", (5, 3)), ("RowWise", (5,)))
}

OPTIMIZERS: dict[str, list[Sample]] = {
    **FUSED,
    "Adadelta": [
        of(f32(3), positive(3), positive(3), f32(3), RATE, decay=0.8),
        of(f32(), positive(), positive(), f32(), f32()),
    ],
    "Adagrad": [
        of(f32(2, 3), positive(2, 3), f32(2, 3), RATE),
        of(f32(3), positive(3), f32(3), RATE, decay=0.9, weight_decay=0.1, n_outputs=3),
        of(f32(3), positive(3), f32(3), f32(), n_outputs=4),
        of(f32(0), positive(0), f32(0), RATE),
    ],
    "Adam": [
        of(f32(2, 3), f32(2, 3), positive(2, 3), f32(2, 3), RATE, ints(3)),
        of(f32(3), f32(3), positive(3), f32(3), RATE, ints(0), beta1=0.5, n_outputs=4),
    ],
    "ClipTensorByScaling": [
        of(f32(2, 3), positive(1) + 2, threshold=1.0),
        of(f32(2, 3), positive(1), positive(1), threshold=9.0),
    ],
    "EnsureClipped": [
        of(f32(2, 3), min=-1.0, max=1.0),
        of(table(), TWICE, ROWS, min=0.0),
    ],
    "Ftrl": [
        of(f32(2, 3), positive(2, 3, 2), f32(2, 3), lambda1=0.5),
        of(f32(3), positive(6), f32(3), positive(1)),
    ],
    "GFtrl": [of(f32(2, 3), positive(2, 3, 2), f32(2, 3), alpha=0.1, lambda1=0.5)],
    "Lars": [of(f32(2, 3), f32(2, 3), positive(1), positive(1), positive(1))],
    "LearningRate": [
        of(ints(3), base_lr=-0.1, policy="exp", gamma=0.5),
        of(ints(3), base_lr=-0.1, policy="hill", gamma=0.5, power=2.0, num_iter=2),
        of(np.array(7), base_lr=0.1, policy="cosine", period=3),
    ],
    "LearningRateAdaption": [
        of(RATE, f32(2, 3), f32(2, 3)),
        of(f32(), f32(3), f32(3), lr_alpha=0.5, normalized_lr_adaption=False),
    ],
    "MomentumSGD": [of(f32(3), f32(3), f32(1), momentum=0.9), of(f32(), f32(), f32(), nesterov=1)],
    "MomentumSGDUpdate": [
        of(f32(3), f32(3), f32(1), f32(3), momentum=0.9, nesterov=1),
        of(f32(2, 3), f32(2, 3), f32(1), f32(2, 3), momentum=0.9),
    ],
    "RmsProp": [
        of(f32(2, 3), positive(2, 3), f32(2, 3), RATE, momentum=0.5),
        of(f32(), positive(), f32(), f32()),
    ],
    "RowWiseCounter": [
        of(ints(1, 2, 3, 4, 5), np.array([1.0, 2, 3, 4, 5]), TWICE, ints(7), counter_halflife=2)
    ],
    "RowWiseSparseAdagrad": [
        of(table(), positive(5), TWICE, ROWS, RATE, weight_decay=0.1),
        of(table(), positive(5), ints(4, 1), f32(2, 3), RATE),
    ],
    "RowWiseSparseAdam": [
        of(table(), table(), positive(5), TWICE, ROWS, RATE, ints(3)),
        of(table(), table(), positive(5), TWICE, ROWS, RATE, ints(3), n_outputs=4),
    ],
    "SparseAdadelta": [of(table(), positive(5, 3), positive(5, 3), TWICE, ROWS, RATE)],
    "SparseAdagrad": [
        of(table(), positive(5, 3), TWICE, ROWS, RATE),
        of(f32(5), positive(5), ints(0, 1).reshape(2, 1), f32(2, 1), RATE, weight_decay=0.1),
        of(table(), positive(5, 3), ints(), f32(0, 3), RATE),
    ],
    "SparseAdam": [
        of(table(), table(), positive(5, 3), TWICE, ROWS, RATE, ints(3), enableRAdam=True),
        of(table(), table(), positive(5, 3), TWICE.astype(np.int32), ROWS, RATE, ints(9)),
        of(table(), table(), positive(5, 3), TWICE, ROWS, RATE, ints(3), n_outputs=4),
    ],
    "SparseFtrl": [of(table(), positive(5, 3, 2), TWICE, ROWS, lambda1=0.5)],
    "SparseLpRegularizer": [
        of(table(), TWICE, ROWS, reg_lambda=0.1),
        of(table(), TWICE, p=1.0, reg_lambda=0.1),
    ],
    "SparseMomentumSGDUpdate": [
        of(ROWS, table(), RATE, table(), TWICE, momentum=0.9),
        of(ROWS, table(), RATE, table(), ints(3, 1, 0, 2), momentum=0.9, nesterov=1),
    ],
    "SparseNormalize": [of(table(), TWICE, ROWS), of(table(), TWICE, use_max_norm=False)],
    "SparseStorm": [of(table(), table(), positive(1), ROWS, TWICE, RATE)],
    "SparseWngrad": [of(table(), positive(1), TWICE, ROWS, RATE)],
    "Storm": [of(f32(2, 3), f32(2, 3), positive(1), f32(2, 3), RATE)],
    "WeightScale": [
        of(f32(2, 3), ints(3), stepsize=2, scale=0.5),
        of(f32(2, 3), ints(2), stepsize=2, scale=0.5),
    ],
    "Wngrad": [
        of(f32(2, 3), positive(1), f32(2, 3), RATE),
        of(f32(3), positive(1), f32(3), RATE, n_outputs=3),
        of(f32(3), positive(), f32(3), RATE, n_outputs=4),
    ],
    "YellowFin": [
        of(
            *(f32(2, 3), f32(2, 3), positive(1), positive(1) / 4, f32(20), f32(2, 3)),
            *(positive(2, 3), positive(5) / 1000, f32(2, 3), ints(3)),
        ),
        of(
            *(f32(3), f32(3), positive(1), positive(1) / 4, f32(4), f32(3), positive(3)),
            *(positive(5), f32(3), ints(1)),
            nesterov=1,
            curv_win_width=4,
        ),
    ],
}
