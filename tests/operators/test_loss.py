import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

P = np.float32([[0.1, 0.9], [0.8, 0.2], [0, 1]])
LABELS = np.array([0, 1, 0])
SOFTMAX = np.float32([[0.3100255, 0.6899745], [0.6456563, 0.3543437], [0.2689414, 0.7310586]])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_label_cross_entropy(dtype, shape):
    y = run_operator("LabelCrossEntropy", P, LABELS.astype(dtype).reshape(shape))
    assert (y.dtype, y.shape) == (np.float32, (3,))
    np.testing.assert_allclose(y, [2.3025851, 1.6094379, 46.0517006], rtol=1e-6)


def test_label_cross_entropy_gradient_is_sparse():
    dx = run_operator("LabelCrossEntropyGradient", P, LABELS, np.ones(3, np.float32))
    np.testing.assert_allclose(dx, [[-10, 0], [0, -5], [-1e20, 0]], rtol=1e-6)


def test_no_rows():
    none = np.zeros((0, 2), np.float32)
    labels = np.zeros(0, np.int32)
    assert run_operator("LabelCrossEntropy", none, labels).shape == (0,)
    assert run_operator("CrossEntropy", none, none).shape == (0,)
    assert run_operator("Accuracy", none, labels) == 0
    softmax, loss = run_operator("SoftmaxWithLoss", none, labels)
    assert softmax.shape == (0, 2)
    assert loss == 0


@pytest.mark.parametrize("name", ["LabelCrossEntropy", "SoftmaxWithLoss", "Accuracy"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("labels", "message"), [
    ([0, 2, 0], r"label 2 at 1 is not in \[0, 2\)"),
    ([0, 1, -1], r"label -1 at 2 is not in \[0, 2\)"),
])  # fmt: skip
def test_labels_out_of_range(name, dtype, labels, message):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        run_operator(name, P, np.array(labels, dtype))


@pytest.mark.parametrize("name", ["LabelCrossEntropy", "SoftmaxWithLoss", "Accuracy"])
@pytest.mark.parametrize("shape", [(2,), (1, 3), (3, 2), ()])
def test_labels_of_another_shape(name, shape):
    with pytest.raises(ValueError, match=r"the predictions ask for \(3,\) or \(3, 1\)"):
        run_operator(name, P, np.zeros(shape, np.int32))


@pytest.mark.parametrize("name", ["LabelCrossEntropy", "SoftmaxWithLoss", "Accuracy"])
def test_labels_are_integers(name):
    with pytest.raises(TypeError, match=f"{name}: labels are integers, not float32"):
        run_operator(name, P, np.zeros(3, np.float32))


def test_cross_entropy():
    y = run_operator("CrossEntropy", P, P)
    expected = [0.32508299, 0.50040238, 0]
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"labels are \(3, 1\), X is \(3, 2\)"):
        run_operator("CrossEntropy", P, P[:, :1])


@pytest.mark.parametrize(
    ("inputs", "arguments", "expected"),
    [
        ((LABELS,), {}, 1.1739501),
        ((LABELS.reshape(3, 1),), {}, 1.1739501),
        ((LABELS,), {"scale": 2.0}, 2.3479002),
        ((LABELS, np.float32([1, 2, 3])), {}, 1.1976436),
        ((LABELS, np.float32([0, 0, 0])), {}, 0),
        ((P,), {"label_prob": 1}, 0.4406168),
        ((P, np.float32([1, 2, 3])), {"label_prob": 1}, 0.4176436),
    ],
)
def test_softmax_with_loss(inputs, arguments, expected):
    softmax, loss = run_operator("SoftmaxWithLoss", P, *inputs, **arguments)
    np.testing.assert_allclose(softmax, SOFTMAX, rtol=1e-6)
    assert (loss.dtype, loss.shape) == (np.float32, ())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_softmax_with_loss_of_large_numbers():
    x = np.float32([[0, 200]])
    for label, arguments in ((np.array([0]), {}), (np.float32([[1, 0]]), {"label_prob": 1})):
        softmax, loss = run_operator("SoftmaxWithLoss", x, label, **arguments)
        np.testing.assert_array_equal(softmax, [[0, 1]])
        assert loss == 200


