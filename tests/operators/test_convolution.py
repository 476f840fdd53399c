import numpy as np
import pytest
from tests.operators.make import f32

from procession import Net
from procession.operators import REGISTRY
from procession.testing.gradcheck import run_operator

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(2, 4, 7, 6)).astype(np.float32)


def expected(x, w, stride, dilation, pads, group):
    """Convolution by its definition, one number after the other."""
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, width, height_k, width_k = w.shape
    rows = (x.shape[2] - (height_k - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (x.shape[3] - (width_k - 1) * dilation[1] - 1) // stride[1] + 1
    y = np.zeros((len(x), len(w), rows, columns))
    for n, m, row, column in np.ndindex(*y.shape):
        first = m // (len(w) // group) * width
        for c, i, j in np.ndindex(width, height_k, width_k):
            place = row * stride[0] + i * dilation[0], column * stride[1] + j * dilation[1]
            y[n, m, row, column] += x[(n, first + c, *place)] * w[m, c, i, j]
    return y


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pads", "group"),
    [
        ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1),
        ((3, 2), (2, 1), (1, 1), (1, 1, 1, 1), 1),
        ((2, 3), (1, 3), (2, 1), (0, 1, 2, 0), 2),
        ((2, 2), (1, 1), (1, 3), (0, 0, 0, 0), 4),
    ],
)
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_conv(kernel, stride, dilation, pads, group, order):
    w = RANDOM.normal(size=(4, 4 // group, *kernel)).astype(np.float32)
    b = RANDOM.normal(size=4).astype(np.float32)
    options = {"kernels": kernel, "strides": stride, "dilations": dilation, "pads": pads}
    last = order == "NHWC"
    given = [np.ascontiguousarray(np.moveaxis(each, 1, -1)) if last else each for each in (X, w)]
    y = run_operator("Conv", *given, b, group=group, order=order, **options)
    y = np.moveaxis(y, -1, 1) if last else y
    want = expected(X, w, stride, dilation, pads, group)
    np.testing.assert_allclose(y, want + b[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 4, 2, 2), {"kernel": 2, "order": "CHWN"}, "neither 'NCHW' nor 'NHWC'"),
        ((3, 4, 2, 2), {"kernel": 3}, r"are \(3, 4, 3, 3\), not \(3, 4, 2, 2\)"),
        ((3, 4, 2, 2), {}, "kernels of .* are not 2 numbers from 1 on"),
        ((3, 4, 2, 2), {"kernel": 2, "stride": 0}, "stride of .* are not 2 numbers from 1"),
        ((3, 4, 2, 2), {"kernel": 2, "stride_h": 2}, r"stride_h, stride_w of \(2, 0\)"),
        ((3, 4, 2, 2), {"kernel": 2, "kernels": [3, 3]}, "contradict each other"),
        ((3, 4, 2, 2), {"kernel": 2, "group": 3}, "not to be divided into 3 groups"),
        ((3, 4, 2, 2), {"kernel": 2, "group": 0}, "group=0 is not a number from 1 on"),
        ((3, 4, 8, 8), {"kernel": 8}, "are smaller than the kernel"),
        ((3, 4, 2), {"kernel": 2}, "have 4 dimensions, kernels .* 3"),
        ((3, 4, 2, 2), {"kernel": 2, "pads": [1, 1]}, "are not 4 numbers from 0 on"),
        ((3, 4, 2, 2), {"kernel": 2, "legacy_pad": 5}, "legacy_pad=5 is none of"),
        ((3, 4, 2, 2), {"kernel": 2, "legacy_pad": 1, "pad": 1}, "and so do pads"),
        ((3, 4, 2, 2), {"kernel": 2, "legacy_pad": 2, "dilation": 2}, "is without dilations"),
    ],
)
def test_conv_errors(shape, options, message):
    with pytest.raises(ValueError, match=message):
        run_operator("Conv", X, np.ones(shape, np.float32), **options)


