import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

A, B = np.float32([1, 2, 3]), np.float32([2, 1.5, 1])
SIGNS = np.array([1, 1, -1], np.int32)


def test_margin_ranking():
    loss = run_operator("MarginRankingCriterion", A, B, SIGNS)
    np.testing.assert_array_equal(loss, [2, 0.5, 3])
    loss = run_operator("MarginRankingCriterion", A, B, SIGNS, margin=0.25)
    np.testing.assert_array_equal(loss, [1.25, 0, 2.25])
    da, db = run_operator("MarginRankingCriterionGradient", A, B, SIGNS, A, margin=0.25)
    np.testing.assert_array_equal(da, [-1, 0, 3])
    np.testing.assert_array_equal(db, -da)


def test_cosine_embedding():
    s = np.float32([0.75, -0.5, 0.75])
    loss = run_operator("CosineEmbeddingCriterion", s, SIGNS, margin=0.5)
    np.testing.assert_array_equal(loss, [0.25, 1.5, 0.25])
    assert run_operator("CosineEmbeddingCriterion", s, -SIGNS, margin=0.5)[1] == 0


def test_pairs_of_a_session():
    scores, grades = np.float32([0.5, -1, 2, 0]), np.float32([2, 1, 1, 2])
    pairs = [(0, 1), (0, 2), (3, 1), (3, 2)]
    each = [np.log1p(np.exp(scores[j] - scores[i])) for i, j in pairs]
    (loss,) = run_operator("PairWiseLoss", scores, grades)
    assert loss == pytest.approx(np.mean(each))
    lengths = np.array([2, 0, 1, 1], np.int32)
    losses = run_operator("PairWiseLoss", scores, grades, lengths)
    np.testing.assert_allclose(losses, [each[0], 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("name", ["MarginRankingCriterion", "CosineEmbeddingCriterion"])
def test_labels_are_signs_of_the_scores(name):
    scores = (A, B) if name.startswith("M") else (A,)
    with pytest.raises(TypeError, match=f"{name}: labels are integers, 1 or -1, not float32"):
        run_operator(name, *scores, A)
    with pytest.raises(ValueError, match=rf"{name}: labels are \(2,\), for scores"):
        run_operator(name, *scores, SIGNS[:2])


def test_pairs_errors():
    with pytest.raises(ValueError, match=r"labels are \(2,\), for scores \(3,\)"):
        run_operator("PairWiseLoss", A, B[:2])
    with pytest.raises(ValueError, match="lengths add up to 2"):
        run_operator("PairWiseLoss", A, B, SIGNS * 0 + np.int32([1, 1, 0]))