def test_softmax_with_loss_axis():
    x = np.zeros((2, 3, 2), np.float32)
    _, loss = run_operator("SoftmaxWithLoss", x, np.zeros((2, 3), np.int32), axis=2)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    softmax, loss = run_operator("SoftmaxWithLoss", x, np.zeros(2, np.int32))
    assert softmax.shape == (2, 3, 2)
    np.testing.assert_allclose(loss, np.log(6), rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "arguments", "message"),
    [
        ((LABELS,), {"scale": -1.0}, "scale=-1.0 is negative"),
        ((LABELS, np.ones(2, np.float32)), {}, r"weights are \(2,\), for 3 rows"),
        ((P / 2,), {"label_prob": 1}, "sum to 0.5, not to 1"),
        ((P[:, :1],), {"label_prob": 1}, r"labels are \(3, 1\), X is \(3, 2\)"),
        ((LABELS,), {"axis": 2}, r"X \(3, 2\) has no axis 2"),
    ],
)
def test_softmax_with_loss_errors(inputs, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_operator("SoftmaxWithLoss", P, *inputs, **arguments)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_softmax_with_loss_gradient(shape):
    one, weights = np.ones(shape, np.float32), np.float32([1, 2, 3])
    dx = run_operator("SoftmaxWithLossGradient", P, LABELS, P, one)
    np.testing.assert_allclose(dx * 3, [[-0.9, 0.9], [0.8, -0.8], [-1, 1]], rtol=1e-6)
    dx = run_operator("SoftmaxWithLossGradient", P, LABELS, weights, P, one)
    np.testing.assert_allclose(dx * 6, [[-0.9, 0.9], [1.6, -1.6], [-3, 3]], rtol=1e-6)
    dx = run_operator("SoftmaxWithLossGradient", P, LABELS, weights * 0, P, one)
    np.testing.assert_array_equal(dx, np.zeros((3, 2)))


@pytest.mark.parametrize(("top_k", "expected"), [(1, 0), (2, 1), (3, 1)])
def test_accuracy(top_k, expected):
    share = run_operator("Accuracy", P, LABELS, top_k=top_k)
    assert (share.dtype, share.shape) == (np.float32, ())
    assert share == expected


def test_accuracy_of_equal_predictions_prefers_the_first():
    x = np.full((3, 3), 0.5, np.float32)
    labels = np.array([0, 1, 2])
    assert run_operator("Accuracy", x, labels) == pytest.approx(1 / 3)
    assert run_operator("Accuracy", x, labels, top_k=2) == pytest.approx(2 / 3)


def test_two_classes():
    y = run_operator("MakeTwoClass", np.float32([[0.25, 0.5]]))
    assert y.tolist() == [[[0.75, 0.25], [0.5, 0.5]]]
    with pytest.raises(ValueError, match="last dimension must be 2"):
        run_operator("MakeTwoClassGradient", np.ones(3, np.float32))


def test_weights_averaged_by_batch_size():
    weights = np.float32([1, 2, 3])
    _, mean = run_operator("SoftmaxWithLoss", P, LABELS, weights)
    _, loss = run_operator("SoftmaxWithLoss", P, LABELS, weights, average_by_batch_size=True)
    assert loss == pytest.approx(2 * mean)
    with pytest.raises(ValueError, match="order='NHWC', and there is none but 'NCHW'"):
        run_operator("SoftmaxWithLoss", P, LABELS, order="NHWC")


def test_accuracy_of_each_class():
    x = np.float32([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    shares, amounts = run_operator("MultiClassAccuracy", x, np.array([0, 1, 1]))
    assert (shares.dtype, amounts.dtype) == (np.float32, np.int32)
    assert (shares.tolist(), amounts.tolist()) == ([1, 0.5, 0], [1, 2, 0])


def test_perplexity():
    assert run_operator("Perplexity", np.float32([0.25, 0.25])) == pytest.approx(4)
    with pytest.raises(ValueError, match=r"X is \(3, 2\), and should be \(N,\)"):
        run_operator("Perplexity", P)
