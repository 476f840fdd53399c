"""Lines for the table of gradients to check: convolutions and pooling."""

from typing import Any

from tests.operators.array_gradients import distinct
from tests.operators.make import f32

NHWC = {"order": "NHWC"}

WINDOW_GRADIENTS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Conv", [f32(2, 3, 3, 2), f32(2, 3, 1, 1), f32(2)], {"kernel": 1}),
    ("Conv", [f32(2, 3, 2, 3), f32(2, 1, 1, 3), f32(2)], {"kernel": 1, **NHWC}),
    ("Conv", [f32(1, 2, 4, 5), f32(2, 2, 3, 3), f32(2)], {"kernel": 3, "legacy_pad": 2}),
    ("Conv", [f32(1, 2, 5, 5), f32(2, 2, 1, 1)], {"kernel": 1, "stride": 3, "legacy_pad": 2}),
    ("Conv", [f32(16, 1, 3, 3), f32(2, 1, 2, 2), f32(2)], {"kernel": 2, "pad": 1}),
    ("Conv", [f32(1, 4, 4), f32(4, 1, 2), f32(4)], {"kernel": 2, "group": 4}),
    ("Conv", [f32(1, 2, 3, 3, 3), f32(2, 2, 2, 2, 2)], {"kernel": 2, "pads": [1, 0, 0, 0, 0, 1]}),
    ("Conv", [f32(1, 2, 4, 4), f32(2, 2, 2, 2), f32(2)], {"kernel": 2, "no_gradient_to_input": 1}),
    ("Conv1D", [f32(2, 3, 5), f32(2, 3, 2), f32(2)], {"kernel": 2, "dilation": 2, "pad": 1}),
    ("Conv2D", [f32(1, 2, 4, 3), f32(2, 2, 2, 2)], {"kernel": 2, "stride_h": 2, "stride_w": 1}),
    ("Conv3D", [f32(1, 3, 3, 2, 2), f32(2, 2, 2, 1, 2)], {"kernels": [2, 2, 1], **NHWC}),
    ("ConvTranspose", [f32(2, 2, 3, 2), f32(2, 3, 3, 2), f32(3)], {"kernels": [3, 2], "stride": 2}),
    (
        "ConvTranspose",
        [f32(2, 3, 2, 4), f32(4, 2, 2, 1), f32(2)],
        {"kernel": 2, "stride": 2, "adj": 1, "group": 2, "pads": [1, 0, 0, 1], **NHWC},
    ),
    ("ConvTranspose", [f32(1, 2, 4), f32(2, 3, 3)], {"kernel": 3, "pad": 1}),
    ("ConvTranspose", [f32(1, 2, 2, 3), f32(2, 3, 1, 1), f32(3)], {"kernel": 1}),
    ("ConvTranspose", [f32(1, 1, 2, 2, 2), f32(1, 2, 2, 2, 2), f32(2)], {"kernel": 2, "stride": 3}),
    ("Im2Col", [f32(2, 2, 4, 3)], {"kernel": 2, "pad_l": 1, "pad_b": 1}),
    ("Im2Col", [f32(1, 4, 5, 2)], {"kernels": [2, 3], "stride": 2, **NHWC}),
    ("Im2Col", [f32(1, 2, 5)], {"kernel": 2, "dilation": 2}),
    ("Col2Im", [f32(2, 8, 3, 2), f32(2, 2, 4, 3)], {"kernel": 2}),
    ("MaxPool", [distinct(2, 2, 5, 4)], {"kernel": 2, "stride": 2}),
    ("MaxPool", [distinct(1, 2, 4, 4)], {"kernel": 2, "stride": 2}),
    ("MaxPool", [distinct(1, 4, 5, 2)], {"kernel": 3, "stride": 2, "pad": 1, **NHWC}),
    ("MaxPool", [distinct(2, 3, 3, 2)], {"global_pooling": 1}),
    ("MaxPool", [distinct(1, 2, 6, 6)], {"kernel": 3, "stride": 2, "legacy_pad": 3}),
    ("MaxPool1D", [distinct(2, 2, 7)], {"kernel": 3}),
    ("MaxPool2D", [distinct(1, 2, 5, 4)], {"kernel_h": 3, "kernel_w": 2}),
    ("MaxPool3D", [distinct(1, 2, 4, 3, 2)], {"kernel": 2}),
    ("AveragePool", [f32(2, 2, 5, 4)], {"kernel": 2, "stride": 2}),
    ("AveragePool", [f32(1, 2, 4, 4)], {"kernel": 2, "stride": 2}),
    ("AveragePool", [f32(1, 4, 5, 2)], {"kernel": 3, "stride": 2, "pad": 1, **NHWC}),
    ("AveragePool", [f32(1, 2, 4, 4)], {"kernel": 3, "pad": 1, "count_include_pad": 1}),
    ("AveragePool", [f32(2, 3, 2, 3)], {"global_pooling": 1, **NHWC}),
    ("AveragePool1D", [f32(2, 2, 7)], {"kernel": 3, "stride": 2, "legacy_pad": 2}),
    ("AveragePool2D", [f32(1, 2, 5, 5)], {"kernel": 1, "stride": 2}),
    ("AveragePool3D", [f32(1, 2, 4, 3, 2)], {"kernel": 2, "stride": 2, "legacy_pad": 3}),
    ("LpPool", [f32(2, 2, 5, 4)], {"kernel": 2, "stride": 2}),
    ("LpPool", [f32(2, 5, 2)], {"kernel": 3, "pad": 1, "p": 3.0, **NHWC}),
    ("LpPool", [f32(2, 2, 5, 4)], {"kernel": 2, "p": 1.0}),
]
