import numpy as np
import pytest

from procession.testing.gradcheck import run_operator

DATA = np.float32([[1, 200], [3, 100], [-2, 0]])
IDS = np.array([0, 0, 1], np.int32)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Sum", [[4, 300], [-2, 0]]),
        ("Mean", [[2, 150], [-2, 0]]),
        ("Max", [[3, 200], [-2, 0]]),
        ("LogSumExp", [[np.log(np.exp(1) + np.exp(3)), 200], [-2, 0]]),
        ("LogMeanExp", [[np.log((np.exp(1) + np.exp(3)) / 2), 200 - np.log(2)], [-2, 0]]),
    ],
)
def test_segments(kind, expected):
    y = run_operator(f"SortedSegmentRange{kind}", DATA, IDS)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    for wrong in ([0, 0, 2], [1, 1, 1], [1, 0, 0]):
        with pytest.raises(ValueError, match="sorted without gaps"):
            run_operator(f"SortedSegmentRange{kind}", DATA, np.array(wrong))
