"""Samples of the operators that move a window over images: convolutions and pooling."""

from tests.operators.make import Sample, f32, of

NHWC = {"order": "NHWC"}
GROUPED = {"kernel": 2, "group": 2, "stride": 2, "dilation": 2}


def of_dimensions(dimensions: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of an image and of a window of 2."""
    return (5,) * dimensions, (2,) * dimensions


def convolutions(dimensions: int) -> list[Sample]:
    size, kernel = of_dimensions(dimensions)
    return [
        of(f32(2, 3, *size), f32(4, 3, *kernel), f32(4), kernel=2),
        of(f32(2, *size, 3), f32(4, *kernel, 3), kernels=kernel, pad=1, **NHWC),
    ]


def convolution_gradients(dimensions: int) -> list[Sample]:
    size, kernel = of_dimensions(dimensions)
    made = tuple(each - 1 for each in size)
    images, slopes = f32(2, 3, *size), f32(2, 4, *made)
    return [
        of(images, f32(4, 3, *kernel), slopes, kernel=2),
        of(images, f32(4, 3, *kernel), slopes, kernel=2, no_bias=1),
        of(images, f32(4, 3, *kernel), slopes, kernel=2, no_gradient_to_input=1),
        of(images, f32(4, 3, *kernel), slopes, kernel=2, no_bias=1, no_gradient_to_input=1),
    ]


def pools(dimensions: int, **arguments: object) -> list[Sample]:
    size, _ = of_dimensions(dimensions)
    return [
        of(f32(2, 3, *size), kernel=2, stride=2, **arguments),
        of(f32(2, *size, 3), kernel=3, pad=1, **NHWC, **arguments),
        of(f32(2, 3, *size), global_pooling=1, **arguments),
        of(f32(0, 3, *size), kernel=2, **arguments),
        # As large as the images: they may be written over.
        of(f32(2, 3, *size), kernel=3, pad=1, **arguments),
    ]


def pool_gradients(dimensions: int, **arguments: object) -> list[Sample]:
    size, _ = of_dimensions(dimensions)
    made = tuple(each // 2 for each in size)
    positive = abs(f32(2, 3, *made))
    return [
        of(f32(2, 3, *size), positive, f32(2, 3, *made), kernel=2, stride=2, **arguments),
        of(f32(2, 3, *size), abs(f32(2, 3, *size)), f32(2, 3, *size), kernel=3, pad=1, **arguments),
    ]


DIMENSIONS = {"": 2, "1D": 1, "2D": 2, "3D": 3}

WINDOWS: dict[str, list[Sample]] = {
    **{f"Conv{suffix}": convolutions(count) for suffix, count in DIMENSIONS.items()},
    **{
        f"Conv{suffix}Gradient": convolution_gradients(count)
        for suffix, count in DIMENSIONS.items()
    },
    **{
        f"{kind}Pool{suffix}": pools(count)
        for kind in ("Max", "Average")
        for suffix, count in DIMENSIONS.items()
    },
    **{
        f"{kind}Pool{suffix}Gradient": pool_gradients(count)
        for kind in ("Max", "Average")
        for suffix, count in DIMENSIONS.items()
    },
    "LpPool": [*pools(2), *pools(2, p=3.0)],
    "LpPoolGradient": [*pool_gradients(2), *pool_gradients(2, p=1.0)],
    "ConvTranspose": [
        of(f32(2, 4, 3, 4), f32(4, 3, 2, 2), f32(3), kernel=2, stride=2, adj=1),
        of(f32(2, 3, 4, 4), f32(4, 2, 2, 3), f32(6), kernel=2, group=2, pad=1, **NHWC),
        of(f32(2, 4, 5), f32(4, 3, 2), kernel=2, stride=3),
        of(f32(1, 2, 3, 4), f32(2, 2, 1, 1), f32(2), kernel=1),
        of(f32(0, 4, 5), f32(4, 3, 2), kernel=2),
    ],
    "ConvTransposeGradient": [
        of(f32(2, 4, 3, 4), f32(4, 3, 2, 2), f32(2, 3, 7, 9), kernel=2, stride=2, adj=1),
        of(f32(2, 4, 5), f32(4, 3, 2), f32(2, 3, 6), kernel=2, no_bias=1),
        of(f32(2, 4, 5), f32(4, 3, 2), f32(2, 3, 6), kernel=2, no_gradient_to_input=1),
    ],
}
WINDOWS["Im2Col"] = [
    of(f32(2, 3, 4, 5), kernel=2, pad_t=1, pad_r=2),
    of(f32(2, 5, 4, 3), kernels=[3, 2], stride=2, dilation=1, **NHWC),
    of(f32(2, 3, 4, 4), kernel=1),
    of(f32(2, 2, 6), kernel=2, dilation=3),
    of(f32(1, 2, 3, 4, 5), kernel=2, stride=2),
    of(f32(0, 3, 4, 4), kernel=2),
]
WINDOWS["Col2Im"] = [
    of(f32(2, 12, 4, 6), f32(2, 3, 4, 5), kernel=2, pad_t=1, pad_r=2),
    of(f32(2, 2, 2, 18), f32(2, 5, 4, 3), kernels=[3, 2], stride=2, **NHWC),
    of(f32(2, 3, 4, 4), f32(2, 3, 4, 4), kernel=1),
    of(f32(0, 12, 3, 3), f32(0, 3, 4, 4), kernel=2),
]
WINDOWS["Conv"] += [
    of(f32(2, 2, 4, 3), f32(4, 2, 3, 2), f32(4), kernels=[3, 2], pad=1, stride=2),
    of(f32(2, 4, 5, 4), f32(4, 2, 2, 2), f32(4), **GROUPED),
    of(f32(2, 3, 4, 4), f32(3, 3, 3, 3), f32(3), kernel=3, pad=1),
    of(f32(2, 3, 4, 4), f32(3, 3, 1, 1), f32(3), kernel=1),
    # Many images, whose rows are short.
    of(f32(16, 1, 3, 4), f32(2, 1, 2, 2), f32(2), kernel=2, legacy_pad=2),
    of(f32(0, 3, 4, 4), f32(2, 3, 2, 2), kernel=2),
]
WINDOWS["ConvGradient"] += [
    of(f32(2, 4, 5, 4), f32(4, 2, 2, 2), f32(2, 4, 2, 1), **GROUPED),
    of(f32(2, 5, 4, 4), f32(4, 2, 2, 2), f32(2, 2, 1, 4), **GROUPED, **NHWC),
    of(f32(16, 1, 3, 4), f32(2, 1, 2, 2), f32(16, 2, 3, 4), kernel=2, legacy_pad=2),
    of(f32(0, 3, 4, 4), f32(2, 3, 2, 2), f32(0, 2, 3, 3), kernel=2),
]
