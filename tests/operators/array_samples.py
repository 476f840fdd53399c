"""Samples for the operators on shapes, rows, segments, strings and handles."""

import numpy as np
from tests.operators.make import Sample, f32, ints, of, unary

from procession.operators.cursor import TreeCursor
from procession.operators.handles import AtomicBool, Counter, Mutex, Timer
from procession.operators.mapping import Table
from procession.operators.queue import BlobsQueue

NESTED = ["a", "b:lengths", "b:values"]


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def mask(*values: int) -> np.ndarray:
    return np.array(values, np.bool_)


def strings(*values: str | bytes) -> np.ndarray:
    return np.array(values, object)


LENGTHS = i32(1, 0, 3)
IDS = i32(0, 0, 1, 2)
SCATTERED = i32(2, 0, 2, 3)
RANGES = np.array([[[0, 1], [2, 2]], [[4, 1], [5, 1]]], np.int32)

ARRAYS: dict[str, list[Sample]] = {
    "AddPadding": [
        of(f32(4, 2), LENGTHS, n_outputs=2, padding_width=2),
        of(f32(4, 2), LENGTHS, f32(2), f32(2), n_outputs=2, end_padding_width=2),
        of(f32(4), n_outputs=1),
    ],
    "AddPaddingGradient": [of(f32(10, 2), LENGTHS), of(f32(4))],
    "Alias": [*unary(), of({"any": "object"})],
    "Append": [of(f32(2, 3), f32(1, 3)), of(ints(1), ints(2, 3))],
    "Assert": [of(mask(1, 1)), of(ints(1, 2), error_msg="no")],
    "AtomicAppend": [of(Mutex(), f32(2, 3), ints(1), f32(1, 3), ints(2), n_outputs=2)],
    "AtomicFetchAdd": [of(Mutex(), i32(1), i32(2)), of(Mutex(), np.array(1), np.array(2))],
    "AtomicFetchAdd64": [of(Mutex(), ints(1), ints(2))],
    "AtomicIter": [of(Mutex(), ints(4))],
    "BatchGather": [of(f32(2, 3), ints(2, 0, 2)), of(f32(2, 3), SCATTERED.reshape(2, 2) // 2)],
    "BatchGatherGradient": [
        of(f32(2, 3), ints(2, 0, 2), f32(2, 3)),
        of(f32(2, 3), np.array([[1], [2]]), f32(2, 1), match_outer=True),
        of(f32(4, 2), SCATTERED, f32(4, 2), axis=0),
    ],
    "BatchOneHot": [of(np.array([[1, 2], [3, 4]]), i32(2, 1), ints(1, 3, 4))],
    "BooleanMask": [
        of(f32(3, 2), mask(1, 0, 1), n_outputs=2),
        of(f32(3), mask(1, 0, 1), n_outputs=1),
        of(strings("a", "b"), mask(0, 1), n_outputs=2),
    ],
    "BooleanMaskGradient": [of(mask(1, 0, 1), f32(2, 2))],
    "BooleanMaskLengths": [of(LENGTHS, mask(1, 0, 1, 1))],
    "BooleanUnmask": [of(mask(1, 0, 0), f32(1), mask(1, 1, 1), f32(2))],
    "CheckAtomicBool": [of(AtomicBool())],
    "CheckCounterDone": [of(Counter(1))],
    "Concat": [
        of(f32(2, 3), f32(2, 1)),
        of(f32(2), f32(3), f32(1), axis=0),
        of(f32(2, 3), f32(2, 3), axis=-1, add_axis=True),
        of(strings("a"), strings("b", "c"), axis=0),
    ],
    "ConditionalSetAtomicBool": [of(AtomicBool(), np.array(True))],
    "CopyFromCPUInput": unary(),
    "CopyOnDeviceLike": [of(f32(2, 3), f32(2, 3)), of({"any": "object"}, f32(1))],
    "CountDown": [of(Counter(1))],
    "CheckDatasetConsistency": [of(f32(2, 3), ints(1, 2), fields=["a", "b"])],
    "CloseBlobsQueue": [of(BlobsQueue(2, 1))],
    "ComputeOffset": [
        of(TreeCursor(["a"]), ints(1, 2)),
        of(TreeCursor(NESTED), ints(1, 2), ints(2, 1), f32(3)),
    ],
    "CountUp": [of(Counter(1))],
    "CreateAtomicBool": [of()],
    "CreateBlobsQueue": [of(), of(capacity=3, num_blobs=2, field_names=["a", "b"])],
    "CreateCounter": [of(init_count=3)],
    "CreateMap": [of(), of(key_dtype="int64", value_dtype="float")],
    "CreateMutex": [of()],
    "CreateTreeCursor": [of(), of(fields=NESTED)],
    "DequeueBlobs": [of(BlobsQueue(9, 1, [(ints(1, 2),)] * 9, closed=True))],
    "EnqueueBlobs": [of(BlobsQueue(99, 1), ints(1, 2))],
    "ReadNextBatch": [
        of(TreeCursor(["a"]), ints(1, 2), batch_size=2),
        of(
            TreeCursor(NESTED),
            *(ints(1, 2), ints(2, 1), f32(3)),
            n_outputs=3,
        ),
    ],
    "ReadRandomBatch": [
        of(TreeCursor(["a"]), ints(1, 0), ints(0, 1, 2).reshape(3, 1), f32(2, 3), batch_size=2),
        of(
            TreeCursor(NESTED),
            *(ints(1, 0), ints(0, 0, 1, 2, 2, 3).reshape(3, 2)),
            *(ints(1, 2), ints(2, 1), f32(3)),
            n_outputs=3,
        ),
    ],
    "ResetCursor": [of(TreeCursor(["a"]))],
    "SafeDequeueBlobs": [
        of(BlobsQueue(9, 1, [(ints(1, 2),)] * 9, closed=True), n_outputs=2, num_records=2)
    ],
    "SafeEnqueueBlobs": [of(BlobsQueue(99, 1), ints(1, 2), n_outputs=2)],
    "DepthConcat": [of(f32(2, 3), f32(2, 1))],
    "DepthSplit": [of(f32(2, 4), n_outputs=2), of(f32(2, 4), i32(1, 3), n_outputs=2)],
    "EnsureCPUOutput": unary(),
    "EnsureDense": unary(),
    "Expand": [of(f32(3, 1), ints(2, 1, 4)), of(f32(3), ints(1))],
    "ExpandDims": [of(f32(2, 3), dims=[0, 3]), of(f32(), dims=[0])],
    "ExpandGradient": [of(f32(2, 3, 4), f32(3, 1))],
    "Fail": [],
    "FeedBlob": [of(value="text")],
    "Find": [of(i32(3, 1, 3), i32(3, 9, 1)), of(ints(), ints(1), missing_value=-7)],
    "FindDuplicateElements": [of(ints(1, 2, 1, 1)), of(strings("a", "a"))],
    "Flatten": [of(f32(2, 3, 4), axis=2), of(f32(2, 3)), of(f32(), axis=0)],
    "FlattenToVec": [of(f32(2, 3)), of(f32(6))],
    "Free": [of(f32(2))],
    "Gather": [
        of(f32(4, 2), SCATTERED),
        of(f32(4, 2), ints(-1, 0).reshape(2, 1)),
        of(f32(2, 3, 2), i32(2, 0), axis=1),
        of(f32(2, 3), np.array([[0], [2]]), axis=1, match_outer=True),
        of(strings("a", "b"), ints(1, 1)),
    ],
    "GatherPadding": [
        of(f32(6, 2), i32(4, 2), n_outputs=2),
        of(f32(6, 2), i32(4, 2), n_outputs=1, end_padding_width=0),
    ],
    "GatherRanges": [of(f32(6), RANGES), of(strings(*"abcdef"), RANGES)],
    "GetAllBlobNames": [of()],
    "HasElements": [of(f32(0), f32(1)), of(f32(0)), of("text")],
    "IsEmpty": [of(f32(0)), of(f32(1)), of("text")],
    "KeyValueToMap": [of(ints(1, 2), f32(2))],
    "LengthsGather": [of(f32(4, 2), LENGTHS, ints(2, 0, 1))],
    "LengthsIndicesInGradientMeanGradient": [of(f32(3, 2), LENGTHS, f32(4, 2))],
    "LengthsIndicesInGradientSumGradient": [of(f32(3, 2), LENGTHS, f32(4, 2))],
    "LengthsMax": [of(f32(4, 2), LENGTHS), of(ints(3, 1), i32(2))],
    "LengthsMaxWithMainInputAndForwardOutputGradient": [
        of(f32(3, 2), f32(3, 2), LENGTHS, f32(4, 2))
    ],
    "LengthsMean": [of(f32(4, 2), LENGTHS), of(f32(0), i32())],
    "LengthsPad": [of(f32(4), LENGTHS, target_length=3, padding_value=-1.0)],
    "LengthsPartition": [
        of(LENGTHS, i32(4, 3, 2, 5), f32(4, 2), n_outputs=6),
        of(LENGTHS, i32(4, 3, 2, 5), n_outputs=4, pack_first_input=True),
    ],
    "LengthsRangeFill": [of(LENGTHS)],
    "LengthsSum": [of(f32(4, 2), LENGTHS), of(ints(1, 2, 3), i32(2, 1))],
    "LengthsTile": [of(f32(3, 2), LENGTHS), of(strings("a", "b"), i32(1, 2))],
    "LengthsToOffsets": [of(LENGTHS), of(LENGTHS, include_last_offset=True)],
    "LengthsToRanges": [of(LENGTHS)],
    "LengthsToSegmentIds": [of(LENGTHS)],
    "LengthsToShape": [of(i32(2, 2, 2))],
    "LengthsToWeights": [of(LENGTHS, power=1.0)],
    "LengthsTopK": [of(f32(4), LENGTHS, k=2)],
    "LengthsTopKGradient": [of(i32(1, 3), np.array([[0, -1], [2, 0]]), f32(2, 2), k=2)],
    "LengthsWeightedSum": [of(f32(4, 2), f32(4), LENGTHS, grad_on_weights=True)],
    "LengthsWeightedSumGradient": [of(f32(4), f32(3, 2), LENGTHS)],
    "LengthsWeightsGradient": [of(f32(3, 2), f32(4, 2), LENGTHS)],
    "MapToKeyValue": [of(Table(ints(1, 2), f32(2)))],
    "MergeDim": [of(f32(2, 3, 4)), of(f32(1, 3))],
    "NCHW2NHWC": [of(f32(2, 3, 4, 5)), of(f32(2, 2, 2))],
    "NHWC2NCHW": [of(f32(2, 3, 4, 5)), of(f32(2, 2, 2))],
    "NumpyTile": [of(f32(2, 3), ints(2, 1))],
    "OneHot": [of(ints(1, 0, 5), ints(3))],
    "PackSegments": [
        of(LENGTHS, f32(4, 2), n_outputs=2, return_presence_mask=True),
        of(LENGTHS, f32(4), n_outputs=1, max_length=2, pad_minf=True),
        of(i32(1, 0), strings("a"), n_outputs=1),
    ],
    "PackSegmentsGradient": [of(LENGTHS, f32(3, 2, 2))],
    "PadEmptySamples": [of(LENGTHS, f32(4, 2), ints(1, 2, 3, 4), n_outputs=3)],
    "Partition": [
        of(i32(4, 3, 2), f32(3, 2), n_outputs=4),
        of(ints(-1, 3, 2), n_outputs=2, pack_first_input=True),
    ],
    "PrependDim": [of(f32(4, 3), dim_size=2)],
    "RemovePadding": [
        of(f32(6, 2), i32(4, 2), n_outputs=2),
        of(f32(6, 2), n_outputs=1, end_padding_width=0),
    ],
    "RemovePaddingGradient": [of(f32(2, 2), i32(4, 2)), of(f32(2, 2))],
    "ResetCounter": [of(Counter(3), n_outputs=1, init_count=5), of(Counter(3), n_outputs=0)],
    "Reshape": [
        of(f32(2, 3, 4), shape=[0, -1]),
        of(f32(2, 3), i32(3, 2)),
        of(f32(1), shape=[]),
        of(strings("a", "b"), shape=[2, 1]),
    ],
    "ReshapeGradient": [of(f32(2, 3), ints(3, 2)), of(f32(2, 3), ints(2, 3))],
    "ResizeLike": [of(f32(2, 3), ints(1, 2, 3, 4, 5, 6)), of(f32(2, 3), f32(2, 3))],
    "RetrieveCount": [of(Counter(3))],
    "Scatter": [
        of(f32(3, 3), np.array([[0, 1, 2], [2, 0, 0]]), f32(2, 3), axis=0),
        of(f32(2, 3), np.array([[2], [0]]), f32(2, 1)),
    ],
    "ScatterAssign": [of(f32(4, 2), i32(2, 0), f32(2, 2)), of(f32(2), i32(1, 0), f32(2))],
    "ScatterWeightedSum": [
        of(f32(4, 2), f32(1), i32(2, 2), f32(2, 2), f32(1)),
        of(f32(4), f32(), i32(2, 0), f32(2), f32(1), f32(2), f32(1)),
    ],
    "SegmentIdsToLengths": [of(i32(0, 0, 2)), of(i32(0, 0, 2), f32(4, 2))],
    "SegmentIdsToRanges": [of(i32(0, 0, 2)), of(i32(0, 0, 2), f32(4, 2))],
    "SegmentOneHot": [of(LENGTHS, ints(1, 2, 0, 1), ints(3))],
    "SequenceMask": [
        of(f32(2, 3), i32(1, 2), mode="sequence"),
        of(f32(2, 3), i32(0, 2), mode="window", radius=1),
        *[of(f32(2, 3), mode=mode) for mode in ("upper", "lower", "upperdiag", "lowerdiag")],
        of(f32(2, 2, 3, 2), mode="upper", axis=2, batch=0, repeat_from_axis=3, fill_val=0.5),
    ],
    "Shape": [of(f32(2, 3)), of(f32(2, 3), axes=[1, 0]), of(f32())],
    "Size": [of(f32(2, 3)), of(f32())],
    "Slice": [
        of(f32(3, 4), starts=[1, 0], ends=[-1, 2]),
        of(f32(3, 4), ints(1), ints(-2)),
    ],
    "SliceGradient": [of(f32(2, 2), f32(3, 4), starts=[1, 0], ends=[-1, 2])],
    "SortAndShuffle": [
        of(TreeCursor(["a", "b"]), f32(5), f32(5), batch_size=2, shuffle_size=2),
        of(TreeCursor(NESTED), ints(1, 2), ints(2, 1), f32(3), sort_by_field_idx=0),
    ],
    "SortedSegmentMean": [of(f32(4, 2), IDS), of(f32(0, 2), i32())],
    "SortedSegmentMeanGradient": [of(f32(3, 2), IDS)],
    "SortedSegmentSum": [of(f32(4, 2), IDS), of(f32(4), IDS)],
    "SortedSegmentSumGradient": [of(f32(3, 2), IDS)],
    "SparseLengthsIndicesInGradientMeanGradient": [of(f32(3, 2), LENGTHS, SCATTERED)],
    "SparseLengthsIndicesInGradientSumGradient": [of(f32(3, 2), LENGTHS, SCATTERED)],
    "SparseLengthsIndicesInGradientWeightedSumGradient": [
        of(f32(4), f32(3, 2), LENGTHS, SCATTERED)
    ],
    "SparseLengthsMean": [of(f32(4, 2), SCATTERED, LENGTHS)],
    "SparseLengthsSum": [of(f32(4, 2), SCATTERED, LENGTHS)],
    "SparseLengthsWeightedSum": [of(f32(4, 2), f32(4), SCATTERED, LENGTHS)],
    "SparseSortedSegmentMean": [of(f32(4, 2), SCATTERED, IDS)],
    "SparseSortedSegmentSum": [of(f32(4, 2), SCATTERED, IDS)],
    "SparseToDense": [of(SCATTERED, f32(4, 2)), of(SCATTERED, f32(4), f32(5, 1))],
    "SparseToDenseMask": [
        of(ints(5, 1, 9), f32(3), f32(), mask=[1, 2, 5], n_outputs=1),
        of(
            ints(5, 1, 9),
            f32(3, 2),
            f32(2),
            i32(1, 2),
            mask=[1, 2, 5],
            return_presence_mask=True,
            n_outputs=2,
        ),
    ],
    "SparseToDenseMaskGradient": [of(ints(5, 1, 9), f32(2, 3), i32(1, 2), mask=[1, 2, 5])],
    "SparseUnsortedSegmentMean": [of(f32(4, 2), SCATTERED, i32(1, 0, 1, 3))],
    "SparseUnsortedSegmentSum": [of(f32(4, 2), SCATTERED, i32(1, 0, 1, 3), num_segments=5)],
    "Split": [
        of(f32(2, 6), n_outputs=3),
        of(f32(4, 2), n_outputs=2, axis=0, split=[1, 3]),
        of(f32(4, 2), i32(1, 3), n_outputs=2, axis=0),
        of(f32(2, 3), n_outputs=3, axis=-1, add_axis=True),
    ],
    "SplitByLengths": [
        of(f32(6, 1), i32(1, 2, 2, 1), n_outputs=2, axis=0),
        of(f32(6), i32(1, 1, 1, 0), n_outputs=2, axis=0, use_scaling_lengths=True),
    ],
    "SplitGradient": [of(f32(2, 3), f32(2, 1)), of(f32(2), f32(2), axis=1, add_axis=True)],
    "Squeeze": [of(f32(1, 3, 1), dims=[0, 2]), of(f32(1, 2), dims=[0])],
    "StringEndsWith": [of(strings("abc", "bd"), suffix="c")],
    "StringEquals": [of(strings(b"abc", b"bd"), text="abc")],
    "StringJoin": [
        of(strings("a", "b")),
        of(np.array([[b"a", b"b"], [b"c", b"d"]], object), delimiter="-", axis=1),
        of(f32(2, 3)),
    ],
    "StringPrefix": [of(strings("abcd", "a")), of("text")],
    "StringStartsWith": [of(strings("abc", "bd"), prefix=b"a")],
    "StringSuffix": [of(strings("abcd", "a"), length=2), of(strings("abcd"), length=0)],
    "ThrowException": [],
    "Tile": [of(f32(2, 3), tiles=2, axis=1), of(f32(2), ints(3), ints(0))],
    "TileGradient": [of(f32(2, 6), tiles=2, axis=-1)],
    "TimerBegin": [of(counter_name="timer")],
    "TimerEnd": [of(Timer("timer"))],
    "TimerGet": [of(Timer("timer"))],
    "TimerGetAndEnd": [of(Timer("timer"))],
    "TrimDataset": [
        of(f32(5, 2), ints(1, 2, 3, 4, 5), fields=["a", "b"], multiple_of=2, n_outputs=2),
        of(ints(1, 2), ints(2, 1), f32(3), fields=NESTED, n_outputs=3),
    ],
    "TopK": [
        of(f32(2, 4), k=2, n_outputs=2),
        of(f32(4, 2), ints(3), axis=0, n_outputs=3),
        of(ints(3, 1, 3), k=5, n_outputs=3),
    ],
    "TopKGradient": [of(f32(2, 2), np.array([[0, 2], [1, 0]]), f32(2, 3))],
    "Transpose": [
        of(f32(2, 3)),
        of(f32(3, 3)),
        of(f32(2, 3, 4), axes=[2, 0, 1]),
        of(f32()),
    ],
    "Unique": [of(ints(5, 1, 5, 2), n_outputs=2), of(ints(5, 1), n_outputs=1)],
    "UnpackSegments": [of(i32(1, 2), f32(2, 2, 2)), of(i32(1, 2), f32(2, 2), max_length=2)],
    "UnpackSegmentsGradient": [of(i32(1, 2), f32(3, 2), f32(2, 4, 2))],
    "UnsortedSegmentMean": [of(f32(4, 2), SCATTERED)],
    "UnsortedSegmentMeanGradient": [of(f32(5, 2), SCATTERED)],
    "UnsortedSegmentSum": [of(f32(4, 2), SCATTERED), of(f32(4), SCATTERED, num_segments=6)],
    "UnsortedSegmentSumGradient": [of(f32(5, 2), SCATTERED)],
    "WallClockTime": [of()],
    "ZeroGradient": [of(f32(2, 3))],
}