def test_other_errors():
    w = np.ones((3, 4, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"the bias is \(2,\), for 3 kernels it is \(3,\)"):
        run_operator("Conv", X, w, np.ones(2, np.float32), kernel=2)
    with pytest.raises(TypeError, match="floating-point"):
        run_operator("Conv", X.astype(np.int32), w, kernel=2)
    with pytest.raises(ValueError, match="Conv1D is for images of 1 dimensions"):
        run_operator("Conv1D", X, w, kernel=2)
    with pytest.raises(ValueError, match="at least"):
        run_operator("Conv", X[0, 0], w, kernel=2)
    with pytest.raises(ValueError, match=r"the gradient of the result is \(2, 3, 6, 5\), not"):
        run_operator("ConvGradient", X, w, X, kernel=2)


def test_arguments_say_the_same_in_several_ways():
    w = RANDOM.normal(size=(3, 4, 3, 2)).astype(np.float32)
    want = run_operator(
        "Conv", X, w, kernels=[3, 2], strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]
    )
    same = run_operator(
        "Conv",
        X,
        w,
        kernel_h=3,
        kernel_w=2,
        stride_h=2,
        stride_w=1,
        pad_t=1,
        pad_b=2,
        pad_r=1,
        dilation_h=1,
        dilation_w=2,
    )
    np.testing.assert_array_equal(same, want)
    # What says the same twice contradicts nothing.
    square = RANDOM.normal(size=(3, 4, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        run_operator("Conv", X, square, kernel=2, kernels=[2, 2], kernel_h=2, kernel_w=2),
        run_operator("Conv", X, square, kernel=2, order=b"NCHW"),
    )


def test_result_may_not_be_written_over_what_is_still_read():
    x = RANDOM.normal(size=(2, 3, 5, 5)).astype(np.float32)
    w = RANDOM.normal(size=(3, 3, 3, 3)).astype(np.float32)
    want = run_operator("Conv", x, w, kernel=3, pad=1)
    y = REGISTRY["Conv"].kernel(x, w, kernel=3, pad=1, out=x)
    np.testing.assert_array_equal(y, want)


def test_dtypes_are_promoted():
    w = RANDOM.normal(size=(3, 4, 2, 2))
    assert run_operator("Conv", X, w, kernel=2).dtype == np.float64
    dw, db, dx = run_operator("ConvGradient", X, w, np.ones((2, 3, 6, 5), np.float32), kernel=2)
    assert {each.dtype for each in (dw, db, dx)} == {np.dtype(np.float64)}


@pytest.mark.parametrize("inputs", [2, 3])
@pytest.mark.parametrize("quiet", [0, 1])
def test_rules_ask_for_the_gradients_that_there_are(inputs, quiet):
    (rule,) = REGISTRY["Conv"].rules(inputs, {"kernel": 2, "no_gradient_to_input": quiet}, 1)
    wanted = {(2, 0): "GI1 GI0", (2, 1): "GI1", (3, 0): "GI1 GI2 GI0", (3, 1): "GI1 GI2"}
    assert rule.outputs == tuple(wanted[inputs, quiet].split())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_gradient_of_images_is_left_out_where_nobody_wants_it(operator, bias):
    size = 3 if operator == "Conv" else 5
    x, w, dy = f32(2, 3, 4, 4), f32(3, 3, 2, 2), f32(2, 3, size, size)
    given = {"kernel": 2} if bias else {"kernel": 2, "no_bias": 1}
    everything = run_operator(f"{operator}Gradient", x, w, dy, **given)
    kernel = REGISTRY[f"{operator}Gradient"].kernel
    fewer = kernel(x, w, dy, outs=(None,) * (1 + bias), **given)
    assert len(everything) == 2 + bias
    for one, other in zip(fewer, everything[:-1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_first_layer_of_a_net_has_no_gradient_of_its_images(operator):
    net = Net("net")
    y = getattr(net, operator)(["x", "w", "b"], kernel=2)
    net.AddGradientOperators([net.SumElements(y)], wanted=["w", "b"])
    last = net.Proto().op[-1]
    assert last.type == f"{operator}Gradient"
    assert len(last.output) == 2
