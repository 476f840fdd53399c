"""Records losses and their gradients, with a Python that has Caffe2.

python -m tests.operators.record.loss
"""

import numpy as np
from tests.operators.recordings import RECORDED, Case, record, run

RNG = np.random.RandomState(29)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def shares(*shape):
    return RNG.uniform(0, 1, shape).astype(np.float32)


def labels(classes, *shape):
    return RNG.randint(0, classes, shape).astype(np.int32)


def ones(*shape):
    return RNG.choice([-1, 1], shape).astype(np.int32)


def distributions(*shape):
    raw = shares(*shape)
    return raw / raw.sum(axis=-1, keepdims=True)


def softmax(id, inputs, arguments, operator="SoftmaxWithLoss"):
    forward = Case(id, operator, inputs, arguments, 2)
    yield forward
    given = [*inputs, run(forward)[0], floats(1).reshape(())]
    yield Case(id + " gradient", operator + "Gradient", given, arguments)


def cases():
    x, label, weight = floats(5, 4), labels(4, 5), shares(5)
    yield from softmax("labels", [x, label], {})
    yield from softmax("a column of labels", [x, label.reshape(5, 1)], {"scale": 2.5})
    yield from softmax("weights", [x, label, weight], {})
    average = {"average_by_batch_size": 1}
    yield from softmax("weights of a batch", [x, label, weight], average)
    yield from softmax("distributions", [x, distributions(5, 4)], {"label_prob": 1})
    both = {"label_prob": 1, "scale": 0.5}
    yield from softmax("distributions and weights", [x, distributions(5, 4), weight], both)
    yield from softmax("inside", [floats(2, 3, 4), labels(4, 2, 3)], {"axis": 2})
    yield from softmax("all", [floats(2, 3, 2), labels(6, 2)], {})
    images, classes = floats(2, 3, 2, 4), labels(3, 2, 2, 4)
    classes[0, 1, :2] = -1
    spatial = "SpatialSoftmaxWithLoss"
    yield from softmax("pixels", [images, classes], {}, spatial)
    yield from softmax("pixels and weights", [images, classes, shares(2, 2, 4)], {}, spatial)
    yield from softmax("no pixels", [images, classes * 0 - 1], {}, spatial)

    logits, targets, dy = 3 * floats(4, 5), shares(4, 5), floats(4)
    logits[0, :2] = -40, 40
    for id, arguments in [
        ("joined", {}),
        ("trick", {"log_D_trick": True}),
        ("unjoined", {"unjoined_lr_loss": True}),
    ]:
        name = "SigmoidCrossEntropyWithLogits"
        yield Case(id, name, [logits, targets], arguments)
        yield Case(id + " gradient", name + "Gradient", [dy, logits, targets], arguments)
    yield Case("vector", name, [logits[1], targets[1]])
    yield Case("three", name, [logits.reshape(2, 2, 5), targets.reshape(2, 2, 5)])
    weights = shares(4, 5)
    yield Case("weighted", "Weighted" + name, [logits, targets, weights])
    given = [dy, logits, targets, weights]
    yield Case("weighted gradient", "Weighted" + name + "Gradient", given)

    a, b, sign, dl = floats(6), floats(6), ones(6), floats(6)
    for margin in (1.0, 0.25):
        arguments = {"margin": margin}
        id = f"margin {margin}"
        yield Case(id, "MarginRankingCriterion", [a, b, sign], arguments)
        given = [a, b, sign, dl]
        yield Case(id + " gradient", "MarginRankingCriterionGradient", given, arguments, 2)
        yield Case(id + " alike", "CosineEmbeddingCriterion", [a, sign], arguments)
        given = [a, sign, dl]
        yield Case(id + " alike gradient", "CosineEmbeddingCriterionGradient", given, arguments)
    grades, column = labels(3, 6).astype(np.float32), a.reshape(6, 1)
    lengths = np.array([2, 3, 1], np.int32)
    yield Case("pairs", "PairWiseLoss", [column, grades.reshape(6, 1)])
    yield Case("pairs of sessions", "PairWiseLoss", [column, grades.reshape(6, 1), lengths])
    given = [column, grades.reshape(6, 1), floats(1)]
    yield Case("pairs gradient", "PairWiseLossGradient", given)
    given = [*given[:2], floats(3), lengths]
    yield Case("pairs of sessions gradient", "PairWiseLossGradient", given)

    chances = [shares(3, 4), shares(3, 4)]
    yield Case("chances", "BernoulliJSD", chances)
    yield Case("chances gradient", "BernoulliJSDGradient", [floats(3, 4), *chances])
    p = distributions(5, 4)
    yield Case("label cross entropy", "LabelCrossEntropy", [p, label])
    yield Case("its gradient", "LabelCrossEntropyGradient", [p, label, floats(5)])
    yield Case("cross entropy", "CrossEntropy", [p, distributions(5, 4)])
    given = [p, distributions(5, 4), floats(5)]
    yield Case("cross entropy gradient", "CrossEntropyGradient", given)
    yield Case("accuracy", "Accuracy", [p, label])
    yield Case("accuracy of two", "Accuracy", [p, label], {"top_k": 2})
    yield Case("accuracies", "MultiClassAccuracy", [p, label], {}, 2)
    yield Case("perplexity", "Perplexity", [shares(5)])
    yield Case("two classes", "MakeTwoClass", [shares(3, 2)])


if __name__ == "__main__":
    record(RECORDED / "loss.npz", cases())
