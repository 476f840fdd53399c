"""Lines for the table of gradients to check: shapes, rows, segments and order."""

from typing import Any

import numpy as np
from tests.operators.array_samples import IDS, LENGTHS, SCATTERED, i32, mask
from tests.operators.make import f32, ints


def distinct(*shape: int) -> np.ndarray:
    """Floats without two that are nearly the same, in no order."""
    count = int(np.prod(shape))
    return (
        (np.random.default_rng(count).permutation(count) / 2 - 1).astype(np.float32).reshape(shape)
    )


ARRAY_GRADIENTS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("AddPadding", [f32(4, 2), LENGTHS], {"padding_width": 2, "n_outputs": 2}),
    ("AddPadding", [f32(4, 2), LENGTHS, f32(2)], {"n_outputs": 2}),
    ("AddPadding", [f32(4, 2), LENGTHS, f32(2), f32(2)], {"n_outputs": 2, "padding_width": 2}),
    ("AddPadding", [f32(4)], {"n_outputs": 1, "end_padding_width": 0}),
    ("Alias", [f32(3)], {}),
    ("BatchGather", [f32(2, 3), ints(2, 0, 2)], {}),
    ("BatchGather", [f32(2, 3), np.array([[1, 1], [2, 0]])], {"match_outer": True}),
    ("BooleanMask", [f32(3, 2), mask(1, 0, 1)], {"n_outputs": 2}),
    ("Concat", [f32(2, 3), f32(2, 1), f32(2, 2)], {}),
    ("Concat", [f32(2, 3), f32(2, 3)], {"axis": 2, "add_axis": True}),
    ("DepthConcat", [f32(2, 3), f32(2, 1)], {}),
    ("DepthSplit", [f32(2, 4)], {"n_outputs": 2}),
    ("EnsureDense", [f32(3)], {}),
    ("Expand", [f32(3, 1), ints(2, 1, 4)], {}),
    ("ExpandDims", [f32(2, 3)], {"dims": [0, 3]}),
    ("Flatten", [f32(2, 3, 4)], {"axis": 2}),
    ("FlattenToVec", [f32(2, 3)], {}),
    ("Gather", [f32(4, 2), SCATTERED], {}),
    ("Gather", [f32(4, 2), SCATTERED.reshape(2, 2)], {}),
    ("Gather", [f32(4, 2), SCATTERED], {"dense_gradient": True}),
    ("Gather", [f32(4, 2), ints(-1, 1, -1).reshape(3, 1)], {"dense_gradient": True}),
    ("Gather", [f32(2, 3, 2), i32(2, 0)], {"axis": 1}),
    ("Gather", [f32(2, 3), np.array([[0], [2]])], {"axis": 1, "match_outer": True}),
    ("LengthsMax", [distinct(4, 2), LENGTHS], {}),
    ("LengthsMean", [f32(4, 2), LENGTHS], {}),
    ("LengthsSum", [f32(4, 2), LENGTHS], {}),
    ("LengthsTile", [f32(3, 2), LENGTHS], {}),
    ("LengthsTopK", [distinct(4), LENGTHS], {"k": 2}),
    ("LengthsWeightedSum", [f32(4, 2), f32(4), LENGTHS], {"grad_on_weights": True}),
    ("LengthsWeightedSum", [f32(4), f32(4), LENGTHS], {}),
    ("NCHW2NHWC", [f32(2, 3, 4, 2)], {}),
    ("NHWC2NCHW", [f32(2, 3, 4)], {}),
    ("PackSegments", [LENGTHS, f32(4, 2)], {"n_outputs": 1}),
    ("PackSegments", [LENGTHS, f32(4)], {"n_outputs": 1, "max_length": 2}),
    ("PrependDim", [f32(4, 3)], {"dim_size": 2}),
    ("RemovePadding", [f32(6, 2), i32(4, 2)], {"n_outputs": 2}),
    ("RemovePadding", [f32(6, 2)], {"n_outputs": 1, "end_padding_width": 2}),
    ("Reshape", [f32(2, 3, 4)], {"shape": [0, -1]}),
    ("SequenceMask", [f32(2, 3), i32(1, 2)], {"mode": "sequence", "fill_val": 0.5}),
    ("SequenceMask", [f32(2, 2, 3)], {"mode": "upper", "axis": 2, "batch": 0, "fill_val": 0.5}),
    ("Slice", [f32(3, 4)], {"starts": [1, 0], "ends": [-1, 2]}),
    ("Slice", [f32(3, 4), ints(1), ints(-2)], {}),
    ("SortedSegmentMean", [f32(4, 2), IDS], {}),
    ("SortedSegmentSum", [f32(4, 2), IDS], {}),
    ("SparseLengthsMean", [f32(4, 2), SCATTERED, LENGTHS], {}),
    ("SparseLengthsSum", [f32(4, 2), SCATTERED, LENGTHS], {}),
    ("SparseLengthsWeightedSum", [f32(4, 2), f32(4), SCATTERED, LENGTHS], {}),
    ("SparseSortedSegmentMean", [f32(4, 2), SCATTERED, IDS], {}),
    ("SparseSortedSegmentSum", [f32(4, 2), SCATTERED, IDS], {}),
    ("SparseToDense", [SCATTERED, f32(4, 2)], {}),
    ("SparseToDenseMask", [ints(5, 1, 9), f32(3), f32()], {"mask": [1, 2, 5], "n_outputs": 1}),
    ("SparseToDenseMask", [ints(5, 1, 9), f32(3, 2), f32(2), i32(1, 2)], {"mask": [1, 5]}),
    ("SparseUnsortedSegmentMean", [f32(4, 2), SCATTERED, i32(1, 0, 1, 3)], {}),
    ("SparseUnsortedSegmentSum", [f32(4, 2), SCATTERED, i32(1, 0, 1, 3)], {}),
    ("Split", [f32(2, 6)], {"n_outputs": 3}),
    ("Split", [f32(4, 2), i32(1, 3)], {"n_outputs": 2, "axis": 0}),
    ("Split", [f32(2, 3)], {"n_outputs": 3, "axis": -1, "add_axis": True}),
    ("SplitByLengths", [f32(6, 1), i32(1, 2, 2, 1)], {"n_outputs": 2, "axis": 0}),
    ("Squeeze", [f32(1, 3, 1)], {"dims": [0, 2]}),
    ("Tile", [f32(2, 3)], {"tiles": 2, "axis": 1}),
    ("Tile", [f32(2), ints(3), ints(0)], {}),
    ("TopK", [distinct(2, 4)], {"k": 2, "n_outputs": 2}),
    ("TopK", [distinct(4, 2), ints(5)], {"axis": 0, "n_outputs": 3}),
    ("Transpose", [f32(2, 3)], {}),
    ("Transpose", [f32(2, 3, 4)], {"axes": [2, 0, 1]}),
    ("UnpackSegments", [i32(1, 2), f32(2, 2, 2)], {}),
    ("UnpackSegments", [i32(1, 2), f32(2, 4)], {}),
    ("UnsortedSegmentMean", [f32(4, 2), SCATTERED], {}),
    ("UnsortedSegmentSum", [f32(4, 2), SCATTERED], {"num_segments": 6}),
]
